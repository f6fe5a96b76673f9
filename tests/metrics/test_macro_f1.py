"""macro_f1 against scikit-learn, and its bootstrap against a plain one."""

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix, f1_score, precision_recall_fscore_support

from tunesmith.metrics.macro_f1 import MacroF1


def made(n=300, classes="abcde", seed=0):
    rng = np.random.default_rng(seed)
    gold = rng.choice(list(classes), n, p=np.array([8, 4, 2, 1, 1]) / 16)
    said = np.where(rng.random(n) < 0.7, gold, rng.choice([*classes, "something else"], n))
    metric = MacroF1()
    return gold, said, [metric.score(s, {"answer": g}) for s, g in zip(said, gold)]


def test_equals_scikit_learn_over_the_classes_of_the_references():
    gold, said, values = made()
    summary = MacroF1().summary(values)
    labels = list("abcde")
    assert summary.value == pytest.approx(f1_score(gold, said, labels=labels, average="macro", zero_division=0))
    precision, recall, f1, n = precision_recall_fscore_support(gold, said, labels=labels, zero_division=0)
    for i, label in enumerate(labels):
        found = summary.extra["per_class"][label]
        assert (found["precision"], found["recall"], found["f1"], found["n"]) == pytest.approx(
            (precision[i], recall[i], f1[i], n[i])
        )
    oracle = confusion_matrix(gold, said, labels=[*labels, "something else"])[:5]
    assert np.array_equal(np.array(summary.extra["confusion"]["matrix"]), oracle)


def test_interval_is_a_bootstrap_of_rows():
    gold, said, values = made(n=120)
    summary = MacroF1().summary(values)
    rng = np.random.default_rng(1)
    draws = []
    for _ in range(400):
        i = rng.integers(0, 120, 120)
        draws.append(f1_score(gold[i], said[i], labels=sorted(set(gold[i])), average="macro", zero_division=0))
    low, high = np.quantile(draws, [0.025, 0.975])
    assert (summary.low, summary.high) == pytest.approx((low, high), abs=0.03)
    assert summary.low < summary.value < summary.high


def test_all_right_still_has_an_interval_and_json_fields_are_read():
    metric = MacroF1(field="intent")
    values = [metric.score('{"intent": "a"}', {"answer": '{"intent": "a"}'})] * 20
    summary = metric.summary(values)
    assert summary.value == 1.0 and 0.8 < summary.low < 0.9 and summary.high == 1.0
    assert metric.score("no json", {"answer": '{"intent": "a"}'})["predicted"] is None
