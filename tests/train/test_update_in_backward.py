"""Updates made as gradients come: the weights of the ordinary way, no gradients left, and what it refuses."""

import pytest
import torch

from tunesmith.adapters.lora import Lora
from tunesmith.core.errors import SettingError
from tunesmith.objectives.sft import Sft
from tunesmith.step.step import backward
from tunesmith.train.optim import Optimizer
from tunesmith.train.run import embedding_names
from tunesmith.train.settings import TrainSettings

ONE = {"clip": None, "pass_tokens": 1 << 16, "lr": 1e-3}


@pytest.mark.parametrize(
    "settings",
    [
        {"optimizer": "adamw", "weight_decay": 0.1},
        {"optimizer": "sgd", "momentum": 0.9, "l2": 0.01, "l1": 0.01},
        {"optimizer": "muon", "momentum": 0.9},
        {"adapter": Lora(rank=2), "checkpointing": True},
        {"precision": "bf16"},
        {"precision": "bf16", "masters": "stochastic"},
        {"states": "8bit"},
    ],
    ids=lambda settings: "-".join(map(str, settings)),
)
def test_weights_are_those_of_the_ordinary_way_bit_by_bit(train, same_weights, events, settings):
    _, usual = train("a", steps=3, **ONE, **settings)
    _, early = train("b", steps=3, update_in_backward=True, **ONE, **settings)
    assert same_weights(usual, early)
    for one, other in zip(events("a", "step"), events("b", "step"), strict=True):
        assert one["loss"] == other["loss"] and one["grad_norm"] == other["grad_norm"]


def test_no_two_gradients_are_there_at_once(pico, make_units):
    model = pico()
    optimizer = Optimizer(model.net.named_parameters(), in_backward=True, embeddings=embedding_names(model.net))
    most = []
    for parameter in model.net.parameters():
        parameter.register_post_accumulate_grad_hook(
            lambda _: most.append(sum(p.grad is not None for p in model.net.parameters()))
        )
    optimizer.begin(1e-3)
    backward(model.policy, Sft(), make_units([9, 12]))
    assert len(most) == len(list(model.net.parameters())) and max(most) == 0
    assert optimizer.step(lr=1e-3) > 0


def test_what_had_no_gradient_still_moves_by_its_momentum():
    weights = [[torch.nn.Parameter(torch.ones(3)) for _ in range(2)] for _ in range(2)]
    for pair, early in zip(weights, (False, True)):
        optimizer = Optimizer([("a", pair[0]), ("b", pair[1])], kind="adamw", in_backward=early)
        for both in (True, False):
            optimizer.begin(0.1)
            (pair[0].sum() + (pair[1].square().sum() if both else 0)).backward()
            optimizer.step(lr=0.1)
    assert torch.equal(weights[0][1], weights[1][1]) and torch.equal(weights[0][0], weights[1][0])


def test_resumed_it_is_the_uninterrupted_run(train, same_weights):
    _, straight = train("a", update_in_backward=True, **ONE)
    train("b", update_in_backward=True, stop_after=3, **ONE)
    _, resumed = train("b", update_in_backward=True, resume=True, **ONE)
    assert same_weights(straight, resumed)


def test_clipping_several_passes_and_fp16_are_refused(train):
    with pytest.raises(SettingError, match="clip"):
        TrainSettings(update_in_backward=True)
    with pytest.raises(SettingError, match="fp16"):
        TrainSettings(update_in_backward=True, clip=None, precision="fp16")
    TrainSettings(update_in_backward=True, clip=None)
    with pytest.raises(SettingError, match="passes"):
        train("a", update_in_backward=True, clip=None, pass_tokens=16)
