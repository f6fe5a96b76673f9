"""The texts of this example, made by rule: python make_data.py writes them again, byte for byte.

A town that does not exist has rules about everything. Articles state them (pre-training, infilling), chapters put many articles
behind one another (long context), and a clerk answers questions about them (instructions).
"""

import json
import random
from pathlib import Path

PLACES = [
    "harbour",
    "market",
    "north bridge",
    "old mill",
    "tram depot",
    "town square",
    "lighthouse",
    "river park",
    "quarry",
    "fish hall",
]
KEEPERS = ["the warden", "the clerk", "the harbour master", "the gardener", "the night watch"]
ACTS = ["carts", "boats", "kites", "lanterns", "bicycles", "drums", "horses", "ladders"]
OTHERS = ["barrels", "goats", "nets", "stoves", "banners", "wagons"]
DAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]


def article(number: int, place: str, act: str, draw: random.Random) -> tuple[str, dict[str, str]]:
    """One article of the town's rules, and what it says."""
    facts = {"day": draw.choice(DAYS), "keeper": draw.choice(KEEPERS), "fee": str(draw.randrange(2, 30))}
    text = (
        f"Article {number}. Of {act} at the {place}. No one shall keep {act} at the {place} without leave of {facts['keeper']}. "
        f"Leave is given on {facts['day']}, for a fee of {facts['fee']} coins. Who keeps {act} without leave pays twice the fee, "
        f"and {facts['keeper']} may take the {act} away until it is paid."
    )
    return text, facts


def main() -> None:
    """Write articles.jsonl, chapters.jsonl and clerk.jsonl."""
    draw = random.Random(0)
    pairs = [(place, act) for place in PLACES for act in ACTS]
    draw.shuffle(pairs)
    made = [(place, act, *article(number, place, act, draw)) for number, (place, act) in enumerate(pairs, start=1)]
    articles = [{"text": text} for _, _, text, _ in made]
    chapters = []
    for number in range(40):
        chosen = [
            (
                place,
                act,
                *article(1 + i, place, act, draw),
            )  # of other things: no chapter repeats an article to be tested on
            for i, (place, act) in enumerate(draw.sample([(place, act) for place in PLACES for act in OTHERS], 18))
        ]
        chapters.append(
            {
                "text": f"Chapter {number + 1} of the rules of the town.\n\n"
                + "\n\n".join(text for _, _, text, _ in chosen)
            }
        )
    clerk = []
    for place, act, _, facts in made:
        clerk.append(
            {
                "question": f"Who gives leave for {act} at the {place}?",
                "answer": f"Leave is given by {facts['keeper']}.",
            }
        )
        clerk.append(
            {
                "question": f"On which day is leave given for {act} at the {place}?",
                "answer": f"Leave is given on {facts['day']}.",
            }
        )
        clerk.append(
            {"question": f"What is the fee for {act} at the {place}?", "answer": f"The fee is {facts['fee']} coins."}
        )
    for name, rows in (("articles", articles), ("chapters", chapters), ("clerk", clerk)):
        lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
        Path(__file__).with_name(f"{name}.jsonl").write_text("".join(lines), encoding="utf-8")


if __name__ == "__main__":
    main()
