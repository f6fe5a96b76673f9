"""Preference pairs, rated and scored answers, prompts alone: as published sets write them."""

from collections import Counter

import pytest

from tunesmith.core.errors import DataError
from tunesmith.data.shapes import BadRow, canonical, recognise, templates


def said(role, content, **more):
    return {"role": role, "content": content, **more}


def made(record, **settings):
    shape = recognise(list(record), where="a:1", sample=[record], **settings)
    return shape, canonical(record, shape)


PROMPT = [said("user", "Why?")]
SO, NO = [said("assistant", "So.")], [said("assistant", "No.")]


@pytest.mark.parametrize(
    "record",
    [
        {"prompt": "Why?", "chosen": "So.", "rejected": "No."},
        {"question": "Why?", "chosen": SO, "rejected": NO},
        {"prompt": PROMPT, "chosen": SO, "rejected": NO},
        {"prompt": "Why?", "chosen": PROMPT + SO, "rejected": PROMPT + NO},
        {"chosen": PROMPT + SO, "rejected": PROMPT + NO},
        {"chosen": "\n\nHuman: Why?\n\nAssistant: So.", "rejected": "\n\nHuman: Why?\n\nAssistant: No."},
        {"conversations": [{"from": "human", "value": "Why?"}], "chosen": {"from": "gpt", "value": "So."},
         "rejected": {"from": "gpt", "value": "No."}},
        {"프롬프트": "Why?", "선호": "So.", "비선호": "No."},
    ],
)  # fmt: skip
def test_pairs_in_every_form_come_to_the_same_row(record):
    shape, row = made(record)
    assert shape.kind == "preference" and row == {"messages": PROMPT, "chosen": SO, "rejected": NO}
    assert ">" in str(shape)


def test_a_pair_of_an_instruction_with_its_input_and_margin():
    record = {
        "instruction": "Fix.",
        "input": "teh",
        "output": "the",
        "chosen": "the",
        "rejected": "stupid: the",
        "margin": "2",
    }
    shape, row = made(record)
    assert str(shape) == "preference (instruction + input -> chosen > rejected)"
    assert row["messages"] == [said("user", "Fix.\n\nteh")] and row["margin"] == 2.0
    assert row["columns"] == {"output": "the"}
    # the same file for a method that learns from conversations, or when the user says which column is the answer
    assert made(record, kinds=("chat",))[1]["messages"] == [said("user", "Fix.\n\nteh"), said("assistant", "the")]
    assert made(record, named={"answer": "chosen"})[1]["messages"][-1] == said("assistant", "the")
    assert made(record, kinds=("preference", "chat"))[0].kind == "preference"
    assert made(record, shape="instruction")[0].kind == "chat"


def test_conversations_are_a_pair_only_when_the_columns_say_so():
    record = {"instruction": "Fix.", "output": "the", "bad": "teh"}
    assert made(record, kinds=("preference",))[0].kind == "chat"  # the method will refuse it
    _, row = made(record, named={"chosen": "output", "rejected": "bad"})
    assert row == {
        "messages": [said("user", "Fix.")],
        "chosen": [said("assistant", "the")],
        "rejected": [said("assistant", "teh")],
    }


def test_templates_make_the_prompt_of_a_pair():
    record = {"topic": "rain", "chosen": "So.", "rejected": "No."}
    _, row = made(record, templates=templates(prompt="On {{ topic }}:", system="Be kind."))
    assert row["messages"] == [said("system", "Be kind."), said("user", "On rain:")]


def human(*turns):
    return "".join(f"\n\n{'Assistant' if i % 2 else 'Human'}: {turn}" for i, turn in enumerate(turns))


def test_dialogues_are_cut_at_the_first_answer_that_differs():
    _, row = made({"chosen": human("a", "b", "c", "d"), "rejected": human("a", "b", "c", "e")})
    assert row["messages"] == [said("user", "a"), said("assistant", "b", train=False), said("user", "c")]
    assert (row["chosen"], row["rejected"]) == ([said("assistant", "d")], [said("assistant", "e")])
    # one goes on longer, or the question after a common answer differs: both rests begin with an answer
    _, row = made({"chosen": human("a", "b"), "rejected": human("a", "b", "c", "d")})
    assert [len(row[part]) for part in ("messages", "chosen", "rejected")] == [1, 1, 3]
    _, row = made({"chosen": human("a", "b", "c", "d"), "rejected": human("a", "b", "x", "d")})
    assert [len(row[part]) for part in ("messages", "chosen", "rejected")] == [1, 3, 3]


def test_turns_of_one_speaker_in_a_row_are_joined_and_counted():
    notes = Counter()
    record = {
        "chosen": "\n\nHuman: a\n\nHuman: b\n\nAssistant: c",
        "rejected": "\n\nHuman: a\n\nHuman: b\n\nAssistant: d",
    }
    row = canonical(record, recognise(list(record), where="a:1"), notes=notes)
    assert row["messages"] == [said("user", "a\n\nb")] and notes["turns of one speaker in a row joined"] == 2


def test_a_prompt_column_beside_whole_dialogues():
    notes = Counter()
    record = {"prompt": "Something else", "system": "S", "chosen": PROMPT + SO, "rejected": PROMPT + NO}
    row = canonical(record, recognise(list(record), where="a:1"), notes=notes)
    assert row["messages"] == [said("system", "S"), *PROMPT] and len(notes) == 1


@pytest.mark.parametrize(
    ("record", "reason", "detail"),
    [
        ({"chosen": "a", "rejected": "b"}, "no prompt", "chosen: no column holds the prompt"),
        ({"prompt": "p", "chosen": "a", "rejected": "a "}, "chosen equals rejected", "chosen and rejected are the same"),
        ({"prompt": "p", "chosen": " ", "rejected": "a"}, "empty answer", "chosen: empty"),
        ({"prompt": "p", "chosen": "a", "rejected": None}, "empty answer", "rejected: empty"),
        ({"prompt": "p", "chosen": "a", "rejected": 3}, "wrong type", "rejected: expected text, got a number 3"),
        ({"prompt": "p", "chosen": PROMPT, "rejected": NO}, "no answer", "chosen: no message of the assistant"),
        ({"prompt": "p", "chosen": PROMPT + SO, "rejected": NO}, "prompt on one side only", "chosen: repeats its prompt"),
        ({"chosen": human("a", "b"), "rejected": human("x", "b")}, "no common prompt", "same turns"),
        ({"chosen": human("a", ""), "rejected": human("a", "b")}, "empty answer", "chosen: turn 2 is empty"),
        ({"prompt": "p", "chosen": "a", "rejected": "b", "margin": "wide"}, "wrong type", "margin: expected a number"),
        ({"prompt": "p", "chosen": "a"}, "missing field", 'has no "rejected"'),
    ],
)  # fmt: skip
def test_pairs_that_cannot_be_used(record, reason, detail):
    shape = recognise([*record, *({"chosen", "rejected"} - record.keys())], where="a:1")
    with pytest.raises(BadRow, match=detail) as caught:
        canonical(record, shape)
    assert caught.value.reason == reason


@pytest.mark.parametrize(
    "record",
    [
        {"prompt": "Why?", "completion": "So.", "label": True},
        {"prompt": PROMPT, "completion": SO, "label": True},
        {"messages": PROMPT + SO, "label": True},
        {"question": "Why?", "answer": "So.", "label": "True"},
    ],
)
def test_rated_answers(record):
    shape, row = made(record)
    assert shape.kind == "rated" and row == {"messages": PROMPT + SO, "label": True}


def test_labels_that_may_be_classes_are_ratings_only_when_asked():
    record = {"prompt": "Why?", "completion": "So.", "label": 0}
    assert made(record)[0].kind == "chat"
    assert made(record, shape="rated")[1]["label"] is False
    with pytest.raises(BadRow, match="label: expected true or false, got a number 2"):
        made({**record, "label": 2}, shape="rated")
    with pytest.raises(BadRow, match="do not end with an answer"):
        made({"messages": PROMPT, "label": True})


@pytest.mark.parametrize(
    "record",
    [
        {"prompt": "Why?", "responses": ["So.", "No."], "scores": [1, 0.5]},
        {"instruction": "Why?", "completions": [{"response": "So.", "overall_score": 1.0}, {"response": "No.", "overall_score": "0.5"}]},
        {"prompt": PROMPT, "answers": [{"content": "So.", "score": 1}, {"content": "No.", "score": 0.5}]},
    ],
)  # fmt: skip
def test_scored_answers(record):
    shape, row = made(record)
    assert shape.kind == "scored"
    assert row == {"messages": PROMPT, "answers": [{"content": "So.", "score": 1.0}, {"content": "No.", "score": 0.5}]}


@pytest.mark.parametrize(
    ("change", "detail"),
    [
        ({"scores": [1]}, "scores: expected a list of 2 numbers"),
        ({"responses": []}, "responses: an empty list"),
        ({"responses": ["a", " "]}, r"responses\[1\]: empty"),
        ({"scores": [1, "high"]}, "expected a number"),
        ({"responses": ["a", 3]}, r"responses\[1\]: expected an answer"),
    ],
)
def test_scored_answers_that_cannot_be_used(change, detail):
    with pytest.raises(BadRow, match=detail):
        made({"prompt": "Why?", "responses": ["So.", "No."], "scores": [1, 0.5], **change})


def test_prompts_alone():
    assert made({"prompt": "Why?", "id": 3})[1] == {"messages": PROMPT, "columns": {"id": 3}}
    assert made({"question": "Why?", "answer": "So."}, shape="prompts")[1] == {"messages": PROMPT, "answer": "So."}
    assert made({"question": "Why?", "answer": 4}, shape="prompts")[1]["answer"] == "4"
    assert made({"messages": PROMPT + SO}, shape="prompts")[1] == {"messages": PROMPT, "answer": "So."}
    turns = [*PROMPT, *SO, said("user", "And?")]
    assert made({"messages": turns}, shape="prompts")[1]["messages"][1]["train"] is False
    # a column that may hold the answer is asked for, unless the method wants prompts
    with pytest.raises(DataError, match='has no "completion"(.|\n)*data.shape: prompts'):
        made({"prompt": "Why?", "reply": "So."})
    assert made({"prompt": "Why?", "reply": "So."}, kinds=("prompt", "chat"))[0].kind == "prompt"
    assert made({"prompt": "Why?", "completion": "So."}, kinds=("prompt",))[0].kind == "chat"
