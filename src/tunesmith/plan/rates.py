"""How long operations take on a device: the longer of multiplying and of moving bytes, for each call (a roofline).

    rates = measure("float32")                      # this machine, two seconds
    seconds(simulation.work, rates)                 # Seconds(passes=1.9, update=0.1)

Williams et al. 2009. Rates are measured here, or a maker's figures times the share that training reaches (devices.py).
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import torch

from tunesmith.plan.devices import REACHED, Device

LAUNCH = {"cpu": 4e-6, "cuda": 6e-6}  # seconds a call costs whatever it does


@dataclass(frozen=True)
class Rates:
    """flops: operations a second by number format; bandwidth: bytes a second; measured on this machine or taken from a table."""

    flops: Mapping[str, float]
    bandwidth: float
    launch: float
    measured: bool


@dataclass(frozen=True)
class Seconds:
    """Of the forward and backward passes, and of the update."""

    passes: float
    update: float


def seconds(work: Mapping[tuple[str, str, int, int], int], rates: Rates) -> Seconds:
    """Time of a step's operations."""
    total = {"passes": 0.0, "update": 0.0}
    slowest = min(rates.flops.values())
    for (part, dtype, flops, moved), times in work.items():
        each = max(flops / rates.flops.get(dtype, slowest), moved / rates.bandwidth) + rates.launch
        total[part] += each * times
    return Seconds(**total)


def of_device(device: Device) -> Rates | None:
    """A card's rates by its maker; None for one that only a memory size is known of."""
    if not device.flops:
        return None
    reached = {dtype: rate * REACHED for dtype, rate in device.flops.items()}
    return Rates(reached, device.bandwidth * 0.8, LAUNCH["cuda"], False)


def measure(*dtypes: str, device: str = "cpu", size: int = 1024, budget: float = 0.6) -> Rates:
    """Measure this machine: matrix products of (size, size), and copies beyond the caches; the best of several each."""
    rates = {}
    for dtype in dtypes or ("float32", "bfloat16"):
        a, b = (torch.randn(size, size, device=device).to(getattr(torch, dtype)) for _ in range(2))
        out = torch.empty_like(a)
        took = _best(partial(torch.mm, a, b, out=out), device, budget)
        rates[dtype] = 2 * size**3 / took
    block = torch.empty(1 << 26, dtype=torch.uint8, device=device)
    other = torch.empty_like(block)
    moved = _best(lambda: other.copy_(block), device, budget)
    return Rates(rates, 2 * block.numel() / moved, LAUNCH[torch.device(device).type], True)


def step_seconds(
    step: Callable[[], object],
    *,
    ready: Callable[[], object] = lambda: None,
    clock: Callable[[], float] = time.perf_counter,
) -> float:
    """Seconds of a real step: the mean of two, after one that warms up.

    step  makes one;  ready  waits until the device has made what it was asked for
    """
    step()
    ready()
    began = clock()
    for _ in range(2):
        step()
        ready()
    return (clock() - began) / 2


def _best(call: Callable[[], object], device: str, budget: float) -> float:
    call()
    best, until = float("inf"), time.perf_counter() + budget
    while time.perf_counter() < until:
        began = time.perf_counter()
        call()
        if device != "cpu":
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - began)
    return best
