"""What a training process must hold within a limit that the kernel enforces: a memory cgroup, a container, a batch job.

    within(seen).fits       # a Forecast for a processor, its `device` the bytes that cannot be given back

The kernel takes pages of files back before it kills, so libraries do not count, only what was written. What is made and dropped
in each step leaves holes in the heap, which training keeps (core/heap.py); weights and states leave none.
"""

from dataclasses import replace

from tunesmith.plan.forecast import RUNTIME, Forecast

# `python -m benchmarks.fit` holds these to ten runs.
WRITTEN = 290 << 20  # by a Python that runs `tunesmith train`, before any model
HOLES = 1.25  # of the heap, for a byte of activations
ERROR = 0.08
PLANS = 50_000_000  # from so many parameters on a run plans itself, with torch's fake tensors loaded
STAY = ("weights", "masters", "optimizer", "helpers")


def within(seen: Forecast) -> Forecast:
    """The forecast for a limit: `device` is what the process has written at its highest moment."""
    stay = sum(seen.kinds.get(kind, 0) for kind in STAY)
    step = stay + round(HOLES * (seen.live - stay))
    others = max((size for name, size in seen.phases.items() if name != "step"), default=0)
    base = WRITTEN if seen.parameters < PLANS else RUNTIME
    return replace(seen, device=base + max(step, others), error=ERROR)
