"""Learning rate by optimiser step: a warm-up, then constant, linear, cosine or late (wsd) decay to `min_lr` (a share of the peak).

rate = learning_rate(step=10, steps=100, lr=1e-3, schedule="cosine", warmup=0.1)
"""

import math

from tunesmith.core.errors import SettingError

SCHEDULES = ("constant", "linear", "cosine", "wsd")


def warmup_steps(steps: int, warmup: float) -> int:
    """`warmup` below 1 is a share of all steps, otherwise a number of steps."""
    return min(steps, round(steps * warmup) if warmup < 1 else int(warmup))


def learning_rate(
    *, step: int, steps: int, lr: float, schedule: str = "linear", warmup: float = 0.0, min_lr: float = 0.0
) -> float:
    """Rate of the optimiser step number `step`, counted from 0. Micro-batches do not count.

    learning_rate(step=0, steps=10, lr=1.0, warmup=2) -> 0.5
    """
    if schedule not in SCHEDULES:
        raise SettingError(f"schedule {schedule!r} is not known", wanted=f"One of {', '.join(SCHEDULES)}.")
    rise = warmup_steps(steps, warmup)
    if step < rise:
        return lr * (step + 1) / rise
    if schedule == "constant":
        return lr
    if schedule == "wsd":  # warm-up, stable, decay (Hu et al. 2024, arXiv 2404.06395): the last fifth falls linearly
        return lr * (min_lr + (1 - min_lr) * min(1.0, (steps - step) / max(1, 0.2 * steps)))
    done = (step - rise) / max(1, steps - rise)
    left = 1 - done if schedule == "linear" else 0.5 * (1 + math.cos(math.pi * done))
    return lr * (min_lr + (1 - min_lr) * left)
