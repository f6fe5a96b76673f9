"""What a run chooses when nobody said."""

import pytest

from tunesmith.train.defaults import learning_rate, pass_tokens, steps


def test_narrow_models_learn_faster():
    assert learning_rate(2e-4, 4096) == pytest.approx(2e-4)
    assert learning_rate(2e-4, 256) == pytest.approx(3.2e-3, rel=0.01)
    assert learning_rate(2e-5, 256, power=1.4) == pytest.approx(9.7e-4, rel=0.02)
    assert learning_rate(2e-5, 1024) < learning_rate(2e-5, 256)


def test_passes_fit_a_quarter_of_the_memory():
    for memory in (1 << 30, 8 << 30, 64 << 30):
        found = pass_tokens(1024, 24, 32000, memory)
        assert found == 512 or found * 2 * 34 * 1024 * 24 <= memory / 4
    assert pass_tokens(32, 1, 288, 64 << 30) == 16384


@pytest.mark.parametrize(
    ("given", "number"),
    [
        ({"epochs": None, "steps": None, "minutes": None}, 30),
        ({"epochs": 2, "steps": None, "minutes": None}, 20),
        ({"epochs": 0.25, "steps": None, "minutes": None}, 3),
        ({"epochs": None, "steps": 7, "minutes": None}, 7),
        ({"epochs": 2, "steps": 7, "minutes": None}, 7),
        ({"epochs": 2, "steps": 100, "minutes": None}, 20),
        ({"epochs": None, "steps": None, "minutes": 1}, 120),
        ({"epochs": 3, "steps": None, "minutes": 1}, 30),
        ({"epochs": None, "steps": None, "minutes": 1e-9}, 1),
    ],
)
def test_the_least_of_epochs_steps_and_minutes(given, number):
    assert steps(per_epoch=10, seconds_each=0.5, **given)[0] == number
