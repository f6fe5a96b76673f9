"""A limit that the kernel enforces: what stays counts once, what comes and goes leaves holes."""

from tunesmith.plan import within
from tunesmith.plan.forecast import RUNTIME, Forecast
from tunesmith.plan.setup import Setup

SETUP = Setup(adapter="lora", precision="fp32", checkpointing=False, length=64, pass_tokens=64)


def seen(parameters: int = 1_000_000, **phases: int) -> Forecast:
    kinds = {"weights": 40 << 20, "optimizer": 20 << 20, "activations": 100 << 20, "temporaries": 4 << 20}
    live = sum(kinds.values())
    return Forecast(
        live=live, kinds=kinds, where="", allocated=live, reserved=live, device=live, phases={"step": live, **phases}, error=0.5,
        memory=600 << 20, flops=0, tokens=64, parameters=parameters, trainable=1, seconds_pass=None, seconds_update=None, setup=SETUP,
    )  # fmt: skip


def test_holes_are_those_of_what_comes_and_goes():
    found = within.within(seen())
    assert found.device == within.WRITTEN + (60 << 20) + round(within.HOLES * (104 << 20))
    assert found.error == within.ERROR and found.fits and found.live == seen().live


def test_the_highest_phase_counts():
    assert within.within(seen(save=900 << 20)).device == within.WRITTEN + (900 << 20)
    assert not within.within(seen(save=900 << 20)).fits


def test_a_large_model_is_planned_in_the_process_itself():
    assert within.within(seen(within.PLANS)).device - within.within(seen()).device == RUNTIME - within.WRITTEN
