"""Counting what a pass keeps must not keep it: memory.json is written in the middle of a run."""

import gc
from types import SimpleNamespace

import torch
from torch import nn

from tunesmith.text.example import Example, Unit
from tunesmith.train.run import activation_bytes

WIDE = 1013


class _KeepsItsOutput(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        out = x.exp()
        ctx.save_for_backward(out)
        return out

    @staticmethod
    def backward(ctx, grad):
        return grad * ctx.saved_tensors[0]


class Loss:
    """exp twice over one row of WIDE numbers: each node keeps its own output."""

    def loss(self, policy, batch, helpers):
        return _KeepsItsOutput.apply(policy.net(torch.ones(1, 3)).exp()).sum()


def test_what_was_counted_is_freed():
    net = nn.Linear(3, WIDE)
    policy = SimpleNamespace(net=net, layout="packed", batch=lambda units: None)
    unit = Unit((Example.of([1, 2, 3], [1.0, 1.0, 1.0]),))
    kept = activation_bytes(policy, Loss(), [unit], pass_tokens=8)
    assert kept >= 2 * 4 * WIDE
    gc.collect()
    there = [t for t in gc.get_objects() if type(t) is torch.Tensor and t.shape == (1, WIDE)]
    assert not there
