"""check_adapter finds the ways in which adapters go wrong."""

from dataclasses import dataclass
from typing import ClassVar

import pytest

from tunesmith.adapters.lora import Lora
from tunesmith.testing import adapters, check_adapter


@pytest.fixture(autouse=True)
def any_file(monkeypatch):
    """The adapters below live in a test, not in a file of their own name."""
    monkeypatch.setattr(adapters, "check_item", lambda item: None)


@dataclass(frozen=True)
class Norms:
    """A good one: only the norms train."""

    file: ClassVar[str] = "model"

    def attach(self, net, *, seed=0):
        for name, parameter in net.named_parameters():
            parameter.requires_grad_("norm" in name)
        return []

    def merge(self, net):
        pass


class Nothing(Norms):
    def attach(self, net, *, seed=0):
        net.requires_grad_(False)
        return []


class Moves(Norms):
    def attach(self, net, *, seed=0):
        super().attach(net, seed=seed)
        net.model.norm.weight.data.mul_(1.01)
        return []


class Unseeded(Lora):
    def attach(self, net, *, seed=0):
        import random

        return super().attach(net, seed=random.randrange(10**9))


class HalfMerged(Lora):
    def merge(self, net):
        super().merge(net)
        net.model.layers[0].self_attn.q_proj.weight.data.mul_(0.5)


class NotMerged(Lora):
    def merge(self, net):
        pass


class Unread(Norms):
    """Says that a parameter trains which the forward pass never reads."""

    def attach(self, net, *, seed=0):
        import torch

        super().attach(net, seed=seed)
        net.model.register_parameter("spare_norm", torch.nn.Parameter(torch.ones(3)))
        return []


class NotRefused(Norms):
    """Says that it cannot be merged, and does nothing instead of saying so."""

    merges: ClassVar[bool] = False


class Greedy(Lora):
    """Puts its update beside a head that is new."""

    def attach(self, net, *, seed=0):
        object.__setattr__(self, "targets", ("q_proj", "value_head") if hasattr(net, "value_head") else ("q_proj",))
        return super().attach(net, seed=seed)


class Unsaved(Lora):
    """Its files lack what it trained."""

    def tensors(self, net):
        return {name: value * 0 for name, value in super().tensors(net).items()}


def test_a_good_one_passes():
    check_adapter(Norms())


@pytest.mark.parametrize(
    ("adapter", "promise"),
    [
        (Nothing, "marks something to train"),
        (Moves, "those of the base, to the last bit"),
        (Unseeded, "same start for the same seed"),
        (HalfMerged, "merge gives the same logits"),
        (NotMerged, "plain network"),
        (Unread, "these did not: .*spare_norm"),
        (NotRefused, "merge raises a ModelError"),
        (Greedy, "leaves new heads alone"),
        (Unsaved, "saved and read again"),
    ],
)
def test_a_bad_one_is_told_what_does_not_hold(adapter, promise):
    with pytest.raises(AssertionError, match=promise):
        check_adapter(adapter())
