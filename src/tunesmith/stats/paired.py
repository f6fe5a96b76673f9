"""Is B better than A on the same rows? McNemar for right/wrong, permutation and bootstrap for everything else.

>>> right_a, right_b = [1, 1, 0, 0, 0, 0, 0, 0, 0, 0], [1, 1, 1, 1, 1, 1, 1, 1, 0, 0]
>>> outcome = mcnemar(right_a, right_b)
>>> round(outcome.difference, 2), round(outcome.p, 5)
(0.6, 0.03125)

Always paired: two runs on the same rows rise and fall together, and a test that forgets this loses most of its power
(statistics of this field's tools: .42 instead of .83 at 220 rows). Overlap of two intervals is not a test.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from tunesmith.stats.intervals import MOST_CELLS, OverCounts, bca, mean_interval, wilson

EXACT_UNDER = 25  # discordant pairs
ENUMERATE_UP_TO = 14  # non-zero differences: 2^14 sign patterns are all tried


@dataclass(frozen=True)
class Paired:
    """B minus A over the same n rows, with interval, p-value and the name of the test."""

    difference: float
    low: float
    high: float
    p: float
    n: int
    test: str

    def told_apart(self, level: float = 0.05) -> bool:
        """Both the test and the interval say that A and B differ."""
        return self.p < level and not self.low <= 0 <= self.high


def mcnemar(a: Sequence[float] | np.ndarray, b: Sequence[float] | np.ndarray, *, confidence: float = 0.95) -> Paired:
    """Right or wrong on the same rows: exact binomial test under 25 discordant pairs, else its mid-p form.

    The interval is Newcombe's square-and-add score interval for a paired difference (1998, method 10).
    """
    a, b = _same_length(a, b)
    if not (np.isin(a, (0, 1)).all() and np.isin(b, (0, 1)).all()):
        raise ValueError("McNemar's test needs values of 0 and 1")
    n = len(a)
    both = int((a * b).sum())
    only_a, only_b = int(a.sum()) - both, int(b.sum()) - both
    discordant = only_a + only_b
    exact = discordant < EXACT_UNDER
    p = mcnemar_p(only_a, only_b, mid=not exact)
    low, high = paired_difference_interval(both, only_a, only_b, n - both - discordant, confidence)
    return Paired((only_b - only_a) / n, low, high, p, n, "McNemar, exact" if exact else "McNemar, mid-p")


def mcnemar_p(only_a: int, only_b: int, *, mid: bool) -> float:
    """Two-sided p of `only_a` against `only_b` discordant pairs under a fair coin; mid-p takes half of the observed one off each side."""
    total, fewer = only_a + only_b, min(only_a, only_b)
    if not total:
        return 1.0
    # log of C(total, i) for i = 0..fewer by its ratios: closed form without factorials that overflow
    i = np.arange(1, fewer + 1)
    logs = np.concatenate([[0.0], np.cumsum(np.log((total - i + 1) / i))]) - total * math.log(2)
    p = 2.0 * float(np.exp(logs).sum()) - (float(np.exp(logs[-1])) if mid else 0.0)
    return min(1.0, p)


def paired_difference_interval(
    both: int, only_a: int, only_b: int, neither: int, confidence: float = 0.95
) -> tuple[float, float]:
    """Interval of share(B) - share(A) from the four cells of a paired table (Newcombe 1998, Stat. Med. 17:2635, method 10)."""
    n = both + only_a + only_b + neither
    share_a, share_b = (both + only_a) / n, (both + only_b) / n
    low_a, high_a = wilson(both + only_a, n, confidence)
    low_b, high_b = wilson(both + only_b, n, confidence)
    margins = (both + only_a) * (only_b + neither) * (both + only_b) * (only_a + neither)
    phi = 0.0
    if margins:
        cross: float = both * neither - only_a * only_b
        if cross > 0:  # Newcombe's continuity correction of phi, only towards 0
            cross = max(cross - n / 2, 0)
        phi = cross / math.sqrt(margins)
    down_b, up_b, down_a, up_a = share_b - low_b, high_b - share_b, share_a - low_a, high_a - share_a
    difference = share_b - share_a
    low = difference - math.sqrt(max(0.0, down_b**2 - 2 * phi * down_b * up_a + up_a**2))
    high = difference + math.sqrt(max(0.0, up_b**2 - 2 * phi * up_b * down_a + down_a**2))
    return max(-1.0, low), min(1.0, high)


def paired_means(
    a: Sequence[float] | np.ndarray,
    b: Sequence[float] | np.ndarray,
    *,
    clusters: Sequence[object] | None = None,
    confidence: float = 0.95,
    resamples: int = 10_000,
    seed: int = 0,
) -> Paired:
    """Difference of two means on the same rows: sign-flip permutation test, BCa bootstrap interval.

    With `clusters` (rows that share a passage or user) whole clusters are flipped, and the interval is cluster-robust.
    """
    a, b = _same_length(a, b)
    away = b - a
    if clusters is not None:
        interval = mean_interval(away, clusters=clusters, confidence=confidence)
        index: dict[object, int] = {}
        number = np.array([index.setdefault(cluster, len(index)) for cluster in clusters])
        p = permutation_p(np.bincount(number, weights=away), resamples=resamples, seed=seed)
        test = "permutation of clusters"
    else:
        interval = bca(
            lambda counts: counts @ away / counts.sum(1),
            len(away),
            confidence=confidence,
            resamples=resamples,
            seed=seed,
        )
        p, test = permutation_p(away, resamples=resamples, seed=seed), "paired permutation"
    return Paired(float(away.mean()), interval.low, interval.high, p, len(away), test)


def permutation_p(differences: Sequence[float] | np.ndarray, *, resamples: int = 10_000, seed: int = 0) -> float:
    """Two-sided p that the paired differences have mean 0, by flipping their signs: all patterns when few, else `resamples` of them.

    >>> permutation_p([1.0, 1.0, 1.0, 1.0])
    0.125
    """
    away = np.asarray(differences, dtype=np.float64)
    away = away[away != 0]  # a pair of equals says nothing and changes no sum
    if not len(away):
        return 1.0
    seen = abs(float(away.sum())) * (1 - 1e-12)  # sums in another order differ in the last bits
    if len(away) <= ENUMERATE_UP_TO:
        patterns = (np.arange(2 ** len(away))[:, None] >> np.arange(len(away))) & 1
        return float((np.abs((patterns * 2.0 - 1) @ away) >= seen).mean())
    rng = np.random.default_rng(seed)
    size = max(1, MOST_CELLS // len(away))
    extreme = 0
    for start in range(0, resamples, size):
        signs = rng.integers(0, 2, size=(min(size, resamples - start), len(away))) * 2.0 - 1
        extreme += int((np.abs(signs @ away) >= seen).sum())
    return (extreme + 1) / (resamples + 1)


def paired_statistic(
    over_counts: Callable[[np.ndarray], np.ndarray],
    n: int,
    *,
    confidence: float = 0.95,
    resamples: int = 10_000,
    seed: int = 0,
) -> Paired:
    """Difference of any statistic (corpus BLEU, macro-F1, bits per byte) between two runs on the same n rows.

    over_counts  the statistic over the 2n rows "A's then B's", given how often each is taken: (resamples, 2n) -> (resamples,).
    The interval is a paired BCa bootstrap (a row is drawn for both or for none); p is approximate randomisation: each row's two
    outputs change places with probability 1/2.
    """

    def difference(counts: np.ndarray) -> np.ndarray:
        none = np.zeros_like(counts)
        return over_counts(np.hstack([none, counts])) - over_counts(np.hstack([counts, none]))

    interval = bca(difference, n, confidence=confidence, resamples=resamples, seed=seed)
    p = _swap_p(over_counts, n, abs(interval.value), resamples, seed)
    return Paired(interval.value, interval.low, interval.high, p, n, "approximate randomisation")


def _swap_p(over_counts: OverCounts, n: int, seen: float, resamples: int, seed: int) -> float:
    rng = np.random.default_rng(seed + 1)
    size = max(1, MOST_CELLS // n)
    extreme = 0
    for start in range(0, resamples, size):
        swap = rng.integers(0, 2, size=(min(size, resamples - start), n)).astype(np.float64)
        moved = over_counts(np.hstack([swap, 1 - swap])) - over_counts(np.hstack([1 - swap, swap]))
        extreme += int((np.abs(moved) >= seen - 1e-12).sum())
    return (extreme + 1) / (resamples + 1)


def _same_length(a: Sequence[float] | np.ndarray, b: Sequence[float] | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    a, b = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if a.shape != b.shape or a.ndim != 1 or not len(a):
        raise ValueError(f"a paired test needs two equally long lists, not {a.shape} and {b.shape}")
    return a, b
