"""Several processes that make one step together, as torchrun starts them (RANK, WORLD_SIZE, MASTER_ADDR, MASTER_PORT).

    with together("cpu"):                 # joins the others when there are any; else nothing happens
        rank(), ranks()                   # 0, 2
        stop, save = agree(asked, late)   # True everywhere when it is True anywhere

Each process makes its share of a step's Units; gradients, sums and counts are added (see step.py).
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist

from tunesmith.core.errors import TrainingError


def ranks() -> int:
    """How many processes train together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Which of them this one is; the first writes the run folder."""
    return dist.get_rank() if ranks() > 1 else 0


@contextmanager
def together(device: str = "cpu") -> Iterator[None]:
    """Join the other processes for as long as the block lasts. A process that is lost is a TrainingError in all others.

    device  where this one computes: on cards they talk by NCCL, on processors by gloo
    """
    if int(os.environ.get("WORLD_SIZE", "1")) < 2 or ranks() > 1:
        yield
        return
    cuda = torch.device(device).type == "cuda"
    if cuda:
        torch.cuda.set_device(device)
    # a pause may be long; a process that dies is noticed at once by its closed connection
    dist.init_process_group("nccl" if cuda else "gloo", timeout=timedelta(days=7))
    try:
        yield
    except (RuntimeError, dist.DistError) as error:
        if not _lost(error):
            raise
        raise TrainingError(
            f"another of the {os.environ['WORLD_SIZE']} processes of this run is gone: {str(error).splitlines()[0][:200]}",
            fix="Go on from the last checkpoint, with any number of processes: tunesmith train --resume RUN --nproc N",
        ) from error
    finally:
        dist.destroy_process_group()


def _lost(error: Exception) -> bool:
    said = str(error).lower()
    return any(
        word in said for word in ("connection closed", "connection reset", "broken pipe", "gloo", "nccl", "peer")
    )


def barrier() -> None:
    """Wait until all are here."""
    if ranks() > 1:
        dist.barrier()


def agree(*said: bool) -> list[bool]:
    """For each flag, whether it is True in any process."""
    if ranks() == 1:
        return list(said)
    flags = torch.tensor([float(flag) for flag in said], device=_device())
    dist.all_reduce(flags, op=dist.ReduceOp.MAX)
    return [bool(flag) for flag in flags.tolist()]


def most(number: float) -> float:
    """The largest of what each process says."""
    if ranks() == 1:
        return number
    held = torch.tensor(number, dtype=torch.float64, device=_device())
    dist.all_reduce(held, op=dist.ReduceOp.MAX)
    return float(held)


def added(values: torch.Tensor) -> torch.Tensor:
    """The sum over all processes."""
    if ranks() == 1:
        return values
    moved = values.to(_device(), copy=True)
    dist.all_reduce(moved)
    return moved.to(values.device)


def gathered(value: Any) -> list[Any]:
    """What each process holds, in the order of their ranks."""
    if ranks() == 1:
        return [value]
    found: list[Any] = [None] * ranks()
    dist.all_gather_object(found, value)
    return found


def _device() -> torch.device:
    return torch.device("cuda", torch.cuda.current_device()) if dist.get_backend() == "nccl" else torch.device("cpu")
