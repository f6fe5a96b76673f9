"""What past runs teach: the error bar, from a file of this user's."""

import pytest

from tunesmith.plan import calibrate
from tunesmith.plan.devices import device
from tunesmith.plan.rates import Rates, Seconds, of_device, seconds, step_seconds


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TUNESMITH_CACHE", str(tmp_path / "cache"))


def test_the_first_bar_stands_until_there_are_five_runs():
    for _ in range(4):
        calibrate.note("cpu", predicted=1.0e9, measured=1.001e9)
    assert calibrate.error("cpu") == calibrate.FIRST["cpu"]
    calibrate.note("cpu", predicted=1.0e9, measured=1.001e9)
    assert calibrate.error("cpu") == 0.01
    assert calibrate.error("cuda") == calibrate.FIRST["cuda"]


def test_a_bad_plan_widens_the_bar():
    for measured in (1.0, 1.0, 1.0, 1.0, 1.1):
        calibrate.note("cpu", predicted=1.0, measured=measured)
    assert calibrate.error("cpu") == pytest.approx(1.5 * (1 - 1 / 1.1))


def test_a_torn_file_is_as_none(tmp_path):
    calibrate.note("cpu", predicted=1.0, measured=1.0)
    calibrate.place().write_text("{")
    assert calibrate.error("cpu") == calibrate.FIRST["cpu"] and calibrate.rates("cpu") is None


def test_rates_are_kept():
    calibrate.keep_rates("cpu", Rates({"float32": 1e11}, 1e10, 0.0, True))
    assert calibrate.rates("cpu").flops == {"float32": 1e11}


def test_a_call_takes_the_longer_of_multiplying_and_moving():
    rates = Rates({"float32": 100.0}, 10.0, 1.0, True)
    work = {("passes", "float32", 1000, 10): 2, ("update", "float32", 0, 500): 1}
    assert seconds(work, rates) == Seconds(passes=2 * (10.0 + 1.0), update=50.0 + 1.0)


def test_a_memory_size_has_no_speed():
    assert of_device(device("12GB")) is None and of_device(device("T4")).flops["float16"] > 1e13


def test_the_pace_is_the_median_of_what_steps_took_on_that_device():
    assert calibrate.pace("cpu") == 1.0
    for took in (1.5, 2.0, 4.0):
        calibrate.note_step("cpu", predicted=1.0, measured=took)
    calibrate.note_step("NVIDIA T4", predicted=1.0, measured=0.5)
    assert calibrate.pace("cpu") == 2.0 and calibrate.pace("NVIDIA T4") == 0.5 and calibrate.pace("H100") == 1.0
    calibrate.note_step("cpu", predicted=0.0, measured=1.0)  # nothing was foretold
    assert calibrate.pace("cpu") == 2.0


def test_two_steps_are_timed_after_one_that_warms_up():
    now, made = [0.0], []

    def step():
        made.append(now[0])
        now[0] += 10.0 if len(made) == 1 else 3.0

    def ready():
        now[0] += 1.0  # the device catches up

    assert step_seconds(step, ready=ready, clock=lambda: now[0]) == 4.0 and len(made) == 3
