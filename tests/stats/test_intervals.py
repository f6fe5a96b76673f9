"""Intervals against published values, scipy, statsmodels' formula written out, and simulation."""

import math

import numpy as np
import pytest
from scipy import stats

from tunesmith.stats import intervals
from tunesmith.stats.intervals import bca, cluster_error, mean_interval, repeated, wilson


@pytest.mark.parametrize(
    "successes, n, low, high",
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_equals_newcombes_published_table(successes, n, low, high):
    found = wilson(successes, n)
    assert found == pytest.approx((low, high), abs=5e-5)


def test_wilson_equals_scipy_at_other_levels_and_is_symmetric():
    for successes, n, confidence in [(3, 7, 0.9), (0, 5, 0.99), (400, 770, 0.95), (7, 7, 0.95)]:
        oracle = stats.binomtest(successes, n).proportion_ci(confidence, method="wilson")
        assert wilson(successes, n, confidence) == pytest.approx((oracle.low, oracle.high), abs=1e-12)
        low, high = wilson(n - successes, n, confidence)
        assert wilson(successes, n, confidence) == pytest.approx((1 - high, 1 - low), abs=1e-12)


def test_wilson_refuses_nonsense():
    for successes, n in [(1, 0), (3, 2), (-1, 4)]:
        with pytest.raises(ValueError):
            wilson(successes, n)


def test_mean_interval_equals_scipy_t():
    values = np.random.default_rng(0).normal(3, 2, 37)
    found = mean_interval(values)
    low, high = stats.t.interval(0.95, 36, loc=values.mean(), scale=stats.sem(values))
    assert (found.low, found.high) == pytest.approx((low, high), abs=1e-12)
    assert found.error == pytest.approx(stats.sem(values), abs=1e-14) and found.n == 37


def test_one_value_has_no_bounds():
    found = mean_interval([2.0])
    assert found.value == 2.0 and (found.low, found.high) == (-math.inf, math.inf)


def test_clusters_of_one_give_the_plain_error_and_real_clusters_the_sandwich():
    rng = np.random.default_rng(1)
    values, clusters = rng.normal(size=60), np.repeat(np.arange(12), 5)
    assert cluster_error(values, range(60)) == pytest.approx(stats.sem(values), abs=1e-14)
    # statsmodels' OLS(y, 1).fit(cov_type="cluster"): CR1 = G/(G-1) * (n-1)/(n-1) * (X'X)^-1 (sum_g X'e e'X) (X'X)^-1
    away = values - values.mean()
    middle = sum((away[clusters == g].sum()) ** 2 for g in range(12))
    assert cluster_error(values, clusters) == pytest.approx(math.sqrt(12 / 11 * middle / 60**2), abs=1e-14)
    assert mean_interval(values, clusters=clusters).n == 12


def test_cluster_interval_keeps_its_level_where_the_plain_one_does_not():
    rng = np.random.default_rng(2)
    covered = {"plain": 0, "cluster": 0}
    clusters = np.repeat(np.arange(30), 8)
    for _ in range(600):
        values = rng.normal(size=30).repeat(8) + 0.5 * rng.normal(size=240)
        for name, found in (("plain", mean_interval(values)), ("cluster", mean_interval(values, clusters=clusters))):
            covered[name] += found.low <= 0 <= found.high
    assert covered["plain"] / 600 < 0.6 and 0.92 < covered["cluster"] / 600 < 0.98


def test_bca_equals_scipys_bca_up_to_its_random_draws():
    values = np.random.default_rng(3).exponential(size=60)
    ours = bca(lambda counts: counts @ values / counts.sum(1), 60, resamples=40_000)
    theirs = stats.bootstrap((values,), np.mean, n_resamples=40_000, method="BCa", rng=np.random.default_rng(9))
    interval = theirs.confidence_interval
    assert (ours.low, ours.high) == pytest.approx((interval.low, interval.high), abs=0.01)
    assert ours.error == pytest.approx(theirs.standard_error, rel=0.03)


def test_bca_of_any_statistic_by_repeating_rows():
    values = np.random.default_rng(4).lognormal(size=80)
    ours = bca(repeated(values, lambda rows: float(np.std(rows))), 80, resamples=4_000)
    theirs = stats.bootstrap(
        (values,), lambda x, axis: np.std(x, axis=axis), n_resamples=4_000, method="BCa", rng=np.random.default_rng(9)
    ).confidence_interval
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), rel=0.06)
    as_list = bca(repeated(list(values), lambda rows: float(np.std(rows))), 80, resamples=50)
    as_array = bca(repeated(values, lambda rows: float(np.std(rows))), 80, resamples=50)
    assert as_list == as_array


def test_bca_is_fixed_by_its_seed_and_refuses_what_is_not_finite():
    values = np.arange(20.0)
    mean = lambda counts: counts @ values / counts.sum(1)
    assert bca(mean, 20, resamples=200) == bca(mean, 20, resamples=200)
    assert bca(mean, 20, resamples=200) != bca(mean, 20, resamples=200, seed=1)
    with pytest.raises(ValueError, match="not finite"):
        bca(lambda counts: np.where(counts[:, 0] == 0, np.nan, 1.0), 5, resamples=100)


def test_bca_pieces_do_not_change_the_answer(monkeypatch):
    values = np.random.default_rng(5).normal(size=50)
    mean = lambda counts: counts @ values / counts.sum(1)
    whole = bca(mean, 50, resamples=500)
    monkeypatch.setattr(intervals, "MOST_CELLS", 50 * 100)
    assert bca(mean, 50, resamples=500) == whole


def test_grouped_jackknife_gives_the_same_acceleration():
    values = np.random.default_rng(6).exponential(size=4_000)
    mean = lambda counts: counts @ values / counts.sum(1)
    rng = np.random.default_rng(0)
    full = intervals._acceleration(mean, 4_000, rng, most_groups=4_000)
    assert intervals._acceleration(mean, 4_000, rng) == pytest.approx(full, rel=0.25)
    assert full == pytest.approx(stats.skew(values) / (6 * math.sqrt(4_000)), rel=1e-3)


def test_bca_covers_the_mean_of_a_skewed_distribution():
    rng = np.random.default_rng(7)
    covered = 0
    for number in range(400):
        values = rng.exponential(size=50)
        found = bca(lambda counts, x=values: counts @ x / counts.sum(1), 50, resamples=1_000, seed=number)
        covered += found.low <= 1 <= found.high
    assert 0.90 < covered / 400 < 0.98
