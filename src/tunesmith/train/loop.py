"""The one loop: units -> step -> update, as a generator of facts. Saving, logging, evaluating stand outside.

    for step in loop(policy, objective, units, optimizer, steps=100, batch_size=16, seed=0, lr=1e-3):
        print(step.number, step.loss)

Which Units make step k depends on (seed, k) alone, so a run that starts at step k does what the uninterrupted run did.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from math import ceil
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

from tunesmith.step.step import StepStats, backward, ranks, reduce_gradients
from tunesmith.text.example import Unit
from tunesmith.train.optim import Optimizer
from tunesmith.train.schedule import learning_rate


@dataclass(frozen=True)
class Step:
    """What one update did. `number` counts from 1; `indices` are the Units it used, of this rank."""

    number: int
    epoch: float
    lr: float
    grad_norm: float
    seconds: float
    stats: StepStats
    indices: np.ndarray = field(repr=False)


def steps_per_epoch(num_units: int, batch_size: int) -> int:
    """Updates in one pass over the data; the last, smaller batch counts too."""
    return ceil(num_units / batch_size)


@lru_cache(maxsize=2)
def epoch_order(num_units: int, seed: int, epoch: int, shuffle: bool = True) -> np.ndarray:
    """The order of the Units in an epoch, int32 (units,): a permutation fixed by (seed, epoch)."""
    if not shuffle:
        return np.arange(num_units, dtype=np.int32)
    return np.random.default_rng([seed, epoch, 0x0DE]).permutation(num_units).astype(np.int32)


def units_of_step(number: int, num_units: int, batch_size: int, seed: int, shuffle: bool = True) -> np.ndarray:
    """Indices of the Units of step `number` (from 0), over all ranks."""
    per_epoch = steps_per_epoch(num_units, batch_size)
    epoch, place = divmod(number, per_epoch)
    return epoch_order(num_units, seed, epoch, shuffle)[place * batch_size : (place + 1) * batch_size]


def loop(
    policy: Any,
    objective: Any,
    units: Sequence[Unit],
    optimizer: Optimizer,
    *,
    steps: int,
    batch_size: int,
    lr: float,
    seed: int = 0,
    start: int = 0,
    pass_tokens: int | None = None,
    schedule: str = "linear",
    warmup: float = 0.0,
    min_lr: float = 0.0,
    clip: float | None = 1.0,
    shuffle: bool = True,
    helpers: Any = None,
    keep_unit_losses: bool = True,
) -> Iterator[Step]:
    """Train from step `start` to `steps`, yielding each Step after its update.

    batch_size  Units per step over all ranks; pass_tokens only bounds memory
    lr, schedule, warmup, min_lr  see train/schedule.py; clip is the largest gradient norm, None = no clipping
    """
    policy.net.train()
    per_epoch = steps_per_epoch(len(units), batch_size)
    rank = dist.get_rank() if ranks() > 1 else 0
    for number in range(start, steps):
        began = time.perf_counter()
        torch.manual_seed((seed * 1_000_003 + number) % 2**63)  # dropout: fixed by (seed, step), so resuming is exact
        everyone = units_of_step(number, len(units), batch_size, seed, shuffle)
        indices = everyone[rank :: ranks()]
        stats = backward(
            policy,
            objective,
            [units[int(i)] for i in indices],
            pass_tokens=pass_tokens,
            helpers=helpers,
            keep_unit_losses=keep_unit_losses,
            idle=None if len(indices) else units[int(everyone[0])],
        )
        reduce_gradients(optimizer.gradients())
        rate = learning_rate(step=number, steps=steps, lr=lr, schedule=schedule, warmup=warmup, min_lr=min_lr)
        norm = optimizer.step(lr=rate, clip=clip)
        yield Step(
            number=number + 1,
            epoch=(number + 1) / per_epoch,
            lr=rate,
            grad_norm=norm,
            seconds=time.perf_counter() - began,
            stats=stats,
            indices=indices,
        )
