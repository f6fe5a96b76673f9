"""Paired tests against published tables, scipy, and simulation of level and power."""

import numpy as np
import pytest
from scipy import stats

from tunesmith.stats.paired import (
    mcnemar,
    mcnemar_p,
    paired_difference_interval,
    paired_means,
    paired_statistic,
    permutation_p,
)


def table(both, only_a, only_b, neither):
    a = [1] * both + [1] * only_a + [0] * only_b + [0] * neither
    b = [1] * both + [0] * only_a + [1] * only_b + [0] * neither
    return a, b


@pytest.mark.parametrize("only_a, only_b", [(0, 0), (0, 6), (3, 9), (12, 12), (86, 150), (2000, 2200)])
def test_p_equals_scipys_binomial(only_a, only_b):
    n, k = only_a + only_b, min(only_a, only_b)
    exact = stats.binomtest(k, n).pvalue if n else 1.0
    assert mcnemar_p(only_a, only_b, mid=False) == pytest.approx(exact, rel=1e-9)
    mid = min(1.0, 2 * stats.binom.cdf(k, n, 0.5) - stats.binom.pmf(k, n, 0.5)) if n else 1.0
    assert mcnemar_p(only_a, only_b, mid=True) == pytest.approx(mid, rel=1e-9)


def test_exact_under_25_discordant_pairs_else_mid_p():
    assert mcnemar(*table(10, 8, 16, 5)).test == "McNemar, exact"
    assert mcnemar(*table(10, 8, 17, 5)).test == "McNemar, mid-p"
    # Agresti's approval ratings: 794, 150, 86, 570; z = 4.17, p = .00003
    outcome = mcnemar(*table(794, 150, 86, 570))
    assert outcome.p == pytest.approx(3e-5, rel=0.2) and outcome.difference == pytest.approx(-0.04)


@pytest.mark.parametrize(
    "cells, low, high",
    [
        ((36, 2, 12, 0), 0.0569, 0.3404),  # Newcombe 1998, method 10
        ((1, 7, 1, 12), -0.5069, -0.0256),  # Bentur et al. 2009, in Fagerland, Lydersen and Laake
        ((59, 16, 6, 80), -0.1186, -0.0046),  # Cavo et al. 2012, same book
    ],
)
def test_interval_of_the_paired_difference_equals_published_values(cells, low, high):
    assert paired_difference_interval(*cells) == pytest.approx((low, high), abs=6e-5)


def test_equal_runs_are_never_told_apart():
    a = [1, 0, 1, 1, 0]
    outcome = mcnemar(a, a)
    assert outcome.p == 1.0 and outcome.difference == 0 and not outcome.told_apart()
    values = [0.2, 0.7, 0.1]
    assert paired_means(values, values, resamples=100).p == 1.0


def test_mcnemar_level_and_power_as_simulated_in_the_design():
    rng = np.random.default_rng(0)
    wins, null = 0, 0
    for _ in range(500):
        kind = rng.choice(3, size=500, p=[0.08, 0.04, 0.88])  # B alone right, A alone right, the same
        same = rng.random(500) < 0.7
        a, b = np.where(kind == 2, same, kind == 1), np.where(kind == 2, same, kind == 0)
        wins += mcnemar(a, b).p < 0.05
        swap = rng.random(500) < 0.5
        null += mcnemar(np.where(swap, a, b), np.where(swap, b, a)).p < 0.05
    assert 0.62 < wins / 500 < 0.82  # .70 of 2,000 repetitions
    assert null / 500 < 0.06


def test_permutation_enumerates_few_and_samples_many():
    assert permutation_p([1.0, 2.0, 3.0]) == 0.25  # 2 of 8 patterns are as extreme
    assert permutation_p([0.0, 0.0]) == 1.0
    away = np.random.default_rng(1).normal(0.3, 1, 40)
    theirs = stats.permutation_test(
        (away,), np.mean, permutation_type="samples", n_resamples=20_000, rng=np.random.default_rng(2)
    ).pvalue
    assert permutation_p(away, resamples=20_000) == pytest.approx(theirs, abs=0.01)
    assert permutation_p(away) == permutation_p(away)


def test_paired_means_keep_their_level():
    rng = np.random.default_rng(3)
    found = 0
    for number in range(300):
        shared = rng.normal(size=40)
        a, b = shared + 0.3 * rng.normal(size=40), shared + 0.3 * rng.normal(size=40)
        found += paired_means(a, b, resamples=1_000, seed=number).p < 0.05
    assert found / 300 < 0.085


def test_paired_statistic_of_a_mean_agrees_with_paired_means():
    rng = np.random.default_rng(4)
    a = rng.random(60)
    b = a + rng.normal(0.05, 0.2, 60)
    values = np.concatenate([a, b])
    general = paired_statistic(lambda counts: counts @ values / counts.sum(1), 60)
    plain = paired_means(a, b)
    assert general.difference == pytest.approx(plain.difference, abs=1e-12)
    assert (general.low, general.high) == pytest.approx((plain.low, plain.high), abs=1e-9)
    assert general.p == pytest.approx(plain.p, abs=0.02)


def test_clusters_widen_the_interval_and_the_p():
    rng = np.random.default_rng(5)
    a = np.zeros(80)
    b = rng.normal(0.3, 1, 10).repeat(8)
    alone, together = paired_means(a, b), paired_means(a, b, clusters=np.arange(10).repeat(8).tolist())
    assert together.high - together.low > 1.5 * (alone.high - alone.low) and together.p > alone.p


def test_unequal_lengths_and_other_values_are_refused():
    with pytest.raises(ValueError, match="equally long"):
        mcnemar([1, 0], [1])
    with pytest.raises(ValueError, match="0 and 1"):
        mcnemar([0.5, 1], [1, 1])
