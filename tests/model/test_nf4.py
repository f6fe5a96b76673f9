"""Four-bit bases: the bytes are bitsandbytes' own, the forward and backward passes are those of the dequantised weight."""

import json
import math
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch
import transformers as hf
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from tunesmith.core.errors import ModelError
from tunesmith.model import nf4
from tunesmith.model.load import load
from tunesmith.model.nf4 import CODEBOOK, Packed
from tunesmith.model.packed import PackedLinear, dequantise_network, quantise_network, weight_bytes

RECORDED = json.loads(Path(__file__).with_name("nf4.json").read_text())["cases"]


def weights(shape, seed):
    number = torch.arange(shape[0] * shape[1], dtype=torch.float64)
    drawn = torch.sin((number + 1) * (12.9898 + seed)) * 43758.5453
    return ((drawn - drawn.floor() - 0.5) * 0.2 * torch.cos(number * 0.01)).float().view(shape)


@pytest.mark.parametrize("case", RECORDED, ids=lambda case: "x".join(map(str, case["shape"])))
def test_bytes_are_those_of_bitsandbytes(case):
    """Recorded by nf4_by_bitsandbytes.py, double quantisation and odd sizes included."""
    packed = Packed.of(weights(case["shape"], case["seed"]))
    assert packed.codes.tolist() == case["codes"]
    assert packed.scales.tolist() == case["scales"]
    assert packed.groups.tolist() == pytest.approx(case["groups"], rel=1e-6)
    assert packed.offset.item() == pytest.approx(case["offset"], rel=1e-6)
    back = packed.dequantised(torch.float32)
    assert back.flatten()[:200].tolist() == pytest.approx(case["back"], rel=1e-6, abs=1e-9)
    assert back.double().abs().sum().item() == pytest.approx(case["sum"], rel=1e-6)


def test_each_weight_becomes_the_nearest_of_sixteen_values():
    weight = torch.randn(32, 64, generator=torch.Generator().manual_seed(0))
    packed = Packed.of(weight)
    scale = weight.abs().amax(1, keepdim=True)
    nearest = (weight / scale)[..., None].sub(torch.tensor(CODEBOOK)).abs().argmin(-1)
    index = torch.stack([packed.codes >> 4, packed.codes & 15], 1).reshape(32, 64)
    assert torch.equal(index.long(), nearest)
    # the scales lose something too, to 8 bits
    wanted = torch.tensor(CODEBOOK)[nearest] * scale
    assert torch.allclose(packed.dequantised(torch.float32), wanted, atol=0.02 * scale.max().item())


def test_a_block_of_zeros_stays_zero():
    weight = torch.zeros(4, 64)
    weight[1] = 0.5
    back = Packed.of(weight).dequantised(torch.float32)
    assert not back[0].any() and not back[2:].any() and torch.allclose(back[1], weight[1], rtol=0.02)


def test_bytes_of_a_weight_are_a_half_and_a_sixty_fourth():
    for out, columns in ((256, 256), (1024, 704)):
        packed = Packed.of(torch.randn(out, columns))
        assert packed.num_bytes / (out * columns) == pytest.approx(0.5 + 1 / 64 + 4 / (64 * 256), rel=1e-3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_forward_and_backward_are_those_of_the_dequantised_weight(dtype):
    torch.manual_seed(0)
    layer = PackedLinear.of(nn.Linear(70, 50).to(dtype), "nf4")
    assert layer.dequantised().dtype == dtype
    x = torch.randn(2, 6, 70, dtype=dtype, requires_grad=True)
    wanted = torch.nn.functional.linear(x, layer.dequantised(), layer.bias)
    expected = torch.autograd.grad(wanted.float().square().sum(), x)[0]
    out = layer(x)
    assert torch.equal(out, wanted)
    assert torch.equal(torch.autograd.grad(out.float().square().sum(), x)[0], expected)


def test_the_backward_pass_keeps_no_whole_weight():
    layer = PackedLinear.of(nn.Linear(512, 512, bias=False), "nf4")
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.numel()) or t, lambda t: t):
        layer(torch.randn(3, 512, requires_grad=True)).sum().backward()
    assert max(kept, default=0) < 512 * 512


def test_a_cast_changes_what_is_computed_in_and_never_the_scales():
    layer = PackedLinear.of(nn.Linear(64, 64), "nf4")
    before = layer.dequantised()
    layer.to(torch.bfloat16)
    assert layer.dequantised().dtype == torch.bfloat16 and layer.groups.dtype == torch.float32
    assert torch.equal(layer.float().dequantised(), before)


def test_the_body_is_quantised_head_embeddings_norms_and_routers_are_not():
    sizes = {
        "vocab_size": 288, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2,
    }  # fmt: skip
    net = hf.MixtralForCausalLM(hf.MixtralConfig(**sizes, num_local_experts=4))
    names = quantise_network(net)
    assert len(names) == 8 and all("self_attn" in name for name in names)
    assert quantise_network(net) == []
    gpt2 = hf.GPT2LMHeadModel(hf.GPT2Config(vocab_size=288, n_embd=32, n_layer=1, n_head=2)).eval()
    ids = torch.arange(3, 20)[None]
    assert len(quantise_network(gpt2)) == 4
    with torch.no_grad():
        quantised = gpt2(input_ids=ids).logits
        dequantise_network(gpt2)
        assert torch.allclose(gpt2(input_ids=ids).logits, quantised, atol=1e-5)
    assert type(gpt2.transformer.h[0].attn.c_attn).__name__ == "Conv1D"


def test_measured_bytes_of_a_network():
    model = load("pico", base="nf4", seed=1)
    found = weight_bytes(model.net)
    linear = [m for m in model.net.modules() if isinstance(m, PackedLinear)]
    weights = sum(m.in_features * m.out_features for m in linear)
    blocks = sum(math.ceil(m.in_features * m.out_features / 64) for m in linear)
    assert len(linear) == 7
    assert found["nf4"] == weights // 2 + blocks + sum(4 * math.ceil(m.scales.numel() / 256) + 4 for m in linear)
    plain = load("pico", seed=1)
    assert found["other"] == sum(p.numel() * 4 for n, p in plain.net.named_parameters() if "proj" not in n) + sum(
        b.numel() * b.element_size() for b in plain.net.buffers()
    )


def test_another_base_is_told():
    with pytest.raises(ModelError, match="base: int3 is not known"):
        load("pico", base="int3")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(64, 64), (100, 36), (3, 7)])
def test_where_bitsandbytes_is_installed_it_reads_the_same_bytes_to_the_same_weights(shape, dtype):
    pytest.importorskip("bitsandbytes")
    packed = nf4.Packed.of(torch.randn(shape, generator=torch.Generator().manual_seed(1)))
    assert nf4._bitsandbytes("cpu") is not None
    assert torch.equal(packed.dequantised(dtype), packed.plainly(dtype))
    assert packed.dequantised(torch.float64).dtype == torch.float64, "which it does not know"


def test_it_is_asked_wherever_it_is_installed_but_not_by_the_planner(monkeypatch):
    asked = []
    monkeypatch.setattr(nf4, "_bitsandbytes", lambda device: "functions")
    monkeypatch.setattr(
        nf4, "by_bitsandbytes", lambda packed, dtype, functional: asked.append(functional) or torch.ones(packed.shape)
    )
    assert nf4.Packed.of(torch.randn(4, 8)).dequantised(torch.float32).sum() == 32 and asked == ["functions"]
    with FakeTensorMode():
        nf4.Packed.of(torch.empty(4, 8)).dequantised(torch.float32)
    nf4.Packed.of(torch.randn(3, 7)).dequantised(
        torch.float32
    )  # an odd number of weights: the last half byte is nobody's
    assert len(asked) == 1


def test_a_build_of_it_without_kernels_for_the_processor_is_left_alone(monkeypatch):
    def no_kernel(*_):
        raise NotImplementedError("no CPU kernel in this build")

    module = ModuleType("bitsandbytes")
    module.functional = SimpleNamespace(QuantState=lambda *args, **named: None, dequantize_4bit=no_kernel)
    module.__spec__ = ModuleSpec("bitsandbytes", None)
    monkeypatch.setitem(sys.modules, "bitsandbytes", module)
    nf4._bitsandbytes.cache_clear()
    try:
        assert nf4._bitsandbytes("cpu") is None
        packed = nf4.Packed.of(torch.randn(4, 64))
        assert torch.equal(packed.dequantised(torch.float32), packed.plainly(torch.float32))
    finally:
        nf4._bitsandbytes.cache_clear()
