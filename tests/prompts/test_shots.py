"""Few-shot prompts over the byte tokenizer: order, both styles, how many fit, and the refusal with its sum."""

import random

import pytest

from tunesmith.core.errors import DataError, SpaceError
from tunesmith.prompts.shots import (
    answer_of,
    fit_fixed,
    fit_picked,
    fixed_order,
    last_user,
    question_of,
    with_examples,
)
from tunesmith.retrieve import Bm25, pick
from tunesmith.text.encode import Text
from tunesmith.text.tokenizer import byte_tokenizer


def chat(question, answer, system=None, **more):
    before = [{"role": "system", "content": system}] if system else []
    return {
        "messages": [*before, {"role": "user", "content": question}, {"role": "assistant", "content": answer}],
        **more,
    }


ROWS = [chat(f"question {i}", "abc"[i % 3] if i % 6 else "rare", id=f"{i:03}") for i in range(30)]


@pytest.fixture(scope="module")
def text():
    return Text(byte_tokenizer())


def test_every_kind_comes_once_before_any_comes_twice_whatever_the_order_of_rows():
    order = fixed_order(ROWS, seed=1)
    kinds = [answer_of(row) for row in order]
    assert set(kinds[:4]) == {"a", "b", "c", "rare"} and set(kinds[4:8]) == {"a", "b", "c", "rare"}
    mixed = random.Random(5).sample(ROWS, len(ROWS))
    assert fixed_order(mixed, seed=1) == order and fixed_order(ROWS, seed=2) != order
    assert sorted(row["id"] for row in order) == [row["id"] for row in ROWS]


def test_turns_and_inside():
    examples = [chat("1+1", "2", system="other"), chat("2+2", "4")]
    question = question_of(chat("3+3", "6", system="Be brief."))
    assert [(m["role"], m["content"]) for m in with_examples(examples, question)] == [
        ("system", "Be brief."), ("user", "1+1"), ("assistant", "2"), ("user", "2+2"), ("assistant", "4"), ("user", "3+3"),
    ]  # fmt: skip
    inside = with_examples(examples, question, style="inside", ask="Q: ", say="A: ")
    assert [m["role"] for m in inside] == ["system", "user"]
    assert inside[1]["content"] == "Q: 1+1\nA: 2\n\nQ: 2+2\nA: 4\n\nQ: 3+3\nA:"
    assert with_examples([], question) == question and question[1]["content"] == "3+3"  # nothing was changed in place


@pytest.mark.parametrize("style", ["turns", "inside"])
@pytest.mark.parametrize("context", [150, 400, 10_000])
def test_as_many_as_fit_and_not_one_more(text, style, context):
    order = fixed_order(ROWS, seed=0)
    questions = [question_of(chat("short", "x")), question_of(chat("a much longer question than the others", "x"))]
    shots = fit_fixed(text, order, questions, context=context, max_tokens=10, style=style)

    def longest(number):
        return max(len(text.prompt(with_examples(order[:number], q, style=style))) for q in questions)

    number = len(shots.examples)
    assert list(shots.examples) == order[:number] and shots.num_tokens == longest(number) <= context - 10
    assert number == len(ROWS) if context == 10_000 else longest(number + 1) > context - 10


def test_a_count_that_does_not_fit_is_refused_with_the_sum(text):
    question = question_of(chat("how much?", "x"))
    bare = len(text.prompt(question))
    with pytest.raises(SpaceError) as error:
        fit_fixed(text, ROWS, [question], context=200, max_tokens=16, count=20)
    tokens = len(text.prompt(with_examples(ROWS[:20], question)))
    assert f"examples {tokens - bare} + longest question {bare} + answer 16 = {tokens + 16} tokens" in str(error.value)
    assert "At most 200" in str(error.value)
    with pytest.raises(SpaceError, match="1 example in the prompt does not fit"):
        fit_fixed(text, ROWS, [question], context=bare + 20, max_tokens=16)
    with pytest.raises(DataError, match="there are 30"):
        fit_fixed(text, ROWS, [question], context=9_999, max_tokens=16, count=31)
    assert len(fit_fixed(text, ROWS, [question], context=9_999, max_tokens=16, count=7).examples) == 7


def test_picked_examples_the_best_last(text):
    pool = [chat("my card was lost", "lost"), chat("refund my order", "refund"), chat("lost pin of a lost card", "pin")]
    row = chat("I lost a card", "?")
    index = Bm25(pool, text=last_user)
    near = [hit.item for hit in pick(index, last_user(row), 5)]
    shots = fit_picked(text, near, question_of(row), context=1_000, max_tokens=8)
    assert shots.examples == tuple(near[::-1]) and len(shots.examples) == 2
    with_them = with_examples(shots.examples, question_of(row))
    assert with_them[-3]["content"] == near[0]["messages"][0]["content"] and with_them[-1]["content"] == "I lost a card"
    bare = len(text.prompt(question_of(row)))
    assert fit_picked(text, near, question_of(row), context=bare + 9, max_tokens=8).examples == ()
    assert fit_picked(text, [], question_of(row), context=500, max_tokens=8).num_tokens == bare
    with pytest.raises(SpaceError):
        fit_picked(text, near, question_of(row), context=bare + 9, max_tokens=8, count=2)
    with pytest.raises(SpaceError):  # the question alone is too long
        fit_picked(text, near, question_of(row), context=bare + 7, max_tokens=8)


def test_a_row_that_is_no_question_with_answer_is_named():
    with pytest.raises(DataError, match="faq.jsonl:4"):
        question_of({"messages": [{"role": "user", "content": "hi"}], "origin": "faq.jsonl:4"})
