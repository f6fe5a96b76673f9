"""Eight-bit weights: off by half a step at most, and the bytes are those of bitsandbytes and torchao."""

import importlib.util
import json
from pathlib import Path

import pytest
import torch
from torch import nn

from tunesmith.model.int8 import Packed
from tunesmith.model.packed import PackedLinear

RECORDED = json.loads(Path(__file__).with_name("int8.json").read_text())["cases"]


def libraries():
    spec = importlib.util.spec_from_file_location("by_libraries", Path(__file__).with_name("int8_by_libraries.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("case", RECORDED, ids=lambda case: "x".join(map(str, case["shape"])))
def test_bytes_are_those_of_bitsandbytes_and_torchao(case):
    """Recorded by int8_by_libraries.py."""
    packed = Packed.of(libraries().weights(tuple(case["shape"]), case["seed"]))
    assert packed.codes.tolist() == case["codes"] == case["torchao"]
    assert packed.largest.tolist() == case["largest"]
    wanted = torch.tensor(case["back"])
    torch.testing.assert_close(packed.dequantised(torch.float32), wanted, rtol=1e-6, atol=0)


@pytest.mark.parametrize("library", ["bitsandbytes", "torchao"])
def test_bytes_are_those_of_the_library_that_is_installed(library):
    pytest.importorskip(library)
    weight = torch.randn(40, 96, generator=torch.Generator().manual_seed(1))
    packed = Packed.of(weight)
    if library == "bitsandbytes":
        found = libraries().by_bitsandbytes(weight)
        assert (packed.codes.tolist(), packed.largest.tolist()) == (found["codes"], found["largest"])
    else:
        assert packed.codes.tolist() == libraries().by_torchao(weight)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_each_weight_is_off_by_half_a_step_at_most(dtype):
    weight = (torch.randn(64, 96, generator=torch.Generator().manual_seed(0)) * 0.03).to(dtype)
    weight[3] = 0
    weight[4, 0] = 1e4  # an outlier coarsens its own row and no other
    packed = Packed.of(weight)
    step = weight.double().abs().amax(1, keepdim=True) / 127
    away = (weight.double() - packed.dequantised(torch.float64)).abs()
    assert (away <= step / 2 * (1 + 1e-5)).all()
    assert not packed.dequantised(torch.float32)[3].any()
    assert away[5:].max() < 1e-3 < away[4].max()


def test_bytes_are_one_a_weight_and_four_a_row():
    packed = Packed.of(torch.randn(24, 50))
    assert packed.num_bytes == Packed.size(24, 50) == 24 * 50 + 24 * 4
    assert sum(t.numel() * t.element_size() for t in packed.file_tensors("float32").values()) == (
        packed.num_bytes + Packed.more_in_file
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_forward_and_backward_are_those_of_the_dequantised_weight(dtype):
    torch.manual_seed(0)
    layer = PackedLinear.of(nn.Linear(70, 50).to(dtype), "int8")
    x = torch.randn(2, 6, 70, dtype=dtype, requires_grad=True)
    wanted = nn.functional.linear(x, layer.dequantised(), layer.bias)
    expected = torch.autograd.grad(wanted.float().square().sum(), x)[0]
    out = layer(x)
    assert layer.dequantised().dtype == dtype and torch.equal(out, wanted)
    assert torch.equal(torch.autograd.grad(out.float().square().sum(), x)[0], expected)
    assert layer.to(torch.bfloat16).largest.dtype == torch.float32
