import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunesmith.core.errors import DataError, SettingError
from tunesmith.data.split import shares, sizes, split


def row(number, label="x", repeat=0):
    return {"text": f"row {number}", "origin": f"a:{number}", "columns": {"topic": label, "repeat": repeat}}


def parts(rows, **asked):
    where = split(rows, **asked)
    found = {"train": [], "dev": [], "test": []}
    for one in rows:
        found[where(one)].append(one["text"])
    return {name: sorted(texts) for name, texts in found.items()}


def test_sizes_are_as_asked_and_parts_disjoint():
    rows = [row(i) for i in range(1000)]
    found = parts(rows, dev=100, test=0.25, seed=3)
    assert {name: len(texts) for name, texts in found.items()} == {"train": 650, "dev": 100, "test": 250}
    assert len(set().union(*found.values())) == 1000


def test_the_order_of_rows_does_not_matter_the_seed_does():
    rows = [row(i // 2) for i in range(400)]  # every row twice
    mixed = random.Random(0).sample(rows, len(rows))
    asked = {"dev": 40, "test": 60, "stratify": "topic"}
    assert parts(rows, **asked, seed=1) == parts(mixed, **asked, seed=1) != parts(rows, **asked, seed=2)


def test_test_rows_do_not_depend_on_how_many_are_dev():
    rows = [row(i) for i in range(300)]
    assert parts(rows, dev=0, test=50)["test"] == parts(rows, dev=90, test=50)["test"]


def test_more_rows_leave_most_where_they_were():
    few = parts([row(i) for i in range(1000)], dev=0, test=0.1)["test"]
    many = parts([row(i) for i in range(1010)], dev=0, test=0.1)["test"]
    assert len(set(few) - set(many)) <= 11


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 12), min_size=30, max_size=120), st.integers(0, 9), st.integers(0, 9), st.integers(0, 5))
def test_equal_rows_are_never_on_two_sides(numbers, dev, test, seed):
    rows = [{"text": f"Row  {n}" if i % 2 else f"row {n}", "origin": f"a:{i}"} for i, n in enumerate(numbers)]
    where = split(rows, dev=dev, test=test, seed=seed)
    sides = {}
    for one in rows:
        sides.setdefault(" ".join(one["text"].lower().split()), set()).add(where(one))
    assert all(len(found) == 1 for found in sides.values())
    counted = Counter(where(one) for one in rows)
    assert counted["test"] <= test and counted["dev"] <= dev
    assert where.num_duplicates == len(numbers) - len(set(numbers))


def test_a_group_too_big_for_what_is_left_is_passed_over():
    rows = [row(0)] * 50 + [row(i) for i in range(1, 51)]
    for seed in range(5):
        found = parts(rows, dev=7, test=9, seed=seed)
        assert (len(found["test"]), len(found["dev"])) == (9, 7)


def test_stratified_to_the_row():
    rows = [row(i, label="abc"[min(i % 10, 2)]) for i in range(200)]  # a 20, b 20, c 160
    where = split(rows, dev=20, test=40, seed=0, stratify="topic")
    found = Counter((where(one), one["columns"]["topic"]) for one in rows)
    assert [found["test", label] for label in "abc"] == [4, 4, 32]
    assert [found["dev", label] for label in "abc"] == [2, 2, 16]
    with pytest.raises(DataError, match='a:0 has no value to stratify by in "tpic". Found: topic, repeat'):
        split(rows, stratify="tpic")
    labelled = [{"text": str(i), "label": i % 2, "origin": "a:1"} for i in range(40)]
    assert Counter(
        i % 2 for i in range(40) if split(labelled, dev=0, test=10, stratify="label")(labelled[i]) == "test"
    ) == {0: 5, 1: 5}


def test_equal_rows_in_two_strata_stay_together():
    rows = [row(i // 2, label="ab"[i % 2]) for i in range(100)]
    where = split(rows, dev=10, test=10, seed=0, stratify="topic")
    for one, two in zip(rows[::2], rows[1::2]):
        assert where(one) == where(two)


@pytest.mark.parametrize(
    ("number", "asked", "expected"),
    [
        (500, {"dev": None, "test": None}, (50, 50)),
        (50_000, {"dev": None, "test": None}, (1000, 1000)),
        (500, {"dev": 20, "test": None}, (20, 20)),
        (500, {"dev": 0.1, "test": 7.0}, (7, 50)),
        (5, {"dev": None, "test": None}, (0, 0)),
        (500, {"dev": 0, "test": None}, (0, 0)),
    ],
)
def test_sizes(number, asked, expected):
    assert sizes(number, **asked) == expected


def test_impossible_sizes():
    with pytest.raises(DataError, match=r"data.dev \(5 rows\) and data.test \(5\) leave none of 10 rows"):
        sizes(10, dev=5, test=5)
    with pytest.raises(DataError, match="a share of 0.01 of 20 rows is no row"):
        sizes(20, dev=0.01, test=0)
    for wrong in (-1, 2.5, True):
        with pytest.raises(SettingError, match="data.dev"):
            sizes(10, dev=wrong, test=0)


@given(st.lists(st.integers(0, 50), min_size=1, max_size=8), st.floats(0, 1))
def test_shares_add_up_and_are_near(counts, part):
    total = int(part * sum(counts))
    found = shares(counts, total)
    assert sum(found) == total
    for count, got in zip(counts, found):
        assert 0 <= got <= count and abs(got - (count * total / sum(counts) if sum(counts) else 0)) < 1
