"""The lean forward gives what the module gives: states, losses, gradients; with adapters, checkpointing and few targets."""

import pytest
import torch

from tunesmith.adapters.lora import Lora
from tunesmith.model.batch import pack
from tunesmith.model.lean import Lean
from tunesmith.model.policy import Policy
from tunesmith.train.recompute import checkpoint_activations

LEAN = ["llama", "llama_tied", "qwen2", "qwen3", "mistral"]


def losses_and_gradients(model, units, lean):
    policy = Policy(model.net, lean=lean)
    assert (policy.lean is not None) is lean
    total, logp = policy.nll(pack(units))
    total.backward()
    found = {n: p.grad.clone() for n, p in model.net.named_parameters() if p.grad is not None}
    model.net.zero_grad(set_to_none=True)
    return total.detach(), logp, found


def near(ours, theirs):
    """transformers makes norms and rotary angles in fp32 even in a float64 model."""
    return (ours - theirs).abs().max() <= 1e-5 * max(1.0, theirs.abs().max())


@pytest.mark.parametrize("name", LEAN)
def test_values_and_gradients_equal_the_modules(name, model_of, make_units):
    model, units = model_of(name, "fp64"), make_units([5, 17, 9, 9, 230])
    total, logp, ours = losses_and_gradients(model, units, True)
    wanted, theirs_logp, theirs = losses_and_gradients(model, units, False)
    assert torch.allclose(total, wanted, rtol=1e-7)
    assert torch.allclose(logp, theirs_logp, rtol=1e-5, atol=1e-6)
    assert ours.keys() == theirs.keys() == dict(model.net.named_parameters()).keys()
    for parameter, gradient in theirs.items():
        assert near(ours[parameter], gradient), parameter


@pytest.mark.parametrize("name", ["llama", "qwen3"])
def test_adapters_take_effect_and_get_their_gradients(name, new_model, make_units):
    model, units = new_model(name, "fp64"), make_units([5, 17, 9])
    for layer in Lora(rank=2).attach(model.net):
        model.net.get_submodule(layer).lora_B.data.normal_(std=0.1)
    total, _, ours = losses_and_gradients(model, units, True)
    wanted, _, theirs = losses_and_gradients(model, units, False)
    assert torch.allclose(total, wanted, rtol=1e-7)
    assert ours.keys() == theirs.keys() == {n for n, _ in model.net.named_parameters() if "lora_" in n}
    assert all(near(ours[n], theirs[n]) for n in theirs)


def test_nothing_predicted_gives_zero_gradients(model_of, make_units):
    units = make_units([6, 4], prompt=2.0)
    total, logp, found = losses_and_gradients(model_of("llama"), units, True)
    assert (float(total), len(logp)) == (0.0, 0)
    assert all(torch.isfinite(g).all() and not g.any() for g in found.values())


@pytest.mark.parametrize("what", [True, "selective"], ids=str)
@pytest.mark.parametrize("dropout", [0.0, 0.4])
@pytest.mark.parametrize("name", ["llama", "gemma2", "gpt2", "mixtral", "mamba2"])
def test_checkpointing_gives_equal_gradients(name, dropout, what, new_model, make_units):
    """Also under LoRA's dropout: the second forward draws the same mask. Every lora_B gets a gradient over a frozen base."""
    units, found = make_units([5, 17, 9]), []
    for recompute in (False, what):
        model = new_model(name)
        layers = Lora(rank=2, dropout=dropout).attach(model.net)
        for layer in layers:
            model.net.get_submodule(layer).lora_B.data.normal_(std=0.1, generator=torch.Generator().manual_seed(1))
        checkpoint_activations(model.net.train(), recompute)
        torch.manual_seed(7)
        policy = model.policy
        policy.nll(policy.batch(units))[0].backward()
        found.append({n: p.grad for n, p in model.net.named_parameters() if p.requires_grad})
    assert all(found[0][f"{layer}.lora_B"].any() for layer in layers)
    for parameter, gradient in found[0].items():
        assert torch.equal(found[1][parameter], gradient), parameter


def test_what_it_does_not_know_is_left_to_the_module(model_of):
    for name in ("mistral_window", "gemma2", "gpt2", "mixtral", "granite"):
        assert Lean.of(model_of(name).net) is None
        assert model_of(name).proof.lean is False
    assert all(model_of(name).proof.lean for name in LEAN)
