"""Number formats: our rounding is bit by bit that of torch; the table of the notes, computed."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from tunesmith.model.formats import FORMATS, NF4, holds, loss_of_loading, table, warning

TORCH = {
    "fp64": torch.float64, "fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16,
    "fp8_e4m3": torch.float8_e4m3fn, "fp8_e5m2": torch.float8_e5m2,
}  # fmt: skip


def same(one: float, other: float) -> bool:
    return (math.isnan(one) and math.isnan(other)) or one == other


@pytest.mark.parametrize("name", TORCH)
@settings(max_examples=300, deadline=None)
@given(st.floats(width=32, allow_nan=False))
def test_rounding_is_that_of_torch(name, value):
    """From fp32: torch casts fp64 to FP8 by way of fp32, which rounds twice. Beyond E4M3's reach torch's versions differ."""
    if name == "fp8_e4m3" and abs(value) > 448:
        assert math.isnan(FORMATS[name].round(value)) if math.isinf(value) else abs(FORMATS[name].round(value)) == 448
        return
    expected = float(torch.tensor(value, dtype=torch.float32).to(TORCH[name]).double())
    assert same(FORMATS[name].round(value), expected)


@settings(max_examples=300, deadline=None)
@given(st.floats(allow_nan=False))
def test_fp32_of_any_double(value):
    assert same(FORMATS["fp32"].round(value), float(torch.tensor(value, dtype=torch.float64).float().double()))


@pytest.mark.parametrize("name", ["fp16", "bf16", "fp8_e5m2"])
def test_ties_go_to_the_even_number(name):
    one = FORMATS[name]
    assert one.round(1 + one.step / 2) == 1.0
    assert one.round(1 + 3 * one.step / 2) == 1 + 2 * one.step


@pytest.mark.parametrize("name", TORCH)
def test_reach_and_fineness_are_those_torch_tells(name):
    told, one = torch.finfo(TORCH[name]), FORMATS[name]
    assert one.largest == told.max
    assert one.smallest_normal == told.smallest_normal
    assert one.step == told.eps
    assert one.bits == told.bits
    assert one.round(one.smallest) == one.smallest > 0
    assert one.round(one.smallest / 2) == 0


def test_tf32_is_fp32_with_13_bits_taken_off():
    value = 1 + 2**-10 + 2**-12
    assert FORMATS["tf32"].round(value) == 1 + 2**-10
    assert FORMATS["tf32"].largest < FORMATS["fp32"].largest
    assert FORMATS["tf32"].smallest_normal == FORMATS["fp32"].smallest_normal


def test_the_notes_example():
    """E6: FP16 of 123456.789 is inf, the wide formats only lose digits."""
    found = {line.format.name: line for line in table(123456.789)}
    assert found["fp16"].rounded == math.inf and found["fp16"].error == math.inf
    assert found["bf16"].rounded == 123392.0
    assert found["fp32"].rounded == 123456.7890625
    assert found["tf32"].rounded == 123456.0
    assert found["fp64"].error == 0
    assert found["fp8_e4m3"].rounded == 448 and math.isinf(found["fp8_e5m2"].rounded)
    assert [*found] == ["fp64", "fp32", "tf32", "bf16", "fp16", "fp8_e4m3", "fp8_e5m2", "int8", "int4", "nf4"]


def test_a_block_sets_the_scale_of_integers():
    found = {line.format.name: line.rounded for line in table(1.0, block=[12.7])}
    assert found["int8"] == pytest.approx(1.0)  # ten steps of 12.7 / 127
    assert found["int4"] == pytest.approx(12.7 / 7)
    assert found["nf4"] == pytest.approx(NF4[8] * 12.7)
    assert {line.format.name: line.rounded for line in table(1.0)}["nf4"] == 1.0


def test_integers_round_like_torch_does_by_hand():
    values = torch.randn(64, generator=torch.Generator().manual_seed(0)).double()
    scale = float(values.abs().max())
    for name, top in (("int8", 127), ("int4", 7)):
        expected = (values * top / scale).round().clamp(-top, top) * scale / top
        found = [FORMATS[name].round(float(value), scale) for value in values]
        assert torch.tensor(found, dtype=torch.float64) == pytest.approx(expected, rel=1e-12)


def test_loading_tells_what_is_lost(tmp_path):
    save_file({"w": torch.tensor([1.0, 70000.0, 1e-9, 0.1], dtype=torch.bfloat16)}, tmp_path / "model.safetensors")
    assert loss_of_loading(tmp_path, torch.float32) is None
    assert loss_of_loading(tmp_path, torch.bfloat16) is None
    lost = loss_of_loading(tmp_path, torch.float16)
    assert lost == {"stored": "bf16", "loaded": "fp16", "changed": 0.5, "infinite": 1, "zeroed": 1, "worst": 0.0}
    assert "50.0% of its weights changed" in warning(lost, "base") and "1 became infinite" in warning(lost, "base")


def test_what_holds_what():
    assert holds(FORMATS["fp32"], FORMATS["bf16"]) and holds(FORMATS["fp32"], FORMATS["fp16"])
    assert not holds(FORMATS["bf16"], FORMATS["fp16"]) and not holds(FORMATS["fp16"], FORMATS["bf16"])
