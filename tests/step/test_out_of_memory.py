"""How memory that runs out is known: which errors mean it, and the pass of a step they come from."""

import pytest
import torch

from tunesmith.step.out_of_memory import OutOfMemory, is_out_of_memory, pass_of, told_to_all

SAID = "[enforce fail at alloc_cpu.cpp:117] err == 0. DefaultCPUAllocator: can't allocate memory: you tried 8 bytes."


@pytest.mark.parametrize(
    ("error", "is_it"),
    [
        (RuntimeError(SAID), True),
        (MemoryError(), True),
        (torch.OutOfMemoryError("CUDA out of memory"), True),
        (OutOfMemory("forward", "on rank 1"), True),
        (ValueError("out of memory"), False),
    ],
)
def test_what_counts_as_out_of_memory(error, is_it):
    assert is_out_of_memory(error) is is_it


class Heavy(torch.autograd.Function):
    """Does not fit: in its forward pass where it is given 0s, else in its backward pass."""

    @staticmethod
    def forward(ctx, x):
        if not x.any():
            raise RuntimeError(SAID)
        return x

    @staticmethod
    def backward(ctx, dy):
        raise RuntimeError(SAID)


@pytest.mark.parametrize("where", ["forward", "backward"])
def test_the_pass_that_did_not_fit_is_named(where):
    x = torch.full((1,), float(where == "backward"), requires_grad=True)
    with pytest.raises(RuntimeError) as caught:
        Heavy.apply(x).sum().backward()
    assert pass_of(caught.value) == where
    assert pass_of(OutOfMemory(where, "on rank 1")) == where


@pytest.mark.parametrize("redone", [False, True])
def test_one_process_tells_nobody(redone):
    error = RuntimeError(SAID)
    with pytest.raises(RuntimeError) as caught, told_to_all(redone):
        raise error
    assert caught.value is error
