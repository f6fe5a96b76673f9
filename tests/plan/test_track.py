"""The shortcut past FakeTensorMode makes what FakeTensorMode makes."""

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from tunesmith.plan.track import quick


class Quickly(TorchDispatchMode):
    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return quick(func, args, kwargs or {})


def made(compute, shortened):
    with FakeTensorMode() as mode:
        parts = [
            mode.from_tensor(torch.empty(6, 4)),
            mode.from_tensor(torch.empty(6)),
            mode.from_tensor(torch.empty(4, 6)),
        ]
        if not shortened:
            return compute(*parts)
        with Quickly():
            return compute(*parts)


@pytest.mark.parametrize(
    "compute",
    [
        lambda a, b, c: a * b[:, None],
        lambda a, b, c: b[:, None] * a,
        lambda a, b, c: b * b[:, None],
        lambda a, b, c: a + b.sum(),
        lambda a, b, c: a / a[:1],
        lambda a, b, c: a - c.T,
        lambda a, b, c: c.T * b[:, None],
        lambda a, b, c: a.double() * a,
        lambda a, b, c: a.int() * b[:, None].int(),
        lambda a, b, c: a * torch.tensor([1.0, 2.0, 3.0, 4.0]),
        lambda a, b, c: torch.tensor([1, 2])[a[:, 0].long()],
    ],
)
def test_shapes_strides_and_kinds_are_the_same(compute):
    slow, fast = made(compute, False), made(compute, True)
    assert type(fast) is FakeTensor and fast.device == slow.device
    assert (fast.shape, fast.stride(), fast.dtype) == (slow.shape, slow.stride(), slow.dtype)
