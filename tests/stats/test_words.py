"""The sentences a reader will quote."""

import math

from tunesmith.stats.paired import Paired
from tunesmith.stats.summary import Summary
from tunesmith.stats.words import no_worse, score, verdict


def test_worse_turns_the_interval_into_sizes():
    outcome = Paired(-0.041, -0.070, -0.012, 0.0002, 1770, "")
    assert verdict(outcome) == "B is worse than A by 4.1 points (95 % 1.2 to 7.0), p < .001, n = 1,770"
    assert verdict(outcome, better="lower") == "B is better than A by 4.1 points (95 % 1.2 to 7.0), p < .001, n = 1,770"


def test_a_small_difference_is_not_told_apart():
    outcome = Paired(0.01, -0.012, 0.032, 0.42, 770, "")
    assert (
        verdict(outcome, a="base", b="lora")
        == "base and lora are not told apart: difference +1.0 points (95 % -1.2 to 3.2), p = .420, n = 770"
    )
    assert "구분되지 않음" in verdict(outcome, lang="ko")


def test_an_adjusted_p_can_take_the_claim_away():
    outcome = Paired(0.041, 0.012, 0.070, 0.02, 770, "")
    assert "is better" in verdict(outcome)
    assert "not told apart" in verdict(outcome, p=0.06) and "p = .060" in verdict(outcome, p=0.06)


def test_other_units():
    outcome = Paired(-0.12, -0.20, -0.04, 0.004, 40, "")
    assert (
        verdict(outcome, better="lower", unit="bits per byte")
        == "B is better than A by 0.120 bits per byte (95 % 0.040 to 0.200), p = .004, n = 40"
    )


def test_no_worse_has_five_outcomes():
    def said(low, high, **more):
        return no_worse(Paired((low + high) / 2, low, high, 0.5, 500, ""), margin=0.01, **more)

    assert said(-0.005, 0.02).startswith("after is not worse than before by more than 1.0 points")
    assert said(-0.008, -0.002).startswith("after is worse than before, but by less than the 1.0 points allowed")
    assert said(-0.05, 0.02).startswith("not shown whether after is worse")
    assert said(-0.05, -0.02).startswith("after is worse than before by more than 1.0 points")
    assert said(-0.05, -0.002).startswith("after is worse than before; whether by less than")
    # lower is better: the same bounds mirrored
    assert said(0.02, 0.05, better="lower").startswith("after is worse than before by more than")
    assert all("n = 500" in said(*bounds, lang="ko") for bounds in [(-0.005, 0.02), (-0.05, 0.02), (-0.05, -0.02)])


def test_score_in_words_and_its_dictionary():
    summary = Summary(0.884, 3080, 0.872, 0.895)
    assert score(summary) == "88.4 % (95 % 87.2 to 89.5, n = 3,080)"
    assert score(Summary(2.5, 1, -math.inf, math.inf), percent=False) == "2.500 (95 % -∞ to ∞, n = 1)"
    open_ended = Summary(2.5, 1, -math.inf, math.inf, "lower")
    assert open_ended.as_dict()["low"] is None and Summary.of_dict(open_ended.as_dict()) == open_ended
