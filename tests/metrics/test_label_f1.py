"""label_f1: scikit-learn's macro and micro F1 over several labels a row."""

import json

import numpy as np
import pytest
from sklearn.metrics import f1_score

from tunesmith.metrics.label_f1 import LabelF1
from tunesmith.testing import check_metric

LABELS = list("abcd")


def test_keeps_what_the_shelf_promises():
    rows = [
        {"id": str(i), "origin": f"r:{i}", "answer": json.dumps(gold)}
        for i, gold in enumerate([["a"], ["a", "b"], ["c"]])
    ]
    check_metric(LabelF1(), rows)


def test_equals_scikit_learn():
    rng = np.random.default_rng(0)
    gold, said = (rng.random((60, 4)) < share for share in (0.4, 0.5))
    gold[0] = True  # each label occurs

    def names(row):
        return json.dumps([label for label, on in zip(LABELS, row) if on])

    metric = LabelF1()
    summary = metric.summary([metric.score(names(s), {"answer": names(g)}) for g, s in zip(gold, said)])
    assert summary.value == pytest.approx(f1_score(gold, said, average="macro"))
    assert summary.extra["micro_f1"] == pytest.approx(f1_score(gold, said, average="micro"))
    assert summary.extra["all_right"] == np.mean((gold == said).all(1))
    each = f1_score(gold, said, average=None)
    assert [summary.extra["per_class"][label]["f1"] for label in LABELS] == pytest.approx(each.tolist())


def test_one_name_alone_and_names_that_nobody_has():
    metric = LabelF1()
    assert metric.score("a", {"answer": '["a"]'})["score"] == 1.0
    assert metric.score("[]", {"answer": "[]"})["score"] == 1.0
    value = metric.score('["a", "x"]', {"answer": "a"})
    assert value["score"] == pytest.approx(2 / 3)
    assert metric.summary([value]).extra["micro_f1"] == pytest.approx(2 / 3)
