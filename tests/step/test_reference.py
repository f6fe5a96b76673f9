"""The reference is the state a run starts from, for good: no gradient, no dropout, the same at every call, whatever the policy does."""

import copy

import pytest
import torch

from tunesmith.adapters.lora import Lora
from tunesmith.model.load import load
from tunesmith.step.helpers import Helpers, frozen, with_reference
from tunesmith.train.run import lower


@pytest.fixture
def policy():
    """A pico that trains under dropout, its adapter no longer at its start."""
    model = load("pico", seed=3)
    names = Lora(rank=2, dropout=0.5).attach(model.net, seed=1)
    for number, name in enumerate(names):
        generator = torch.Generator().manual_seed(number)
        model.net.get_submodule(name).lora_B.data.normal_(std=0.3, generator=generator)
    model.net.train()
    return model.policy


def in_evaluation(policy, batch):
    net = copy.deepcopy(policy.net).eval()
    with torch.no_grad():
        return policy.of(net).logprobs(batch).float()


def moved(policy, batch):
    """A step of the policy, far enough to be seen."""
    policy.logprobs(batch).sum().backward()
    for parameter in policy.net.parameters():
        if parameter.grad is not None:
            parameter.data -= 1e-3 * parameter.grad
            parameter.grad = None


@pytest.mark.parametrize("kept", ["beside", "in the units"])
def test_no_gradient_no_dropout_and_two_calls_are_equal(policy, make_units, kept):
    units = make_units([9, 14, 6, 11], seed=2)
    batch = policy.batch(units)
    wanted = in_evaluation(policy, batch)
    once, twice = (policy.logprobs(batch).detach() for _ in range(2))
    assert not torch.equal(once, twice)  # the policy itself does drop out
    if kept == "beside":
        helpers = Helpers(live=frozen(policy))
        assert not any(p.requires_grad for p in helpers.live.net.parameters()) and not helpers.live.net.training
    else:
        helpers = Helpers()
        made, again = (
            [unit.examples[0].columns["reference"] for unit in with_reference(policy, units)] for _ in range(2)
        )
        assert all((a == b).all() for a, b in zip(made, again))
        batch = policy.batch(list(with_reference(policy, units)))
    assert policy.net.training and all(p.grad is None for p in policy.net.parameters())

    first, second = helpers.reference(batch), helpers.reference(batch)
    assert torch.equal(first, second) and not first.requires_grad
    torch.testing.assert_close(first, wanted, rtol=1e-5, atol=1e-5)
    before = in_evaluation(policy, batch)
    moved(policy, batch)
    assert torch.equal(helpers.reference(batch), first)  # the policy has moved, the reference has not
    assert (in_evaluation(policy, batch) - before).abs().max() > 1e-3
    assert policy.net.training


def test_a_copy_in_bf16_keeps_its_adapter_in_fp32_as_training_does(policy, make_units):
    batch = policy.batch(make_units([9, 14], seed=2))
    policy.net.eval()
    before = frozen(policy, torch.bfloat16)  # shares a base that is still fp32
    lower(policy.net)
    after = frozen(policy, torch.bfloat16)
    with torch.no_grad():
        own, *copies = (one.logprobs(batch) for one in (policy, before, after))
    for made, said in zip((before, after), copies):
        assert torch.equal(said, own)
        assert {p.dtype for name, p in made.net.named_parameters() if "lora_" in name} == {torch.float32}
