"""Confidence intervals: of a proportion (Wilson), of a mean (t, or cluster-robust), of any statistic (BCa bootstrap).

>>> low, high = wilson(81, 263)
>>> round(low, 4), round(high, 4)
(0.2553, 0.3662)

The bootstrap asks a statistic for its value at many resamples at once, each given as how often every row was drawn:
`over_counts(counts)` takes (resamples, rows) and returns (resamples,). For a mean of x that is `counts @ x / counts.sum(1)`, so
a corpus BLEU or a macro-F1 is bootstrapped with a matrix product and no loop. `repeated` wraps a plain function of rows.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np

OverCounts = Callable[[np.ndarray], np.ndarray]

NORMAL = NormalDist()
MOST_CELLS = 4_000_000  # resamples x rows held at once: 32 MB of float64


@dataclass(frozen=True)
class Interval:
    """An estimate, its bounds, its standard error, and how many independent things it rests on."""

    value: float
    low: float
    high: float
    error: float
    n: int


def z_of(confidence: float) -> float:
    """The normal quantile of a two-sided interval: 0.95 -> 1.96."""
    return NORMAL.inv_cdf(0.5 + confidence / 2)


def t_of(confidence: float, freedom: float) -> float:
    """The Student quantile of a two-sided interval with `freedom` degrees of freedom."""
    from scipy.special import stdtrit  # slow to import, wanted only here

    return float(stdtrit(freedom, 0.5 + confidence / 2))


def wilson(successes: float, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Score interval of a proportion (Wilson 1927): stays inside 0..1 and keeps its level at small n and at 0 or n successes."""
    if n <= 0:
        raise ValueError("an interval needs at least one row")
    if not 0 <= successes <= n:
        raise ValueError(f"{successes} successes among {n}")
    z, share = z_of(confidence), successes / n
    middle = share + z * z / (2 * n)
    half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    low, high = (middle - half) / (1 + z * z / n), (middle + half) / (1 + z * z / n)
    return (0.0 if successes == 0 else low), (1.0 if successes == n else high)


def mean_interval(
    values: Sequence[float] | np.ndarray,
    *,
    clusters: Sequence[Any] | None = None,
    confidence: float = 0.95,
    normal: bool = False,
) -> Interval:
    """Mean with a t interval (or normal): SE = sd / sqrt(n), or cluster-robust when rows share a passage, user or template.

    clusters  one label per value; freedom is then the number of clusters - 1 (Miller 2024, arXiv 2411.00640, eq. 4, with the
              usual G / (G - 1) correction, so that clusters of one give exactly sd / sqrt(n)). One value has no bounds.
    """
    values = np.asarray(values, dtype=np.float64)
    if not len(values):
        raise ValueError("a mean needs at least one value")
    mean = float(values.mean())
    groups = len(values) if clusters is None else len(set(clusters))
    if groups < 2:
        return Interval(mean, -math.inf, math.inf, math.inf, groups)
    error = cluster_error(values, range(len(values)) if clusters is None else clusters)
    half = error * (z_of(confidence) if normal else t_of(confidence, groups - 1))
    return Interval(mean, mean - half, mean + half, error, groups)


def cluster_error(values: Sequence[float] | np.ndarray, clusters: Sequence[Any] | range) -> float:
    """Standard error of the mean when values inside one cluster move together.

    >>> round(cluster_error([1, 1, 0, 0], ["a", "a", "b", "b"]), 3)
    0.5
    """
    values = np.asarray(values, dtype=np.float64)
    if len(clusters) != len(values):
        raise ValueError(f"{len(values)} values but {len(clusters)} clusters")
    index: dict[Any, int] = {}
    number = np.array([index.setdefault(cluster, len(index)) for cluster in clusters])
    sums = np.bincount(number, weights=values - values.mean())
    groups = len(sums)
    return math.sqrt(groups / (groups - 1) * float(sums @ sums)) / len(values)


def repeated(rows: Sequence[Any] | np.ndarray, statistic: Callable[[Any], float]) -> OverCounts:
    """Turn a plain statistic of rows into one over counts, by repeating each row as often as it was drawn (a loop: slow).

    >>> float(repeated(np.array([1.0, 2.0, 4.0]), np.median)(np.array([[0, 0, 3]]))[0])
    4.0
    """
    if isinstance(rows, np.ndarray):
        return lambda counts: np.array([statistic(np.repeat(rows, c.astype(int), axis=0)) for c in counts], dtype=float)
    return lambda counts: np.array(
        [statistic([row for row, times in zip(rows, c) for _ in range(int(times))]) for c in counts], dtype=float
    )


def bca(
    over_counts: OverCounts, n: int, *, confidence: float = 0.95, resamples: int = 10_000, seed: int = 0
) -> Interval:
    """Bias-corrected and accelerated bootstrap interval of any statistic of n rows (Efron 1987).

    over_counts  (resamples, n) draw counts -> (resamples,) values of the statistic; must be finite.
    The same seed gives the same interval. The acceleration comes from a jackknife that leaves out one row, or, beyond 1,000 rows,
    one of 1,000 random groups (same limit, bounded time). A statistic that never moves has an interval of width 0.
    """
    if n < 1:
        raise ValueError("a bootstrap needs at least one row")
    rng = np.random.default_rng(seed)
    value = float(over_counts(np.ones((1, n)))[0])
    if n < 2:
        return Interval(value, -math.inf, math.inf, math.inf, n)
    draws = bootstrap(over_counts, n, resamples=resamples, rng=rng)
    if not np.isfinite(draws).all():
        raise ValueError("the statistic is not finite on some resamples")
    low, high = _bca_bounds(draws, value, _acceleration(over_counts, n, rng), confidence)
    return Interval(value, low, high, float(draws.std(ddof=1)), n)


def bootstrap(over_counts: OverCounts, n: int, *, resamples: int, rng: np.random.Generator) -> np.ndarray:
    """The statistic on `resamples` samples of n rows drawn with replacement, in pieces that bound the memory."""
    size = max(1, MOST_CELLS // n)
    pieces = []
    for start in range(0, resamples, size):
        pieces.append(over_counts(draw_counts(min(size, resamples - start), n, rng)))
    return np.concatenate(pieces)


def draw_counts(resamples: int, n: int, rng: np.random.Generator) -> np.ndarray:
    """How often each of n rows is drawn in each of `resamples` samples with replacement: float64, (resamples, n)."""
    drawn = rng.integers(0, n, size=(resamples, n))
    drawn += np.arange(resamples)[:, None] * n
    return np.bincount(drawn.ravel(), minlength=resamples * n).reshape(resamples, n).astype(np.float64)


def _acceleration(over_counts: OverCounts, n: int, rng: np.random.Generator, most_groups: int = 1_000) -> float:
    groups = np.arange(n) if n <= most_groups else rng.permutation(n) % most_groups
    num_groups = min(n, most_groups)
    size = max(1, MOST_CELLS // n)
    left_out = np.concatenate(
        [
            over_counts(
                (groups[None, :] != np.arange(start, min(start + size, num_groups))[:, None]).astype(np.float64)
            )
            for start in range(0, num_groups, size)
        ]
    )
    away = left_out.mean() - left_out
    squares = float((away**2).sum())
    return float((away**3).sum()) / (6 * squares**1.5) if squares > 0 else 0.0


def _bca_bounds(draws: np.ndarray, value: float, acceleration: float, confidence: float) -> tuple[float, float]:
    # Half of the ties count as below: a statistic with few distinct values would otherwise look biased.
    below = (float((draws < value).sum()) + 0.5 * float((draws == value).sum())) / len(draws)
    below = min(max(below, 0.5 / len(draws)), 1 - 0.5 / len(draws))
    bias = NORMAL.inv_cdf(below)
    quantiles = []
    for z in (-z_of(confidence), z_of(confidence)):
        stretch = 1 - acceleration * (bias + z)
        moved = bias + (bias + z) / stretch if stretch > 0 else math.copysign(math.inf, z)
        quantiles.append(NORMAL.cdf(moved) if math.isfinite(moved) else float(z > 0))
    low, high = np.quantile(draws, quantiles)
    return float(low), float(high)
