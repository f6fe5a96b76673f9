"""However a run is cut - into passes, padded or packed, stopped and gone on - its trajectory is the same: what is left of the
difference is rounding, tiny and without a sign.

One sample a trial (its own weights and rows), not one a step: what the first step rounds, the later ones carry on. The sign test
is two-sided at LEVEL for each way and figure; with `TRIALS` trials it can see a drift far below the bound on the size.
"""

from dataclasses import replace
from math import comb

import numpy as np
import pytest

TRIALS, STEPS, LEVEL = 15, 4, 1e-4
TINY = 1e-6  # relative; fp32 holds 6e-8 a number
WAYS = {
    "two or three passes": {"pass_tokens": 48},
    "a row a pass": {"pass_tokens": 1},
    "padded": {"layout": "padded"},
    "padded, a row a pass": {"layout": "padded", "pass_tokens": 1},
    "stopped and gone on": {"stop": 2},
    "stopped, gone on in passes": {"stop": 1, "after": {"pass_tokens": 48}},
}


def chance(residuals):
    """The two-sided probability of signs so uneven, if each were as likely as the other; zeros say nothing."""
    up, down = int(np.sum(np.greater(residuals, 0))), int(np.sum(np.less(residuals, 0)))
    few, number = min(up, down), up + down
    return min(1.0, 2 * sum(comb(number, k) for k in range(few + 1)) / 2**number)


def test_the_sign_test_sees_a_drift_that_the_bound_does_not():
    noise = np.random.default_rng(0).normal(0, 1e-8, TRIALS)
    assert chance(noise) > LEVEL
    assert max(abs(noise + 5e-8)) < TINY and chance(noise + 5e-8) < LEVEL
    assert chance([0.0] * TRIALS) == 1.0


@pytest.fixture
def trajectory(train, events, pico, make_units):
    """trajectory(trial, way) -> float64 (2, steps): loss and gradient norm of each step."""

    def run(trial, name, *, layout="packed", stop=None, after=None, **settings):
        lengths = np.random.default_rng([trial, 7]).integers(4, 24, size=9).tolist()
        units, folder = make_units(lengths, seed=trial), f"{trial}-{name}"

        def part(**more):
            model = pico(trial)
            model.proof = replace(model.proof, layout=layout, lean=model.proof.lean and layout == "packed")
            shared = {
                "units": units,
                "dev": None,
                "seed": trial,
                "steps": STEPS,
                "optimizer": "sgd",
                "lr": 0.1,
                "batch_size": 4,
            }
            train(folder, model=model, **{**shared, **settings, **more})

        if stop is not None:
            part(stop_after=stop)
        part(resume=stop is not None, **(after or {}))
        return np.array([[event["loss"], event["grad_norm"]] for event in events(folder, "step")]).T

    return run


@pytest.mark.slow
def test_what_is_left_of_the_difference_is_tiny_and_has_no_sign(trajectory):
    residuals = {name: [] for name in WAYS}
    for trial in range(TRIALS):
        canonical = trajectory(trial, "one pass")
        for name, way in WAYS.items():
            found = trajectory(trial, name, **way)
            assert found.shape == canonical.shape == (2, STEPS)
            residuals[name].append((found - canonical) / canonical)
    told = {}
    for name, some in residuals.items():
        each = np.stack(some)  # (trials, figures, steps)
        told[name] = (np.abs(each).max(), *(chance(each[:, figure].mean(axis=1)) for figure in (0, 1)))
        assert np.abs(each).max() <= TINY, (name, told[name])
        assert min(told[name][1:]) > LEVEL, (name, told[name])
    assert told["stopped and gone on"][0] == 0.0  # that one to the last bit
    assert max(largest for largest, *_ in told.values()) > 0.0  # the ways are no copies of one another
