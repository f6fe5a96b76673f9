"""Train, dev and test: drawn by a hash of what each row says, so that the order of rows does not matter.

>>> where = split(rows, dev=0.1, test=500, seed=0)
>>> where(row)
'train'

Rows that say the same (white space and case aside) have one hash and are never on two sides; nor are rows that judge
answers to one prompt. Sorted by hash, rows are taken
for test, then dev, until the size asked for is reached exactly; a group of equal rows too big for what is left is passed
over. Adding rows to a file leaves nearly all others where they were. Memory: 8 bytes a row.
"""

from array import array
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from tunesmith.core.errors import DataError, SettingError
from tunesmith.data.hashes import content_hash
from tunesmith.data.kinds import split_by
from tunesmith.data.rows import Row
from tunesmith.data.shapes import pick

Size = float | int | None


@dataclass(frozen=True, eq=False)
class Split:
    """Where each row goes. `test` and `dev` are the sorted hashes of their rows, uint64; all others train."""

    test: np.ndarray
    dev: np.ndarray
    seed: int
    num_rows: int
    num_duplicates: int

    def __call__(self, row: Row) -> str:
        wanted = np.uint64(content_hash(row, split_by(row), seed=self.seed))
        for name, hashes in (("test", self.test), ("dev", self.dev)):
            at = int(hashes.searchsorted(wanted))
            if at < len(hashes) and hashes[at] == wanted:
                return name
        return "train"


def split(
    rows: Iterable[Row], *, dev: Size = None, test: Size = None, seed: int = 0, stratify: str | None = None
) -> Split:
    """Draw test and dev from rows, which are read once and not kept.

    dev, test  a share below 1, a number of rows, or None: a tenth, 1,000 at most (test: as dev)
    stratify   a column: its values get the same share of every part, to the row (largest remainder)

    Raises DataError when nothing would be left to train on, when a share comes to no row, or when a row has no such column.
    """
    hashes: dict[Any, array[int]] = {}
    contents = array("Q")  # only of rows that are kept together by something else than all they say
    for row in rows:
        group, by = value_of(row, stratify) if stratify else None, split_by(row)
        hashes.setdefault(group, array("Q")).append(content_hash(row, by, seed=seed))
        if by != "all":
            contents.append(content_hash(row, seed=seed))
    num_rows = sum(map(len, hashes.values()))
    num_test, num_dev = sizes(num_rows, dev=dev, test=test)
    names = sorted(hashes, key=str)
    groups = [np.frombuffer(hashes[name], np.uint64) for name in names]
    for group in groups:
        group.sort()
    counts = [len(group) for group in groups]
    tests = shares(counts, num_test)
    devs = shares([count - taken for count, taken in zip(counts, tests)], num_dev)
    chosen = [_draw(group, *wanted) for group, *wanted in zip(groups, tests, devs)]
    if contents:
        whole = np.frombuffer(contents, np.uint64)
    else:  # one group lies there sorted, and is not copied
        whole = groups[0] if len(groups) == 1 else np.concatenate(groups) if groups else np.empty(0, np.uint64)
    del groups, hashes
    whole.sort()
    repeated = int(np.count_nonzero(whole[1:] == whole[:-1]))
    test_hashes = np.unique(np.concatenate([taken for taken, _ in chosen])) if chosen else np.empty(0, np.uint64)
    dev_hashes = np.unique(np.concatenate([taken for _, taken in chosen])) if chosen else np.empty(0, np.uint64)
    return Split(test_hashes, np.setdiff1d(dev_hashes, test_hashes), seed, num_rows, repeated)


def sizes(num_rows: int, *, dev: Size, test: Size) -> tuple[int, int]:
    """Rows for test and dev out of `num_rows`: (0.1, None) of 500 -> (50, 50)."""
    if test is None:
        test = dev
    asked = {"dev": dev, "test": test}
    counted = {name: _size(name, size, num_rows) for name, size in asked.items()}
    if num_rows and sum(counted.values()) >= num_rows:
        raise DataError(
            f"data.dev ({counted['dev']:,} rows) and data.test ({counted['test']:,}) leave none of {num_rows:,} rows to train on.",
            wanted="At least one row.",
            fix="Make them smaller: data.dev=0.1 data.test=0.1",
        )
    return counted["test"], counted["dev"]


def _size(name: str, size: Size, num_rows: int) -> int:
    if size is None:
        return min(1000, num_rows // 10)
    if isinstance(size, bool) or size < 0 or (size > 1 and size != int(size)):
        raise SettingError(f"data.{name} is {size}.", wanted="A share below 1, or a whole number of rows.")
    if 0 < size < 1:
        counted = round(size * num_rows)
        if not counted:
            raise DataError(
                f"data.{name}: a share of {size:g} of {num_rows:,} rows is no row.",
                fix=f"Ask for a number: data.{name}=1 (or 0)",
            )
        return counted
    return int(size)


def shares(counts: list[int], total: int) -> list[int]:
    """`total` divided in proportion to counts, to the row: ([5, 3, 2], 4) -> [2, 1, 1]."""
    whole = sum(counts)
    if not whole:
        return [0] * len(counts)
    exact = [count * total / whole for count in counts]
    parts = [int(part) for part in exact]
    order = sorted(range(len(counts)), key=lambda i: (parts[i] - exact[i], i))
    for i in order[: total - sum(parts)]:
        parts[i] += 1
    return parts


def _draw(hashes: np.ndarray, num_test: int, num_dev: int) -> tuple[np.ndarray, np.ndarray]:
    """The hashes for test and dev, from sorted hashes: whole runs of equal ones, as they come, while they fit."""
    test, dev = array("Q"), array("Q")
    start = 0
    while start < len(hashes) and (num_test or num_dev):
        end = start + 1
        while end < len(hashes) and hashes[end] == hashes[start]:
            end += 1
        size = end - start
        if size <= num_test:
            test.append(int(hashes[start]))
            num_test -= size
        elif size <= num_dev:
            dev.append(int(hashes[start]))
            num_dev -= size
        start = end
    return np.frombuffer(test, np.uint64), np.frombuffer(dev, np.uint64)


def value_of(row: Row, column: str) -> Any:
    """A row's value by the column's name, its label by "label". Raises DataError naming the columns there are."""
    columns: Mapping[str, Any] = row.get("columns", {})
    value = pick(columns, column)
    if value is None and column == "label":
        value = row.get("label")
    if value is None or isinstance(value, dict | list):
        there = [*columns, *(["label"] if "label" in row else [])]
        raise DataError(
            f'{row["origin"]} has no value to stratify by in "{column}".'
            + (f" Found: {', '.join(there)}." if there else ""),
            fix="Name a column with one value in every row: data.stratify: NAME",
        )
    return value
