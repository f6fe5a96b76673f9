"""number_error: scikit-learn's mean absolute error, scipy's correlations; an answer that is no number is not forgotten."""

import numpy as np
import pytest
from scipy.stats import pearsonr, spearmanr
from sklearn.metrics import mean_absolute_error, root_mean_squared_error

from tunesmith.core.errors import DataError
from tunesmith.metrics.number_error import NumberError
from tunesmith.testing import check_metric


def test_keeps_what_the_shelf_promises():
    check_metric(NumberError(), [{"id": str(i), "origin": f"r:{i}", "answer": str(i * 1.5)} for i in range(4)])


def test_equals_scikit_learn_and_scipy():
    rng = np.random.default_rng(0)
    gold = rng.normal(size=50).round(2)
    said = (gold + rng.normal(size=50)).round(2)
    metric = NumberError()
    summary = metric.summary([metric.score(str(s), {"answer": str(g)}) for g, s in zip(gold, said)])
    assert summary.value == pytest.approx(mean_absolute_error(gold, said)) and summary.better == "lower"
    assert summary.extra["rmse"] == pytest.approx(root_mean_squared_error(gold, said))
    assert summary.extra["pearson"] == pytest.approx(pearsonr(gold, said)[0])
    assert summary.extra["spearman"] == pytest.approx(spearmanr(gold, said)[0])


def test_no_number_counts_as_the_mean():
    metric = NumberError()
    values = [metric.score(said, {"answer": gold}) for said, gold in [("1", "1"), ("many", "3"), ("nan", "5")]]
    summary = metric.summary(values)
    assert summary.value == pytest.approx((0 + 0 + 2) / 3) and summary.extra["unreadable"] == pytest.approx(2 / 3)


def test_a_reference_that_is_no_number_is_found_before_anything_is_asked():
    with pytest.raises(DataError, match=r"a\.csv:2"):
        NumberError().check({"answer": "high", "origin": "a.csv:2"})
