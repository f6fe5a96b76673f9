"""A second head that guesses how well an answer will be rewarded: what PPO compares rewards with.

    add_value_head(model)       # model.net.value_head: Linear(dim, 1), all zeros, trained under every adapter

It is part of checkpoints, not of the result: a saved model has its language head only.
"""

from typing import Any

from torch import nn

NAME = "value_head"


def add_value_head(model: Any) -> None:
    """Put a value head of zeros on the network; the first guesses are 0 whatever the seed."""
    weight = next(model.net.parameters())
    head = nn.Linear(int(model.net.config.hidden_size), 1, device=weight.device)
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    for parameter in head.parameters():
        parameter.adapter = True  # it stays fp32 when the network is cast
    model.net.add_module(NAME, head)
    model.facts["heads"] = [*model.facts.get("heads", []), NAME]


def drop_value_head(model: Any) -> None:
    """Take it off again, before the result is saved."""
    if hasattr(model.net, NAME):
        delattr(model.net, NAME)
        model.facts["heads"] = [name for name in model.facts["heads"] if name != NAME]
