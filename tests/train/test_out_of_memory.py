"""Running out of memory: the step is done again in smaller passes and gives the gradient it would have given."""

import pytest
import torch

from tunesmith.core.errors import SpaceError
from tunesmith.model.load import load
from tunesmith.objectives.sft import Sft
from tunesmith.step.step import backward
from tunesmith.train.optim import Optimizer
from tunesmith.train.out_of_memory import Fitting, is_out_of_memory

CPU = RuntimeError(
    "[enforce fail at alloc_cpu.cpp:117] err == 0. DefaultCPUAllocator: can't allocate memory: you tried 8 bytes."
)


def test_a_step_broken_off_is_done_again_with_the_same_gradient(make_units):
    """The third pass fails after two have left gradients; the step that follows must not add to them."""
    model = load("pico")
    optimizer = Optimizer(list(model.net.named_parameters()))
    units = make_units([20, 30, 25, 15])
    backward(model.policy, Sft(), units)
    wanted = [parameter.grad.clone() for parameter in optimizer.parameters]
    optimizer.clear()
    told = []
    fitting = Fitting(60, 30, told=lambda old, new: told.append((old, new)))

    def step(tokens: int):
        stats = backward(model.policy, Sft(), units if tokens < 60 else units[:2], pass_tokens=tokens)
        if tokens == 60:
            raise CPU
        return stats

    stats = fitting.run(step, forget=optimizer.clear)
    assert stats.num_passes > 1 and fitting.pass_tokens == 30 and told == [(60, 30)]
    for parameter, gradient in zip(optimizer.parameters, wanted):
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-4, atol=1e-6)


def test_one_row_that_does_not_fit_is_explained():
    def step(tokens: int):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    fitting = Fitting(4096, 1000)
    with pytest.raises(SpaceError, match="1,000 tokens"):
        fitting.run(step, forget=lambda: None)
    assert fitting.halved == [4096, 2048, 1024]


def test_other_errors_pass_through():
    def step(tokens: int):
        raise RuntimeError("shapes do not match")

    with pytest.raises(RuntimeError, match="shapes"):
        Fitting(64, 8).run(step, forget=lambda: None)


@pytest.mark.parametrize(
    ("error", "is_it"),
    [
        (CPU, True),
        (MemoryError(), True),
        (torch.OutOfMemoryError("CUDA out of memory"), True),
        (ValueError("out of memory"), False),
    ],
)
def test_what_counts_as_out_of_memory(error, is_it):
    assert is_out_of_memory(error) is is_it
