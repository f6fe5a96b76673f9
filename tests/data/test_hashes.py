import random
import tracemalloc

from hypothesis import given
from hypothesis import strategies as st

from tunesmith.data.hashes import HashSet, content_hash


def chat(prompt, answer):
    return {"messages": [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}]}


def test_equal_contents_have_equal_hashes():
    row = chat("Why  so?\n", "Because")
    assert content_hash(row) == content_hash({**chat("why so?", "BECAUSE"), "origin": "x:1", "columns": {"a": 1}})
    assert content_hash(chat("ＡＢＣ", "x")) == content_hash(chat("ABC", "x"))
    assert content_hash(row) != content_hash(chat("Why so?", "Because not"))
    assert content_hash(row) != content_hash(row, seed=1)
    # the border between prompt and answer counts
    assert content_hash(chat("a b", "c")) != content_hash(chat("a", "b c"))
    assert content_hash({"text": "a", "label": 1}) != content_hash({"text": "a", "label": 2})
    tools = [{"type": "function", "function": {"name": "f"}}]
    assert content_hash(row) != content_hash({**row, "tools": tools})


def test_parts():
    one, two = chat("q", "a"), chat("q", "b")
    assert content_hash(one, "prompt") == content_hash(two, "prompt")
    assert content_hash(one, "answer") == content_hash(chat("other", "A"), "answer")
    turns = {"messages": [*one["messages"], *two["messages"]]}
    assert content_hash(turns, "prompt") != content_hash(one, "prompt")
    assert content_hash({"text": "a", "label": 1}, "prompt") == content_hash({"text": "a", "label": 2}, "prompt")


@given(st.lists(st.integers(0, 2**64 - 1)))
def test_a_set_like_pythons(values):
    seen, oracle = HashSet(), set()
    for value in values + values[::2]:
        assert (value in seen) == (value in oracle)
        assert seen.add(value) == (value not in oracle)
        oracle.add(value)
    assert len(seen) == len(oracle)


def test_a_large_set_is_right_and_small():
    draw = random.Random(0)
    values = [draw.getrandbits(64) for _ in range(70_000)]
    tracemalloc.start()
    seen = HashSet(values)
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (
        len(seen) == len(set(values)) and size < 16 * len(values) + 3_000_000
    )  # and the newest 32,768 as a Python set
    assert all(value in seen for value in values[::97])
    assert not any(draw.getrandbits(64) in seen for _ in range(1000))
