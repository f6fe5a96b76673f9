"""What a step makes lies where the network lies. torch's meta device stands in for a GPU: it refuses to mix with the processor."""

import pytest
import torch

from tunesmith.core.shelf import shelf
from tunesmith.step.step import backward
from tunesmith.testing.objectives import step_of
from tunesmith.train.optim import Optimizer

SAMPLING = {"reward": "exact_match", "max_tokens": 7}
SETTINGS = {"grpo": SAMPLING, "ppo": SAMPLING, "rejection": SAMPLING}
# need what a row alone cannot bring (a teacher, tasks), or have no loss; masks whose numbers transformers reads
APART = {"distill", "gkd", "multitask", "features", "masked", "seq2seq"}


@pytest.mark.parametrize("name", [name for name in shelf("objectives").names() if name not in APART])
def test_every_method_makes_its_passes_where_the_network_is(name):
    objective, model, units, helpers = step_of(shelf("objectives").make({name: SETTINGS.get(name, {})}))
    model.net.to("meta")
    if helpers.live is not None:
        helpers.live.net.to("meta")
    half = sum(unit.num_tokens for unit in units) // 2 + 1
    with pytest.raises(
        RuntimeError, match="cannot be called on meta"
    ):  # after its passes a step reads its figures, and there are no numbers
        backward(model.policy, objective, units, helpers=helpers, pass_tokens=half)
    gradients = {n: p.grad for n, p in model.net.named_parameters() if p.grad is not None}
    assert gradients and {gradient.device.type for gradient in gradients.values()} == {"meta"}


def test_a_figures_count_that_is_a_plain_number_lies_with_its_sum():
    class Counted:
        def __init__(self):
            self.per = {"answer": "tokens"}

        def loss(self, policy, batch, helpers):
            from tunesmith.objectives._contract import Loss

            total, _ = policy.nll(batch)
            return Loss({"answer": total}, {"loss": (total, 3)})

    _, model, units, helpers = step_of(shelf("objectives").make("sft"))
    assert backward(model.policy, Counted(), units, helpers=helpers).figures["loss"] > 0
    model.net.zero_grad(set_to_none=True)
    model.net.to("meta")
    with pytest.raises(RuntimeError, match="cannot be called on meta"):
        backward(model.policy, Counted(), units, helpers=helpers)


def test_our_own_forward_is_left_for_the_modules_where_it_cannot_compute():
    _, model, units, _ = step_of(shelf("objectives").make("sft"))
    policy = model.policy
    assert policy.lean is not None, "on the processor it computes"
    model.net.to("meta")
    batch = policy.batch(units)
    assert policy.predicting(batch).shape == (len(batch.target), model.net.config.hidden_size)
    assert policy.predicting(batch).device.type == "meta"


def test_a_resumed_optimisers_states_lie_with_its_weights():
    def made(device: str) -> Optimizer:
        weight = torch.nn.Parameter(torch.ones(4, 3, device=device))
        return Optimizer([("weight", weight)], kind="sgd", lr=0.1, momentum=0.9)

    first = made("cpu")
    first.parameters[0].grad = torch.ones(4, 3)
    first.step(lr=0.1)
    again = made("meta")
    again.load_state(first.state().items())
    ((state,),) = [inner.state.values() for inner in again.inner]
    assert {value.device.type for value in state.values() if torch.is_tensor(value)} == {"meta"}
