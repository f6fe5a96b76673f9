"""What metrics have in common: the references of a row, the number in a value, and how values become a Summary.

>>> mean_summary([1.0, 0.0, 1.0, 1.0]).value
0.75
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from tunesmith.core.errors import DataError
from tunesmith.stats.summary import Summary

Better = Literal["higher", "lower"]


def origin_of(row: Mapping[str, Any]) -> str:
    """How an error names a row: faq.jsonl:812, its id, or "A row"."""
    return str(row.get("origin") or row.get("id") or "A row")


def references(row: Mapping[str, Any]) -> list[str]:
    """The reference answers of a row, at least one. A row without any is a DataError naming it."""
    answers = row.get("answers") or ([row["answer"]] if row.get("answer") is not None else [])
    if not answers:
        raise DataError(
            f"{origin_of(row)} has no answer to compare with.",
            fix="Say which column holds it: data.answer, or leave this metric out.",
        )
    return [str(answer) for answer in answers]


def number_of(value: Any) -> float:
    """The number in a value: the value itself, or its "score"."""
    return float(value["score"] if isinstance(value, Mapping) else value)


def mean_summary(
    values: Sequence[Any],
    *,
    better: Better = "higher",
    bounds: tuple[float, float] | None = (0.0, 1.0),
    extra: Mapping[str, Any] | None = None,
    clusters: Sequence[Any] | None = None,
) -> Summary:
    """Mean of the values' numbers: Wilson interval when all are 0 or 1, else t, cut off at the `bounds` a score can have.

    clusters  one label per value for rows that share a passage or user: the interval becomes cluster-robust.
    """
    from tunesmith.stats.intervals import mean_interval, wilson

    numbers = [number_of(value) for value in values]
    _some(numbers)
    n, mean = len(numbers), sum(numbers) / len(numbers)
    if clusters is not None and len(set(clusters)) < n:
        interval = mean_interval(numbers, clusters=clusters)
        low, high = interval.low, interval.high
        extra = {**(extra or {}), "clusters": interval.n}
    elif all(number in (0.0, 1.0) for number in numbers):
        low, high = wilson(sum(numbers), n)
    else:
        interval = mean_interval(numbers)
        low, high = interval.low, interval.high
    if bounds is not None:
        low, high = max(low, bounds[0]), min(high, bounds[1])
    return Summary(mean, n, low, high, better, extra or {})


def corpus_summary(
    over_counts: Any,
    n: int,
    *,
    better: Better = "higher",
    bounds: tuple[float, float] | None = (0.0, 1.0),
    extra: Mapping[str, Any] | None = None,
    resamples: int = 10_000,
) -> Summary:
    """A statistic that is no mean of rows, with its BCa bootstrap interval (see stats/intervals.py for `over_counts`).

    Where no resample moves it (all rows right) the bootstrap knows nothing; for a score bounded by 0 and 1 the Wilson interval at
    that share is given instead.
    """
    from tunesmith.stats.intervals import bca, wilson

    _some(range(n))
    interval = bca(over_counts, n, resamples=resamples)
    low, high = interval.low, interval.high
    if bounds == (0.0, 1.0) and (interval.error == 0 or n == 1):
        low, high = wilson(interval.value * n, n)
    elif bounds is not None:
        low, high = max(low, bounds[0]), min(high, bounds[1])
    return Summary(interval.value, n, low, high, better, extra or {})


def _some(values: Sequence[Any]) -> None:
    if not len(values):
        raise DataError("There are no rows to score.", wanted="At least one row with an answer.")
