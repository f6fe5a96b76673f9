"""Running out of memory: the step is done again in smaller passes and gives the gradient it would have given."""

import pytest
import torch

from tunesmith.core.errors import SpaceError
from tunesmith.model.load import load
from tunesmith.objectives.sft import Sft
from tunesmith.step.step import backward
from tunesmith.train.optim import Optimizer
from tunesmith.train.out_of_memory import Fitting, during, is_out_of_memory, pass_of

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
    fitting = Fitting(60, 30, told=lambda *facts: told.append(facts))

    def step(tokens: int):
        stats = backward(model.policy, Sft(), units if tokens < 60 else units[:2], pass_tokens=tokens)
        if tokens == 60:
            raise CPU
        return stats

    stats = fitting.run(step, forget=optimizer.clear)
    assert stats.num_passes > 1 and fitting.pass_tokens == 30 and told == [(60, 30, "forward")]
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


def test_the_pass_that_did_not_fit_is_named():
    class Heavy(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x

        @staticmethod
        def backward(ctx, dy):
            raise CPU

    x = torch.ones(1, requires_grad=True)
    with pytest.raises(RuntimeError) as caught:
        Heavy.apply(x).sum().backward()
    assert pass_of(caught.value) == "backward"
    with pytest.raises(RuntimeError) as caught:
        torch.linalg.cholesky(-torch.eye(2) * x.detach())
    assert pass_of(caught.value) == "forward"


def test_other_parts_are_named_and_other_errors_are_not_touched():
    told = []
    with pytest.raises(SpaceError, match="in the evaluation"), during("evaluation", told.append):
        raise CPU
    assert len(told) == 1 and "can't allocate" in told[0]
    with pytest.raises(RuntimeError, match="shapes"), during("evaluation", told.append):
        raise RuntimeError("shapes do not match")
    assert len(told) == 1


@pytest.mark.parametrize("part", ["optimiser's update", "evaluation", "checkpoint"])
def test_a_run_says_in_which_part_memory_ran_out(part, tmp_path, make_units, monkeypatch):
    """Nothing to halve there: the run ends with the part's name, and its journal knows it where the run's files are written."""
    from tunesmith.core.runs import RunFolder
    from tunesmith.train import checkpoint, run

    def fail(*args, **kwargs):
        raise CPU

    place = {
        "optimiser's update": (Optimizer, "step"),
        "evaluation": (run, "dev_figures"),
        "checkpoint": (checkpoint, "save"),
    }
    monkeypatch.setattr(*place[part], fail)
    folder = RunFolder.create(tmp_path / "run", project={}, verb="train")
    units = make_units([20, 30, 25, 15])
    with pytest.raises(SpaceError, match=f"in the {part}"):
        run.fit(load("pico"), Sft(), units, units[:2], folder=folder, steps=2, batch_size=2, lr=1e-3, eval_every=1)
    errors = [event for event in folder.journal("events.jsonl") if event["kind"] == "error"]
    assert len(errors) == (part != "optimiser's update")
