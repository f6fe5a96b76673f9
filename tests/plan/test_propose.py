"""The search over forecasts, on a made-up memory law: the cheapest change first, and what it says of the next notch."""

from dataclasses import replace

import pytest

from tunesmith.plan import propose
from tunesmith.plan.forecast import Forecast
from tunesmith.plan.setup import Setup

WISH = Setup(adapter="full", precision="fp32", checkpointing=False, length=1024, pass_tokens=8192)


def law(memory: int):
    """Weights 100 (bf16 half, qlora an eighth), states 300 when full, a token 0.1 or 0.02 when recomputed."""
    seen: list[Setup] = []

    def look(setup: Setup) -> Forecast:
        seen.append(setup)
        weights = {"full": 400, "lora": 100, "qlora": 25}[setup.adapter_name] / (1 if setup.precision == "fp32" else 2)
        need = int(weights + setup.pass_tokens * (0.02 if setup.checkpointing else 0.1))
        seconds = (
            setup.pass_tokens * (1.33 if setup.checkpointing else 1.0) * (1.5 if setup.adapter_name == "qlora" else 1.0)
        )
        return Forecast(
            live=need, kinds={}, where="", allocated=need, reserved=need, device=need, phases={}, error=0.0, memory=memory,
            flops=0, tokens=setup.pass_tokens, parameters=1, trainable=1, seconds_pass=seconds, seconds_update=0.5, setup=setup,
        )  # fmt: skip

    return look, seen


def into(memory: int):
    look, _ = law(memory)
    return propose.into(WISH, look, unit_tokens=lambda length: length)


def test_what_fits_is_left_alone():
    assert into(2000).changes == ()


def test_fewer_tokens_a_pass_first():
    found = into(900)
    assert found.changes == ("train.pass_tokens=4096",)
    assert found.notch == WISH


def test_checkpointing_when_passes_alone_cannot():
    found = into(450)
    assert "train.checkpointing=true" in found.changes and "precision" not in " ".join(found.changes)
    assert found.forecast.fits and found.slower > 1


def test_then_the_number_format_then_the_adapter_then_the_length():
    assert "train.precision=bf16" in into(250).changes
    assert "adapter=lora" in into(100).changes
    assert "adapter=qlora" in into(40).changes
    assert "length=512" in into(31).changes


def test_nothing_fits():
    assert into(5) is None


def test_one_notch_more_does_not_fit():
    for memory in (40, 100, 250, 450, 900):
        found = into(memory)
        look, _ = law(memory)
        assert found.forecast.fits
        assert (
            found.notch is None or not look(found.notch).fits or found.notch.checkpointing != found.setup.checkpointing
        )


def test_every_method_that_fits_cheapest_first():
    look, _ = law(130)
    found = propose.methods(WISH, look, unit_tokens=lambda n: n, adapters=["full", "lora", "qlora"], precision="bf16")
    assert [each.setup.adapter for each in found] == ["lora", "qlora"]
    assert [each.slower for each in found] == sorted(each.slower for each in found)
    assert found[0].slower == 1.0


@pytest.mark.parametrize(
    ("least", "wanted"), [(1024, [8192, 4096, 2048, 1024]), (3000, [8192, 4096, 3000]), (9000, [9000])]
)
def test_passes_go_down_by_halves_to_one_unit(least, wanted):
    assert list(propose.passes(WISH, least)) == wanted


def test_the_largest_that_fits_is_found_with_few_looks():
    look, seen = law(500)
    wide = replace(WISH, pass_tokens=1 << 20, adapter="lora")
    chosen, forecast, notch = propose.largest(wide, look, 1024)
    assert forecast.fits and not look(notch).fits and chosen.pass_tokens * 2 == notch.pass_tokens
    assert len(seen) < 8
