"""Learning rates by optimiser step."""

import math
from typing import get_type_hints

import pytest

from tunesmith.core.errors import SettingError
from tunesmith.core.fill import choices
from tunesmith.train.schedule import SCHEDULES, learning_rate, warmup_steps
from tunesmith.train.settings import TrainSettings


def rates(steps=10, **settings):
    return [learning_rate(step=i, steps=steps, lr=1.0, **settings) for i in range(steps)]


def test_warmup_is_a_share_or_a_number():
    assert warmup_steps(200, 0.05) == 10
    assert warmup_steps(200, 7) == 7
    assert warmup_steps(5, 50) == 5
    assert rates(warmup=4)[:5] == [0.25, 0.5, 0.75, 1.0, 1.0]


def test_linear_ends_one_step_above_zero():
    assert rates(schedule="linear") == pytest.approx([1 - i / 10 for i in range(10)])


def test_cosine_equals_its_formula():
    wanted = [0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * i / 10)) for i in range(10)]
    assert rates(schedule="cosine", min_lr=0.1) == pytest.approx(wanted)


def test_constant_stays():
    assert rates(schedule="constant", warmup=2) == [0.5, *[1.0] * 9]


def test_wsd_falls_in_the_last_fifth():
    assert rates(steps=20, schedule="wsd")[:17] == [1.0] * 17
    assert rates(steps=20, schedule="wsd")[17:] == pytest.approx([0.75, 0.5, 0.25])


def test_wsd_equals_its_formula():
    """Rise, stay, then a straight line from the peak at 4/5 of the steps to the floor at their end (Hu et al. 2024)."""
    steps, rise, floor = 50, 5, 0.1
    wanted = [
        (i + 1) / rise if i < rise else 1.0 if i <= 40 else floor + (1 - floor) * (steps - i) / (steps - 40)
        for i in range(steps)
    ]
    assert rates(steps=steps, schedule="wsd", warmup=0.1, min_lr=floor) == pytest.approx(wanted)


def test_a_project_may_choose_every_schedule():
    assert tuple(choices(get_type_hints(TrainSettings)["schedule"])) == SCHEDULES
    assert TrainSettings(schedule="wsd").schedule == "wsd"


@pytest.mark.parametrize("schedule", ["constant", "linear", "cosine", "wsd"])
def test_never_above_the_peak_nor_below_the_floor(schedule):
    for steps in (1, 2, 3, 50):
        found = rates(steps=steps, schedule=schedule, warmup=0.1, min_lr=0.05)
        assert all(0.05 - 1e-9 <= rate <= 1 + 1e-9 for rate in found[warmup_steps(steps, 0.1) :])
        assert all(0 < rate <= 1 for rate in found)


def test_an_unknown_schedule_is_told():
    with pytest.raises(SettingError, match="cosin"):
        learning_rate(step=0, steps=10, lr=1.0, schedule="cosin")
