"""What an evaluation says beside its scores: nothing where there is nothing to say, and every figure in both languages."""

import re

import pytest

from tunesmith.api.scored import told
from tunesmith.stats.summary import Summary

FACTS = {
    "rated": {"good": 31, "bad_left_out": 17},
    "too_long": {"policy": "trim_prompt", "trimmed": 43},
    "thinking": {"answers": 29, "unfinished": 13},
    "panel_left_out": "seq2seq",
    "base": {"comparisons": [{"metric": "chrf", "verdict": "after is better than before by 7"}]},
    "samples": {"n": 5, "agreement": Summary(0.84, 61, 0.8, 0.88, "higher", {}).as_dict(),
                "metrics": {"f1": {"mean": 0.5, "deviation": 0.01, "least": 0.49, "most": 0.51}}},
}  # fmt: skip
FIGURES = {
    "rated": {"31", "17"}, "too_long": {"43", "61"}, "thinking": {"29", "13"}, "panel_left_out": {"seq2seq"}, "base": {"7"},
    "samples": {"5", "84.0", "80.0", "88.0", "0.500", "0.010", "0.490", "0.510"},
}  # fmt: skip


@pytest.mark.parametrize("korean", [False, True])
@pytest.mark.parametrize("fact", FACTS)
def test_each_fact_is_told_with_its_figures(fact, korean):
    text = "\n".join(told({"n": 61, "metrics": {}, fact: FACTS[fact]}, korean))
    assert all(figure in text for figure in FIGURES[fact]), text
    assert bool(re.search("[가-힣]", text)) == (
        korean and fact != "base"
    )  # a verdict comes in the language it was made in


def test_of_rows_left_out_and_of_rated_answers():
    assert told({"n": 61, "metrics": {"chrf": {"extra": {}}}}, False) == []
    assert told({"n": 61, "metrics": {}, "too_long": {"policy": "drop", "left_out": 9}}, False) == [
        "9 rows were too long and were not asked (too_long: drop); 61 were."
    ]
    extra = {"good": {"mean": 1.5, "n": 4}, "bad": {"mean": -0.25, "n": 2}}
    assert told({"n": 6, "metrics": {"reward": {"extra": extra}}}, False) == [
        "Rated good: mean reward 1.500 (4); rated bad: -0.250 (2)."
    ]
