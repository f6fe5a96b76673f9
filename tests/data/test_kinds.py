import pytest

from tunesmith.core.errors import DataError
from tunesmith.data.fitting import fits, refusal
from tunesmith.data.hashes import content_hash
from tunesmith.data.kinds import KINDS, kind_of, mapped, pieces, split_by
from tunesmith.data.steps import said

ASK = [{"role": "user", "content": "Why?"}]


def answer(content, **more):
    return {"role": "assistant", "content": content, **more}


ROWS = {
    "chat": {"messages": [*ASK, answer("So.")]},
    "text": {"text": "a"},
    "text+label": {"text": "a", "text2": "b", "label": 1},
    "preference": {"messages": ASK, "chosen": [answer("So.")], "rejected": [answer("No.")]},
    "rated": {"messages": [*ASK, answer("So.")], "label": False},
    "scored": {"messages": ASK, "answers": [{"content": "So.", "score": 1.0}, {"content": "No.", "score": 0.0}]},
    "prompt": {"messages": ASK, "answer": "So."},
    "infill": {"prefix": "a", "middle": "b", "suffix": "c"},
    "pair": {"text": "a", "text2": "b", "negatives": ["c"]},
    "group": {"texts": ["a", "b"]},
}


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_is_told_by_its_row_and_by_nothing_else(kind):
    row = ROWS[kind]
    assert kind_of(row) == kind
    assert said(row) == "\n".join(piece.text for piece in pieces(row)) and said(row)
    changed = mapped(row, str.upper)
    assert [piece.text for piece in pieces(changed)] == [piece.text.upper() for piece in pieces(row)]
    assert content_hash(changed) == content_hash(row)  # case is folded
    assert content_hash(mapped(row, lambda text: text + "x")) != content_hash(row)
    assert fits(kind, kind) and fits(kind, ())


def test_a_dialogue_that_ends_with_a_question_is_still_a_conversation_and_a_read_only_one_is_a_prompt():
    assert kind_of({"messages": [*ASK, answer("So."), *ASK]}) == "chat"
    assert kind_of({"messages": [*ASK, answer("So.", train=False), *ASK]}) == "prompt"


def test_answers_to_one_prompt_share_the_hash_that_the_split_goes_by():
    pair = ROWS["preference"]
    other = {**pair, "chosen": [answer("Perhaps.")]}
    swapped = {**pair, "chosen": pair["rejected"], "rejected": pair["chosen"]}
    assert split_by(pair) == "prompt"
    assert content_hash(pair, "prompt") == content_hash(other, "prompt") == content_hash(ROWS["scored"], "prompt")
    assert len({content_hash(row) for row in (pair, other, swapped)}) == 3
    assert content_hash(ROWS["rated"], "prompt") == content_hash(pair, "prompt")
    assert content_hash(ROWS["rated"]) != content_hash({**ROWS["rated"], "label": True})
    assert split_by(ROWS["chat"]) == split_by(ROWS["pair"]) == "all"


def test_what_a_row_says_by_part():
    assert said(ROWS["preference"], "answer") == "So.\nNo." and said(ROWS["preference"], "prompt") == "Why?"
    assert said(ROWS["infill"], "prompt") == "a\nc" and said(ROWS["infill"], "answer") == "b"
    assert said(ROWS["group"], "prompt") == "a\nb"


def test_methods_take_kinds_that_hold_what_they_need():
    assert fits("chat", ("prompt",)) and fits("preference", "prompt") and fits("text", ("infill",))
    assert not fits("preference", "chat") and not fits("chat", ("preference", "rated"))


@pytest.mark.parametrize("found", KINDS)
@pytest.mark.parametrize("wanted", KINDS)
def test_every_refusal_names_the_row_what_it_is_what_is_wanted_and_a_fix(found, wanted):
    if fits(found, wanted):
        return
    error = refusal((wanted,), found, "faq.jsonl:7", {"text": "review", "label": "stars"})
    assert isinstance(error, DataError) and "{" + "{{" not in error.fix
    assert error.found.startswith(f"faq.jsonl:7: the rows are {KINDS[found]}; this method learns from {KINDS[wanted]}")
    assert "data." in error.fix


def test_a_refusal_uses_the_names_of_the_columns():
    error = refusal("chat", "text+label", "a.csv:2", {"text": "review", "label": "stars"})
    assert "data.prompt='{{ review }}' data.answer='{{ stars }}'" in error.fix
