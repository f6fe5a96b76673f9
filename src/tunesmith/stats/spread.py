"""How much does a figure move from seed to seed, and does one method move less than another?

>>> over = spread([0.61, 0.64, 0.58, 0.66, 0.63])
>>> round(over.mean, 3), round(over.sd, 3), round(over.sd_low, 3), round(over.sd_high, 3)
(0.624, 0.03, 0.018, 0.088)

A method that is better on average and worse on a bad day is not a better method: give the spread with the mean. Its own
interval is wide with few seeds; `steadier` says whether two spreads can be told apart at all.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from tunesmith.stats.intervals import mean_interval

MOST_SPLITS = 20_000  # ways to deal the deviations out that are all tried; more are drawn


@dataclass(frozen=True)
class Spread:
    """A figure over n seeds. low, high: 95 % interval of the mean; sd_low, sd_high: of the standard deviation."""

    mean: float
    sd: float
    n: int
    low: float
    high: float
    sd_low: float
    sd_high: float
    least: float
    most: float


@dataclass(frozen=True)
class Steadier:
    """ratio: standard deviation of b over that of a; p: how often chance alone makes the two differ as much."""

    ratio: float
    p: float
    n: tuple[int, int]


def spread(values: Sequence[float] | np.ndarray, *, confidence: float = 0.95) -> Spread:
    """Mean and standard deviation over seeds with their intervals: Student's t, and chi-square, which supposes a normal figure.

    One seed has no spread: nan, with bounds that say nothing.
    """
    given = np.asarray(values, dtype=np.float64)
    of_mean = mean_interval(given, confidence=confidence)
    n = len(given)
    if n < 2:
        return Spread(of_mean.value, math.nan, n, -math.inf, math.inf, 0.0, math.inf, of_mean.value, of_mean.value)
    from scipy.special import chdtri  # slow to import, wanted only here

    sd, tail = float(given.std(ddof=1)), (1 - confidence) / 2
    sd_low, sd_high = (sd * math.sqrt((n - 1) / float(chdtri(n - 1, p))) for p in (tail, 1 - tail))
    return Spread(
        of_mean.value, sd, n, of_mean.low, of_mean.high, sd_low, sd_high, float(given.min()), float(given.max())
    )


def steadier(a: Sequence[float] | np.ndarray, b: Sequence[float] | np.ndarray, *, seed: int = 0) -> Steadier:
    """Do a and b move by as much from seed to seed? A permutation test of their distances from their own medians.

    Brown and Forsythe's distances (1974), without the zero that the median of an odd number is from itself (Hines and Hines
    2000), dealt out again in all ways where these are at most 20,000: with few seeds p is exact. Two-sided.
    """
    groups = [np.asarray(values, dtype=np.float64) for values in (a, b)]
    if min(map(len, groups)) < 2:
        raise ValueError("a spread needs at least two seeds of each")
    sds = [float(group.std(ddof=1)) for group in groups]
    from_median = [np.sort(np.abs(group - np.median(group)))[len(group) % 2 :] for group in groups]
    distances, n = np.concatenate(from_median), len(from_median[0])
    total = len(distances)
    if math.comb(total, n) <= MOST_SPLITS:
        chosen = np.array(list(combinations(range(total), n)))
    else:
        rng = np.random.default_rng(seed)
        chosen = np.array([np.arange(n), *(rng.permutation(total)[:n] for _ in range(MOST_SPLITS - 1))])
    first = distances[chosen].mean(1)
    gap = np.abs(first - (distances.sum() - n * first) / (total - n))
    p = float((gap >= gap[0] - 1e-12).mean())
    ratio = sds[1] / sds[0] if sds[0] else (1.0 if not sds[1] else math.inf)
    return Steadier(ratio, p, (len(groups[0]), len(groups[1])))
