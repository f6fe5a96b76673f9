"""fp16: an overflow costs a second try and nothing else; all ranks decide alike."""

import os

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn

from tunesmith.core.errors import TrainingError
from tunesmith.model.load import load
from tunesmith.objectives.sft import Sft
from tunesmith.step.step import backward
from tunesmith.train.optim import Optimizer
from tunesmith.train.scaling import Scaler


def trained(make_units, dtype, scaler, steps=6):
    """(losses, weights) of pico trained with a scaled loss."""
    model = load("pico", seed=1)
    masters = {name: p.detach().clone() for name, p in model.net.named_parameters()}
    model.net.to(dtype)
    optimizer = Optimizer(model.net.named_parameters(), masters=masters)
    units, losses = make_units([17, 23, 9]), []
    for _ in range(steps):
        while True:
            stats = backward(model.policy, Sft(), units, scale=scaler.scale if scaler else 1.0)
            if scaler is None or scaler.accept(optimizer):
                break
        losses.append(stats.loss)
        optimizer.step(lr=1e-3)
    return losses, torch.cat([value.flatten() for value in optimizer.weights().values()])


def units_of(lengths):
    from tunesmith.testing.objectives import random_units

    return random_units(lengths)


def test_fp16_follows_fp32():
    wide, _ = trained(units_of, torch.float32, None)
    half, _ = trained(units_of, torch.float16, Scaler())
    assert half == pytest.approx(wide, rel=5e-3)
    assert wide[-1] < wide[0]


def test_a_scale_that_overflows_is_found_out_and_changes_nothing():
    """From 2**40 the first step is tried until the scale fits; the run is then that of the scale it ended with."""
    high = Scaler(2.0**40)
    losses, weights = trained(units_of, torch.float16, high)
    assert high.overflows > 5
    expected = Scaler(high.scale)
    again, same = trained(units_of, torch.float16, expected)
    assert expected.overflows == 0
    assert losses == again
    assert torch.equal(weights, same)


def test_the_scale_grows_after_steps_without_overflow_and_its_state_is_kept():
    layer = nn.Linear(2, 2)
    optimizer, scaler = Optimizer(layer.named_parameters()), Scaler(4.0, grow_after=2)
    for _ in range(2):
        (layer(torch.ones(1, 2)).sum() * scaler.scale).backward()
        assert scaler.accept(optimizer)
        assert torch.equal(layer.bias.grad, torch.ones(2))
        optimizer.clear()
    assert scaler.scale == 8.0
    again = Scaler()
    again.load_state(scaler.state())
    assert again.state() == scaler.state() == {"scale": 8.0, "good": 0.0, "overflows": 0.0}


def test_what_no_scale_helps_is_an_error():
    layer = nn.Linear(2, 2)
    optimizer, scaler = Optimizer(layer.named_parameters()), Scaler(2.0**-14)
    layer.weight.grad = torch.full((2, 2), float("nan"))
    with pytest.raises(TrainingError, match="fp16 is not what overflows"):
        scaler.accept(optimizer)
    assert layer.weight.grad is None


def of_a_rank(rank, port, folder):
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    dist.init_process_group("gloo", rank=rank, world_size=2)
    layer = nn.Linear(2, 2)
    optimizer, scaler = Optimizer(layer.named_parameters()), Scaler()
    layer.weight.grad = torch.full((2, 2), float("inf") if rank else 1.0)  # only the second rank overflows
    first = scaler.accept(optimizer)
    layer.weight.grad = torch.ones(2, 2)
    torch.save((first, scaler.accept(optimizer), scaler.scale), f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.slow
def test_one_rank_that_overflows_stops_all(tmp_path):
    mp.spawn(of_a_rank, args=(21_000 + os.getpid() % 20_000, str(tmp_path)), nprocs=2)
    assert torch.load(tmp_path / "0.pt") == torch.load(tmp_path / "1.pt") == (False, True, 2.0**15)
