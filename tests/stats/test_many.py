"""Adjusted p-values against scipy and a worked example."""

import numpy as np
import pytest
from scipy import stats

from tunesmith.stats.many import benjamini_hochberg, holm


def test_holm_on_a_worked_example_keeps_the_order_given():
    # 4 p = .01, .04, .03, .005 -> sorted x (4,3,2,1): .02, .03, .06, .06
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


def test_benjamini_hochberg_equals_scipy():
    ps = np.random.default_rng(0).random(50) ** 2
    assert benjamini_hochberg(ps) == pytest.approx(stats.false_discovery_control(ps).tolist(), abs=1e-12)


def test_never_above_one_never_below_the_raw_and_holm_above_bh():
    ps = np.random.default_rng(1).random(20)
    strict, loose = holm(ps), benjamini_hochberg(ps)
    assert all(p <= b <= h <= 1 for p, b, h in zip(ps, loose, strict))
    assert holm([]) == [] and holm([0.2]) == pytest.approx([0.2])


def test_not_p_values_are_refused():
    with pytest.raises(ValueError):
        holm([0.5, 1.2])
