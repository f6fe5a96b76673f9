"""Kernels for norms and feed-forwards: which parts, equal losses and gradients, and what is refused. inductor wants a C++ compiler and
a GPU to pay: here the same graphs run by torch (aot_eager), and a stand-in binds what Liger would."""

import sys
from collections import Counter
from types import ModuleType

import pytest
import torch
from transformers.models.llama import modeling_llama

from tunesmith.adapters.lora import Lora
from tunesmith.core.errors import SettingError
from tunesmith.model.load import load
from tunesmith.objectives.sft import Sft
from tunesmith.step.step import backward
from tunesmith.train.kernels import put_kernels
from tunesmith.train.run import refuse


class Replaced:
    """What Liger puts in the place of a class."""


OTHERS = {
    "update_in_backward": False,
    "offload": "none",
    "offload_states": "none",
    "states": "fp32",
    "shard": "none",
    "processes": 1,
}


def gradients(model, units):
    model.net.train()
    model.net.zero_grad()
    policy = model.policy
    policy.lean = None  # that would compute norms and gates itself
    loss = backward(policy, Sft(), units).loss
    return loss, {n: p.grad.clone() for n, p in model.net.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("adapter", [None, Lora(rank=2)], ids=["full", "lora"])
def test_compiled_parts_give_the_loss_and_the_gradients_of_torch_at_every_length(pico, make_units, adapter):
    model = pico()
    if adapter is not None:
        adapter.attach(model.net, seed=0)
    several = [make_units([20, 9]), make_units([31]), make_units([5, 6, 7])]
    wanted = [gradients(model, units) for units in several]
    torch._dynamo.reset()
    names = put_kernels(model.net, "compiled", backend="aot_eager")
    layers = len(model.net.model.layers)
    assert len(names) >= 3 * layers + 1 and "model.norm" in names and "model.layers.0.mlp" in names
    compiled = Counter()
    for name in names:
        model.net.get_submodule(name).register_forward_hook(lambda *_, name=name: compiled.update([name]))
    for units, (loss, grads) in zip(several, wanted):
        found, other = gradients(model, units)
        assert found == pytest.approx(loss, rel=1e-6) and other.keys() == grads.keys()
        for name, grad in grads.items():
            assert torch.allclose(other[name], grad, rtol=1e-4, atol=1e-6), name
    assert set(compiled) == set(names), "the ones that ran"
    assert put_kernels(pico().net, "torch") == []


@pytest.fixture
def liger(monkeypatch):
    """Stands in for liger_kernel.transformers: binds a forward of the same numbers, or of others."""
    module = ModuleType("liger_kernel.transformers")
    module.factor, module.asked = 1.0, []

    def patch(model, **switches):
        module.asked.append(switches)
        modeling_llama.LlamaRMSNorm = Replaced
        for layer in model.model.layers if module.factor else ():
            own = layer.mlp.forward
            layer.mlp.forward = lambda x, own=own: own(x) * module.factor

    module._apply_liger_kernel_to_instance = patch
    monkeypatch.setitem(sys.modules, "liger_kernel", ModuleType("liger_kernel"))
    monkeypatch.setitem(sys.modules, "liger_kernel.transformers", module)
    return module


def test_liger_is_asked_for_all_but_the_loss_and_is_checked(pico, liger):
    model = pico()
    assert put_kernels(model.net, "liger") == [f"model.layers.{i}.mlp" for i in range(len(model.net.model.layers))]
    assert liger.asked == [{"rope": False, "cross_entropy": False, "fused_linear_cross_entropy": False}]
    assert modeling_llama.LlamaRMSNorm is not Replaced, "only this network's own modules"
    liger.factor = 1.5
    with pytest.raises(SettingError, match="kernels is liger, and on LlamaForCausalLM its hidden states are"):
        put_kernels(pico().net, "liger")
    liger.factor = 0
    with pytest.raises(SettingError, match="Liger has no kernels for LlamaForCausalLM"):
        put_kernels(pico().net, "liger")


def test_what_cannot_be_is_refused(pico, monkeypatch):
    monkeypatch.setitem(sys.modules, "liger_kernel.transformers", None)
    with pytest.raises(SettingError, match="liger-kernel is not installed"):
        put_kernels(pico().net, "liger")
    with pytest.raises(SettingError, match="is an encoder-decoder"):
        put_kernels(load("pico-t5", kind="seq2seq").net, "compiled")
    with pytest.raises(SettingError, match="kernels 'fast' is not known"):
        put_kernels(pico().net, "fast")
    with pytest.raises(SettingError, match="kernels is compiled.*computes on the CPU"):
        refuse(**OTHERS, kernels="compiled", cuda=False)
    refuse(**OTHERS, kernels="compiled", cuda=True)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="wants a GPU")
@pytest.mark.parametrize("kind", ["compiled", "liger"])
def test_on_a_gpu_losses_and_gradients_are_those_of_torch(pico, make_units, kind):
    if kind == "liger":
        pytest.importorskip("liger_kernel")
    model = pico()
    model.net.to("cuda")
    units = make_units([40, 33])
    loss, grads = gradients(model, units)
    put_kernels(model.net, kind)
    found, other = gradients(model, units)
    assert found == pytest.approx(loss, rel=1e-4)
    for name, grad in grads.items():
        assert torch.allclose(other[name], grad, rtol=1e-2, atol=1e-4), name
