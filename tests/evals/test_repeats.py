"""Agreement and spread of answers drawn several times, by hand."""

from pathlib import Path

import pytest

from tunesmith.core.errors import DataError
from tunesmith.evals.files import Evaluation
from tunesmith.evals.repeats import spread


def drawn(answers, value, ids="abcd"):
    lines = [{"id": id, "answer": "x", "prediction": said} for id, said in zip(ids, answers)]
    return Evaluation(Path("e"), {"name": "e", "rows_hash": ids, "metrics": {"f1": {"value": value}}}, lines)


def test_agreement_is_the_share_of_equal_pairs_and_deviation_that_of_a_sample():
    found = spread([
        drawn(["yes", "a", "b", " one  two"], 0.5), drawn(["yes", "a", "c", "one two"], 0.6), drawn(["yes", "d", "d", "one two"], 0.1),
    ])  # fmt: skip
    assert found["n"] == 3 and found["agreement"]["value"] == pytest.approx((1 + 1 / 3 + 0 + 1) / 4)
    assert found["agreement"]["n"] == 4 and 0 <= found["agreement"]["low"] < found["agreement"]["high"] <= 1
    assert found["metrics"]["f1"] == {
        "mean": pytest.approx(0.4),
        "deviation": pytest.approx(0.2645751),
        "least": 0.1,
        "most": 0.6,
    }
    same = spread([drawn("abcd", 0.5), drawn("abcd", 0.5)])
    assert same["agreement"]["value"] == 1.0 and same["metrics"]["f1"]["deviation"] == 0.0


def test_rows_are_matched_by_id_and_one_draw_is_refused():
    turned = spread([drawn("wxyz", 0.5, "abcd"), drawn("zyxw", 0.5, "dcba")])
    assert turned["agreement"]["value"] == 1.0
    with pytest.raises(DataError, match="no spread"):
        spread([drawn("abcd", 0.5)])
    with pytest.raises(DataError, match="not made on the same rows"):
        spread([drawn("abcd", 0.5), drawn("abc", 0.5, "abe")])
