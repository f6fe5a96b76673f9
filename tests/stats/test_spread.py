"""The spread over seeds: scipy's intervals, an exact test with few seeds, its level kept."""

import math
from itertools import combinations

import numpy as np
import pytest
from scipy import stats

from tunesmith.stats.spread import spread, steadier


def test_intervals_are_scipys():
    values = np.random.default_rng(0).normal(3, 2, size=7)
    found = spread(values)
    low, high = stats.t.interval(0.95, 6, loc=values.mean(), scale=stats.sem(values))
    assert (found.mean, found.low, found.high) == pytest.approx((values.mean(), low, high))
    assert found.sd == pytest.approx(values.std(ddof=1))
    wanted = [values.std(ddof=1) * math.sqrt(6 / stats.chi2.ppf(q, 6)) for q in (0.975, 0.025)]
    assert [found.sd_low, found.sd_high] == pytest.approx(wanted)
    assert (found.least, found.most, found.n) == (values.min(), values.max(), 7)


def test_one_seed_has_no_spread():
    one = spread([0.5])
    assert math.isnan(one.sd) and one.low == -math.inf and one.sd_high == math.inf
    with pytest.raises(ValueError, match="two seeds"):
        steadier([0.5], [0.1, 0.2])


def test_with_few_seeds_every_way_to_deal_is_tried():
    a, b = np.array([1.0, 1.1, 0.9, 1.05]), np.array([3.0, 0.2, 5.0, 1.0])
    distances = [*np.abs(a - np.median(a)), *np.abs(b - np.median(b))]

    def gap(chosen):
        rest = [d for i, d in enumerate(distances) if i not in chosen]
        return abs(np.mean([distances[i] for i in chosen]) - np.mean(rest))

    gaps = [gap(chosen) for chosen in combinations(range(8), 4)]
    found = steadier(a, b)
    assert found.p == pytest.approx(np.mean([g >= gap((0, 1, 2, 3)) - 1e-12 for g in gaps]))
    assert found.ratio == pytest.approx(b.std(ddof=1) / a.std(ddof=1)) and found.n == (4, 4)


def test_large_samples_agree_with_brown_and_forsythe():
    draw = np.random.default_rng(1)
    for scale in (1.0, 1.3, 2.5):
        a, b = draw.normal(size=60), draw.normal(scale=scale, size=60)
        assert steadier(a, b).p == pytest.approx(stats.levene(a, b, center="median").pvalue, abs=0.02)
    assert steadier(a, b) == steadier(a, b)


def test_the_level_is_kept():
    draw = np.random.default_rng(2)
    p = [steadier(draw.normal(size=5), draw.normal(5, size=5)).p for _ in range(400)]
    assert 0.01 <= np.mean(np.array(p) < 0.05) <= 0.08
