import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunesmith.data.cache import UnitCache
from tunesmith.text.example import Example, Unit


def same(a: Unit, b: Unit) -> None:
    assert (a.origin, a.shared_prompt, dict(a.columns)) == (b.origin, b.shared_prompt, dict(b.columns))
    assert len(a.examples) == len(b.examples)
    for one, two in zip(a.examples, b.examples):
        assert one.ids.dtype == two.ids.dtype == np.int32 and one.weights.dtype == two.weights.dtype == np.float32
        np.testing.assert_array_equal(one.ids, two.ids)
        np.testing.assert_array_equal(one.weights, two.weights)
        assert set(one.columns) == set(two.columns)
        for name in one.columns:
            np.testing.assert_array_equal(one.columns[name], two.columns[name])


PAIR = Unit(
    (Example.of([1, 2, 3, 4], [0, 0, 1, 0.5], chosen=1), Example.of([1, 2, 9], [0, 0, 1], chosen=0)),
    shared_prompt=2,
    origin="쌍.jsonl:7",
    columns={"margin": 0.25, "topic": "배송"},
)


def test_what_goes_in_comes_out(tmp_path):
    old = np.asarray([0.0, -1.5, -0.25], np.float32)
    units = [
        Unit((Example.of([5, 6, 7], [1, 1, 1]),), origin="faq.jsonl:1"),
        PAIR,
        Unit((Example.of([5, 6, 7], [0, 1, 0], old_logprobs=old, reward=-0.5),), origin="faq.jsonl:3"),
        Unit((Example.of([8, 8], [0, 1]),), origin="faq.jsonl:4"),
    ]
    cache = UnitCache.write(tmp_path / "train", iter(units), key="k")
    assert len(cache) == 4
    for i, unit in enumerate(units):
        same(cache[i], unit)
    same(cache[-1], units[-1])
    for a, b in zip(cache, units):
        same(a, b)
    # the pair's shared prompt lies in memory once: 4 + 3 - 2
    assert cache.lengths.tolist() == [3, 5, 3, 2] and cache.total_tokens == 13
    assert cache.num_trained.tolist() == [2, 3, 1, 1] and cache.total_trained == 7
    with pytest.raises(IndexError):
        cache[4]


def test_a_key_decides_whether_it_is_reused(tmp_path):
    path = tmp_path / "train"
    assert UnitCache.open(path) is None
    UnitCache.write(path, [PAIR], key="one")
    assert UnitCache.open(path, "two") is None
    assert len(UnitCache.open(path, "one")) == 1
    assert len(UnitCache.write(path, [PAIR, PAIR], key="two")) == 2
    assert [child.name for child in tmp_path.iterdir()] == ["train"]


def test_empty_and_interrupted(tmp_path):
    assert list(UnitCache.write(tmp_path / "empty", [])) == []

    def breaks():
        yield PAIR
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError):
        UnitCache.write(tmp_path / "empty", breaks())
    assert len(UnitCache.open(tmp_path / "empty")) == 0
    assert [child.name for child in tmp_path.iterdir()] == ["empty"]


def test_used_ids_are_those_that_occur(tmp_path):
    units = [Unit((Example.of([7, 3, 7], [0, 1, 1]), Example.of([0], [1]))), Unit((Example.of([300, 3], [0, 1]),))]
    assert UnitCache.write(tmp_path / "c", units).used_ids.tolist() == [0, 3, 7, 300]
    assert UnitCache.write(tmp_path / "none", []).used_ids.tolist() == []


def test_it_travels_to_a_worker(tmp_path):
    cache = UnitCache.write(tmp_path / "c", [PAIR])
    same(pickle.loads(pickle.dumps(cache))[0], PAIR)


@pytest.mark.parametrize(
    ("first", "second", "says"),
    [
        ({"a": 1.0}, {"a": np.zeros(2, np.float32)}, "per token"),
        ({"a": np.zeros(2, np.float32)}, {"a": np.zeros(2, np.int64)}, "it was <f4"),
        ({"a": np.zeros(3, np.float32)}, {}, "3 values for 2 tokens"),
        ({"a": "word"}, {}, "must be a number"),
        ({"a": 2**53 + 1}, {}, "above 2"),
    ],
)
def test_columns_that_cannot_be_kept_are_refused(tmp_path, first, second, says):
    units = [Unit((Example.of([1, 2], [0, 1], **columns),)) for columns in (first, second)]
    with pytest.raises(ValueError, match=says):
        UnitCache.write(tmp_path / "c", units)


@settings(max_examples=30, deadline=None)
@given(
    st.lists(
        st.lists(st.lists(st.integers(0, 2**31 - 1), max_size=6), min_size=1, max_size=3),
        max_size=6,
    )
)
def test_any_units(tmp_path_factory, rows):
    units = [Unit(tuple(Example.of(ids, [1.0] * len(ids)) for ids in row), origin=str(i)) for i, row in enumerate(rows)]
    cache = UnitCache.write(tmp_path_factory.mktemp("c") / "c", units)
    assert len(cache) == len(units)
    for a, b in zip(cache, units):
        same(a, b)
    assert cache.lengths.tolist() == [unit.num_tokens for unit in units]
