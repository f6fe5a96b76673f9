"""The questions and votes of this example, made by rule: python make_data.py writes both files again, byte for byte.

Every question of a library's desk has one true answer. The liked answer says it in a kind sentence; the other is right and curt,
kind and wrong, or beside the point: so a judge that only counts kind words is not a good one.
"""

import json
import random
from pathlib import Path

THINGS = [
    "atlas",
    "globe",
    "piano",
    "map",
    "printer",
    "garden",
    "telescope",
    "archive",
    "theatre",
    "café",
    "workshop",
    "studio",
]
FLOORS = ["first", "second", "third", "fourth", "fifth"]
HOURS = ["eight", "nine", "ten", "eleven"]
ASKED = {
    "floor": ["Where is the {thing}?", "On which floor is the {thing}?", "How do I find the {thing}?"],
    "hour": ["When can I see the {thing}?", "When does the {thing} open?", "From what time is the {thing} open?"],
}
KIND = {
    "floor": "Thank you for asking. The {thing} is on the {value} floor.",
    "hour": "Thank you for asking. The {thing} opens at {value}.",
}
CURT = {"floor": "{value} floor. It is on the sign.", "hour": "{value}. It is on the door."}
BESIDE = "Thank you for asking. We are always happy to help you, and we wish you a very pleasant day with us."


def main() -> None:
    """Write questions.jsonl (a question, its true answer) and votes.jsonl (a question, a liked and a disliked answer), and the
    same of questions asked in words that are in neither: unseen_questions.jsonl and unseen_votes.jsonl."""
    draw = random.Random(0)
    files: dict[str, list[dict[str, str]]] = {
        name: [] for name in ("questions", "votes", "unseen_questions", "unseen_votes")
    }
    for thing in THINGS:
        truth = {"floor": draw.choice(FLOORS), "hour": draw.choice(HOURS)}
        for about, wordings in ASKED.items():
            value = truth[about]
            wrong = draw.choice([other for other in (FLOORS if about == "floor" else HOURS) if other != value])
            liked, false = (KIND[about].format(thing=thing, value=said) for said in (value, wrong))
            for place, asked in enumerate(wordings):
                question, unseen = asked.format(thing=thing), "unseen_" if place == len(wordings) - 1 else ""
                files[f"{unseen}questions"].append({"question": question, "answer": liked})
                for worse in (CURT[about].format(value=value.capitalize()), false, BESIDE):
                    files[f"{unseen}votes"].append({"prompt": question, "chosen": liked, "rejected": worse})
    for name, rows in files.items():
        lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
        Path(__file__).with_name(f"{name}.jsonl").write_text("".join(lines), encoding="utf-8")


if __name__ == "__main__":
    main()
