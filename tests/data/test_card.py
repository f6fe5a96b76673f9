import json
import random

import pytest

from tunesmith.data.card import Card


def chat(prompt, answer, **more):
    return {"messages": [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}], **more}


def filled(rows):
    card = Card()
    for row in rows:
        card.add(row)
    return card


def test_conversations():
    rows = [chat("가" * n, "yes, you are", tools=[{}]) for n in range(1, 101)]
    card = filled(rows).as_dict()
    assert card["rows"] == 100 and card["kind"] == "chat"
    assert card["characters"]["prompt"] == {"least": 1, "median": 50, "p95": 95, "most": 100, "all": 5050}
    assert card["characters"]["answer"]["most"] == 12
    assert card["bytes"] == 3 * 5050 + 100 * len("\nyes, you are")
    assert card["answers_per_row"] == 1 and card["rows_with_tools"] == 100 and card["rows_with_system"] == 0
    assert card["answers"] == {"different": 1, "most": {"yes, you are": 100}, "largest_share": 1.0, "smallest": 100}
    assert sum(card["languages"].values()) == pytest.approx(1)
    json.dumps(card, allow_nan=False)


def test_labels_and_languages():
    texts = ["좋아요", "싫어요", "good one", "¡qué!"]
    rows = [{"text": text, "label": i % 4 > 1} for i, text in enumerate(texts * 5)]
    card = filled(random.Random(0).sample(rows, len(rows))).as_dict()
    assert card["labels"]["different"] == 2 and card["labels"]["most"] == {"False": 10, "True": 10}
    assert card["languages"] == {"korean": 0.5, "english": 0.25, "other": 0.25}
    assert "answer" not in card["characters"]


def test_answers_that_all_differ_are_not_labels():
    assert "answers" not in filled(chat("q", f"answer {i}") for i in range(3000)).as_dict()


def test_prompts_in_two_splits():
    train, test = filled([chat("a", "1"), chat("b", "2")]), filled([chat("A ", "3"), chat("c", "4"), chat("b", "2")])
    assert test.prompts_shared_with(train) == 2 and train.prompts_shared_with(Card()) == 0


def test_lost_characters_and_no_rows():
    assert filled([{"text": "a\ufffdb"}, {"text": "c"}]).as_dict()["rows_with_lost_characters"] == 1
    assert Card().as_dict()["characters"]["text"]["most"] == 0
