"""check_objective finds the ways in which methods go wrong."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import pytest
import torch

from tunesmith.objectives.sft import Sft
from tunesmith.testing import check_objective, objectives


@pytest.fixture(autouse=True)
def any_file(monkeypatch):
    """The methods below live in a test, not in a file of their own name."""
    monkeypatch.setattr(objectives, "check_item", lambda item: None)


@dataclass(frozen=True)
class Base:
    shape: ClassVar[str] = "chat"
    per: ClassVar[Mapping[str, str]] = {"answer": "tokens"}
    figures: ClassVar[Mapping[str, str]] = Sft.figures

    def units(self, row, text, draw):
        return Sft().units(row, text, draw)

    def loss(self, policy, batch, helpers):
        return Sft().loss(policy, batch, helpers)


class Mean(Base):
    """Normalises by itself: accumulation changes the gradient."""

    def loss(self, policy, batch, helpers):
        out = super().loss(policy, batch, helpers)
        return replace(out, terms={"answer": out.terms["answer"] / batch.weight.sum()})


class ByPadding(Base):
    """Divides by what lies in memory."""

    def loss(self, policy, batch, helpers):
        out = super().loss(policy, batch, helpers)
        return replace(out, terms={"answer": out.terms["answer"] * batch.ids.numel() / batch.num_tokens})


class Detached(Base):
    """A part of the loss has no gradient."""

    def loss(self, policy, batch, helpers):
        logp = policy.logprobs(batch)
        out = super().loss(policy, batch, helpers)
        return replace(out, terms={"answer": -(logp * logp.detach().exp() * batch.weight).sum()})


class Neighbours(Base):
    """A row's loss depends on who is in the same pass."""

    def loss(self, policy, batch, helpers):
        logp = policy.logprobs(batch)
        out = super().loss(policy, batch, helpers)
        return replace(out, terms={"answer": -(logp * torch.softmax(logp, 0)).sum()})


class Random(Base):
    """Draws without the draw it is given."""

    count: ClassVar[list[int]] = []

    def units(self, row, text, draw):
        self.count.append(1)
        answer = row["messages"][1]["content"] + "x" * (len(self.count) % 3)
        return Sft().units(
            {**row, "messages": [row["messages"][0], {"role": "assistant", "content": answer}]}, text, draw
        )


class Unexplained(Base):
    """A figure nobody explains."""

    figures: ClassVar[Mapping[str, str]] = {"loss": "the loss"}


class Lost(Base):
    """Forgets where the row came from."""

    def units(self, row, text, draw):
        return [replace(unit, origin="") for unit in super().units(row, text, draw)]


def test_a_good_one_passes():
    check_objective(Base())


@pytest.mark.parametrize(
    ("method", "promise"),
    [
        (Mean, "same loss and gradient as all in one pass"),
        (ByPadding, "padded rows"),
        (Detached, "the gradient is that of the loss"),
        (Neighbours, "same loss and gradient as all in one pass"),
        (Random, "same twice"),
        (Unexplained, "explains each of"),
        (Lost, "origin"),
    ],
)
def test_a_bad_one_is_told_what_does_not_hold(method, promise):
    with pytest.raises(AssertionError, match=promise):
        check_objective(method())
