"""accuracy: mean of right labels, per class, JSON fields."""

import numpy as np
import pytest

from tunesmith.core.errors import DataError
from tunesmith.metrics.accuracy import Accuracy


def test_equals_numpys_mean_with_the_share_per_class():
    rng = np.random.default_rng(0)
    gold, said = rng.choice(list("abc"), 200), rng.choice(list("abc"), 200)
    metric = Accuracy()
    summary = metric.summary([metric.score(s, {"answer": g}) for s, g in zip(said, gold)])
    assert summary.value == pytest.approx(np.mean(gold == said)) and summary.n == 200
    assert summary.extra["per_class"]["b"]["right"] == pytest.approx(np.mean(said[gold == "b"] == "b"))


def test_a_field_of_a_json_answer():
    metric = Accuracy(field="intent")
    row = {"answer": '{"intent": "refund", "why": "late"}'}
    assert metric.score('{"why": "?", "intent": "refund"}', row) == {
        "score": 1.0,
        "gold": "refund",
        "predicted": "refund",
    }
    assert metric.score('{"intent": "refund"', row)["predicted"] is None
    assert metric.score('I think {"intent": "refund"}', row)["score"] == 0.0
    assert Accuracy(field="intent", inside_text=True).score('I think {"intent": "refund"}', row)["score"] == 1.0
    assert (
        metric.score('{"intent": "a", "intent": "refund"}', row)["score"] == 0.0
    )  # which one would another parser take?
    assert metric.summary([metric.score("nothing", row)]).extra["unreadable"] == 1.0


def test_a_row_without_the_field_is_found_before_anything_is_asked():
    with pytest.raises(DataError, match="a.csv:2"):
        Accuracy(field="intent").check({"answer": "refund", "origin": "a.csv:2"})
