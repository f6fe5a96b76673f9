"""Whole runs in every precision: near fp32, resumed bit by bit, saved as exactly as they are known."""

import pytest
import torch

from tunesmith.adapters.full import Full
from tunesmith.adapters.lora import Lora

LOW = [("fp16", "fp32"), ("bf16", "kahan"), ("bf16", "stochastic")]


@pytest.mark.parametrize(("precision", "masters"), LOW)
def test_losses_follow_fp32(train, events, precision, masters):
    settings = {"adapter": Full(), "steps": 10, "lr": 3e-3}
    train("wide", **settings)
    _, model = train("low", precision=precision, masters=masters, **settings)
    wide, low = ([event["loss"] for event in events(name, "step")] for name in ("wide", "low"))
    assert low == pytest.approx(wide, rel=0.02)
    assert {p.dtype for p in model.net.parameters()} == {torch.float32}


@pytest.mark.parametrize(("precision", "masters"), LOW)
@pytest.mark.parametrize("adapter", [Full(), Lora(rank=2)], ids=["full", "lora"])
def test_a_resumed_run_has_the_same_bits(train, events, same_weights, adapter, precision, masters):
    settings = {"adapter": adapter, "precision": precision, "masters": masters, "steps": 6, "eval_every": 4}
    _, whole = train("whole", **settings)
    train("cut", stop_after=2, **settings)
    _, again = train("cut", resume=True, **settings)
    assert same_weights(again, whole)
    figures = [[(e["loss"], e["grad_norm"], e["lr"]) for e in events(name, "step")] for name in ("whole", "cut")]
    assert figures[0] == figures[1]


def test_kahan_is_the_run_with_fp32_masters_but_for_ties(train, events):
    """Ties, one in 65,536 weights, are rounded to even by torch and away from 0 by us."""
    settings = {"adapter": Full(), "precision": "bf16", "steps": 5}
    train("kahan", masters="kahan", **settings)
    train("masters", **settings)
    kahan, masters = ([event["loss"] for event in events(name, "step")] for name in ("kahan", "masters"))
    assert kahan == pytest.approx(masters, rel=1e-4)


def test_masters_are_saved_not_their_16_bits(train):
    _, model = train(adapter=Full(), precision="bf16", steps=3, lr=1e-4)
    weight = model.net.model.layers[0].mlp.up_proj.weight
    assert not torch.equal(weight, weight.to(torch.bfloat16).float())
