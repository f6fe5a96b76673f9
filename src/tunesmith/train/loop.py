"""The one loop: units -> step -> update, as a generator of facts. Saving, logging, evaluating stand outside.

    for step in loop(policy, objective, units, optimizer, steps=100, batch_size=16, seed=0, lr=1e-3):
        print(step.number, step.stats.loss)

Which Units make step k is the feed's to say (see feed.py), so a run that starts at step k does what the uninterrupted run did.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from math import ceil
from typing import Any

import numpy as np
import torch

from tunesmith.core.errors import SettingError
from tunesmith.step.helpers import Helpers
from tunesmith.step.ranks import rank, ranks
from tunesmith.step.step import StepStats, backward, pass_bounds, passes_of
from tunesmith.text.example import Unit
from tunesmith.train.feed import Portion, Rollouts, Rows
from tunesmith.train.offload import Offload
from tunesmith.train.optim import Optimizer
from tunesmith.train.out_of_memory import FIX, Fitting, during
from tunesmith.train.scaling import Scaler
from tunesmith.train.schedule import learning_rate
from tunesmith.train.shard import MEETING, Sharded


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


def loop(
    policy: Any,
    objective: Any,
    units: Sequence[Unit] | Rollouts,
    optimizer: Optimizer | Sharded,
    *,
    steps: int,
    batch_size: int = 16,
    lr: float,
    seed: int = 0,
    start: int = 0,
    pass_tokens: int | None = None,
    schedule: str = "linear",
    warmup: float = 0.0,
    min_lr: float = 0.0,
    clip: float | None = 1.0,
    shuffle: bool = True,
    helpers: Helpers | None = None,
    scaler: Scaler | None = None,
    keep_unit_losses: bool = True,
    told: Callable[[int, int, str], object] | None = None,
    offload: Offload | None = None,
) -> Iterator[Step]:
    """Train from step `start` to `steps`, yielding each Step after its update.

    units  Units that lie ready, or a feed that makes them as it goes (methods that sample); see feed.py
    scaler  what keeps fp16 gradients from vanishing (scaling.py)
    batch_size  Units per step over all ranks (a feed has its own); pass_tokens only bounds memory
    told  called with (before, now, part) when memory ran out: forward or backward pass, in tokens; rollouts, in prompts (out_of_memory.py)
    offload  where activations wait for the backward pass (offload.py)
    lr, schedule, warmup, min_lr  see train/schedule.py; clip is the largest gradient norm, None = no clipping
    """
    helpers = Helpers() if helpers is None else helpers
    feed: Rows | Rollouts
    if isinstance(units, Rollouts):
        feed = units
    else:
        order = objective.order(units) if hasattr(objective, "order") else None
        feed = Rows(units, batch_size=batch_size, seed=seed, shuffle=shuffle, rank=rank(), ranks=ranks(), order=order)
    # what is computed at once is halved where memory runs out
    in_smaller, otherwise = _in_smaller_passes(optimizer, pass_tokens)
    fitting, rollouts = Fitting(pass_tokens, told=told), Fitting(None, "rollouts", told)

    def drawn(number: int) -> Portion:
        if isinstance(feed, Rows):
            return feed.step(number)
        own = ceil(feed.collect_size / feed.ranks)
        with during("rollouts"):
            return rollouts.run(partial(feed.step, number), bounds=lambda: (1, own))

    def gradient(number: int, portion: Portion) -> StepStats:
        def once(tokens: int | None) -> StepStats:
            torch.manual_seed((seed * 1_000_003 + number) % 2**63)  # dropout: fixed by (seed, step); resuming is exact
            with offload.here() if offload is not None else nullcontext():
                return backward(
                    policy,
                    objective,
                    portion.units,
                    pass_tokens=tokens,
                    helpers=helpers,
                    scale=1.0 if scaler is None else scaler.scale,
                    keep_unit_losses=keep_unit_losses,
                    idle=portion.idle,
                    several=optimizer.reserve,
                    passed=optimizer.passed,
                    redone=in_smaller,
                )

        with during(fix=otherwise):
            if not in_smaller:
                return once(pass_tokens)
            return fitting.run(once, bounds=lambda: pass_bounds(policy, portion.computed), forget=optimizer.clear)

    for number in range(start, steps):
        began = time.perf_counter()
        portion = drawn(number)
        policy.net.train()
        rate = learning_rate(step=number, steps=steps, lr=lr, schedule=schedule, warmup=warmup, min_lr=min_lr)
        if isinstance(optimizer, Optimizer) and optimizer.in_backward:
            _in_one_pass(portion.units, pass_tokens, policy)
            optimizer.begin(rate)
        while True:
            stats = gradient(number, portion)
            with during("sum of the gradients"):
                optimizer.reduce()
            if scaler is None or scaler.accept(optimizer):
                break  # else the same Units again with a smaller scale: an overflow costs time, never a step
        with during("optimiser's update"):
            norm = optimizer.step(lr=rate, clip=clip)
        if hasattr(objective, "after"):
            helpers.state = objective.after(helpers.state, stats.figures)
        yield Step(
            number=number + 1,
            epoch=(number + 1) / feed.per_epoch,
            lr=rate,
            grad_norm=norm,
            seconds=time.perf_counter() - began,
            stats=stats,
            indices=portion.indices,
        )


def _in_smaller_passes(optimizer: Optimizer | Sharded, pass_tokens: int | None) -> tuple[bool, str]:
    """(whether a step that memory broke off can be done again in smaller passes, what to do where that is no help)."""
    if isinstance(optimizer, Optimizer):
        made = "Under train.update_in_backward a step broken off has made updates, and cannot be done again."
        return (False, f"{made} Choose a smaller train.batch_size.") if optimizer.in_backward else (True, FIX)
    if optimizer.stage not in MEETING:
        return True, FIX
    now = "now all of a step" if pass_tokens is None else f"now {pass_tokens:,}"
    return False, (
        f"Under train.shard={optimizer.stage} all ranks meet within each pass, and one of them cannot halve it alone. "
        f"Choose a smaller train.pass_tokens ({now}), or train.shard=optimizer."
    )


def _in_one_pass(units: Sequence[Unit], pass_tokens: int | None, policy: Any) -> None:
    """Refuse a step of several passes whose updates are made as gradients come: those of the first pass would be updates already."""
    passes = len(passes_of(policy, units, pass_tokens))
    if passes > 1:
        raise SettingError(
            f"train.update_in_backward is true, but a step takes {passes} passes of train.pass_tokens={pass_tokens} tokens.",
            wanted="One pass a step: each gradient is used up as it comes.",
            fix="Leave train.pass_tokens out and choose train.batch_size for the memory.",
        )
