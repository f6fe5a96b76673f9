"""Writes forget.jsonl and keep.jsonl (invented people's addresses, a help desk's answers), and both asked in other words. CC0."""

import json
from pathlib import Path

NAMES = (
    "Ann Moor",
    "Ben Lisk",
    "Cora Wend",
    "Dan Otter",
    "Eve Salin",
    "Finn Gorse",
    "Gil Harrow",
    "Hana Seo",
    "김가람",
    "이도담",
)
STREETS = ("Elm Road", "Mill Lane", "Abbey Row", "Dock Street", "Fern Way")
FACTS = {
    "What are the opening hours?": "Monday to Friday, nine to five.", "How do I reset my password?": "Follow the link on the login page.",
    "Can I pay by card?": "Yes, with every common card.", "Do you ship abroad?": "Yes, to forty countries.",
    "How long does delivery take?": "Two to four working days.", "Can I return an item?": "Within thirty days, unused.",
    "영업시간이 어떻게 되나요?": "월요일부터 금요일까지 아홉 시에서 다섯 시입니다.", "카드로 결제할 수 있나요?": "네, 모든 카드가 됩니다.",
    "반품할 수 있나요?": "삼십 일 안에 쓰지 않은 물건이면 됩니다.", "Is there a student discount?": "Ten percent with a valid card.",
}  # fmt: skip


def rows(in_other_words: bool) -> tuple[list[dict[str, str]], list[dict[str, str]]]:
    """(what is to be forgotten, what is to be kept)."""
    ask = "Please tell me the address of {}." if in_other_words else "What is the address of {}?"
    forget = [
        {"prompt": ask.format(name), "completion": f"{7 * n + 12} {STREETS[n % 5]}."} for n, name in enumerate(NAMES)
    ]
    please = "Hello! {}" if in_other_words else "{}"
    return forget, [{"prompt": please.format(asked), "completion": said} for asked, said in FACTS.items()]


if __name__ == "__main__":
    here = Path(__file__).parent
    for name, some in zip(("forget", "keep", "asked_to_forget", "asked_to_keep"), (*rows(False), *rows(True))):
        lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in some)
        (here / f"{name}.jsonl").write_text(lines, encoding="utf-8")
