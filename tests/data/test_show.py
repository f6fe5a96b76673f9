import pytest

from tunesmith.core.errors import DataError
from tunesmith.data.show import page, shown, stretches
from tunesmith.text.encode import Text
from tunesmith.text.tokenizer import byte_tokenizer


@pytest.fixture(scope="module")
def text():
    return Text(byte_tokenizer(), length=60)


def row(*messages, **more):
    return {
        "messages": [{"role": role, "content": content, **rest} for role, content, rest in messages],
        "origin": "faq.jsonl:2",
        **more,
    }


PAIR = row(("user", "12시 <땡>!", {}), ("assistant", "네.", {}))


def test_what_is_shown_is_what_is_trained_on(text):
    (example,) = text.chat(PAIR["messages"])
    parts = stretches(PAIR, text)
    assert sum(part.num_tokens for part in parts) == len(example)
    assert sum(part.num_trained for part in parts) == example.num_trained == len("네.".encode()) + 1
    assert (
        shown(PAIR, text) == "faq.jsonl:2  20 tokens, 5 trained on\n<|user|>12시 <땡>!<|end|><|assistant|>⟦네.<|end|>⟧"
    )


def test_colours_and_html(text):
    ansi = shown(PAIR, text, style="ansi")
    assert "\x1b[1;32m네.<|end|>\x1b[0m" in ansi
    made = page([PAIR], text, title="A & B")
    assert "<mark>네.&lt;|end|&gt;</mark>" in made and "12시 &lt;땡&gt;!" in made and "<title>A &amp; B</title>" in made
    assert "http" not in made and "<script" not in made


def test_control_characters_of_the_data_do_not_reach_the_terminal(text):
    ansi = shown(row(("user", "\x1b[2J", {}), ("assistant", "a\tb\n", {})), text, style="ansi")
    assert "\\x1b[2J" in ansi and "\x1b[2J" not in ansi and "a\tb\n" in ansi


def test_weights_and_turns_that_are_not_trained_on(text):
    turns = row(
        ("user", "a", {}), ("assistant", "b", {"train": False}), ("user", "c", {}), ("assistant", "d", {"weight": 0.5})
    )
    told = shown(turns, text)
    assert told.count("⟦") == 1 and "⟦d<|end|>⟧x0.5" in told


def test_long_rows_and_raw_text_and_rows_that_cannot_be_shown(text):
    assert "(longer than length: 60)" in shown(row(("user", "x" * 70, {}), ("assistant", "y", {})), text)
    assert (
        shown({"text": "한 글", "origin": "a.txt:1"}, text) == "a.txt:1  8 tokens, 7 trained on\n⟦한 글<|endoftext|>⟧"
    )
    with pytest.raises(DataError, match="^faq.jsonl:2: "):
        shown(row(("robot", "a", {}), ("assistant", "b", {})), text)


def test_every_side_of_a_judged_row_is_shown_with_its_own_answer_trained_on(text):
    ask = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b", "train": False}, {"role": "user", "content": "c"}]  # fmt: skip
    pair = {
        "messages": ask,
        "chosen": [{"role": "assistant", "content": "yes"}],
        "rejected": [{"role": "assistant", "content": "no"}],
        "origin": "p:1",
    }
    told = shown(pair, text)
    assert "p:1 (chosen)" in told and "⟦yes<|end|>⟧" in told and "⟦no<|end|>⟧" in told and told.count("⟦") == 2
    scored = {"messages": ask[:1], "answers": [{"content": "x", "score": 0.5}], "origin": "s:1"}
    assert "s:1 (score 0.5)" in shown(scored, text) and "⟦x<|end|>⟧" in shown(scored, text)
    rated = {"messages": [*ask[:1], {"role": "assistant", "content": "x"}], "label": False, "origin": "r:1"}
    assert "r:1 (not good)" in shown(rated, text)


def test_prompts_gaps_pairs_and_groups_are_shown(text):
    asked = shown({"messages": [{"role": "user", "content": "a"}], "answer": "42", "origin": "q:1"}, text)
    assert (
        asked.startswith("q:1 (prompt)  ")
        and "<|user|>a<|end|><|assistant|>" in asked
        and "(reference answer)" in asked
    )
    assert "⟦" not in asked
    gap = shown({"prefix": "a", "middle": "bc", "suffix": "d", "origin": "g:1"}, text)
    assert "g:1 (middle)  2 tokens, 2 trained on\n⟦bc⟧" in gap and gap.count("⟦") == 1
    assert "p:1 (text, score 0.5)" in shown({"text": "a", "text2": "b", "score": 0.5, "origin": "p:1"}, text)
    assert shown({"texts": ["a", "b"], "origin": "t:1"}, text).count("t:1 (text)") == 2
