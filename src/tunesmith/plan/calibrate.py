"""What past runs on this machine taught: how far plans were off, how fast it multiplies and steps. One small file in the cache.

    error("cpu")           # 0.03 until runs were compared, then what they showed
    note("cpu", predicted=1.00e9, measured=1.01e9)
    pace("cpu")            # 1.4: steps took so many times what products and copies foretell

It lies in $TUNESMITH_CACHE or ~/.cache/tunesmith, holds numbers only, and may be deleted at any time.
"""

import json
import os
from pathlib import Path
from statistics import median
from typing import Any

from tunesmith.core.files import write_json
from tunesmith.plan.rates import LAUNCH, Rates

# Before anything was compared here, of all a device shows. A process also holds what its allocator keeps back: that is most of
# the processor's. No GPU was at hand to compare with: the card's is a guess on the wide side.
FIRST = {"cpu": 0.15, "cuda": 0.12}
LIVE = 0.03  # of the tensors alive at the peak alone; benchmarks/planner holds it
ENOUGH, KEPT = 5, 200


def place() -> Path:
    """The file."""
    root = (
        os.environ.get("TUNESMITH_CACHE")
        or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tunesmith"
    )
    return Path(root) / "planner.json"


def _read() -> dict[str, Any]:
    try:
        found = json.loads(place().read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def error(kind: str) -> float:
    """The share by which a plan on such a device may be off: the largest of the last runs' errors, half as much again; at
    least 1 %, and what was stated at first until there are five."""
    runs = [run for run in _read().get("runs", []) if run.get("kind") == kind]
    if len(runs) < ENOUGH:
        return FIRST[kind]
    return max(0.01, 1.5 * max(abs(run["predicted"] / run["measured"] - 1) for run in runs[-50:]))


def note(kind: str, *, predicted: float, measured: float, **more: Any) -> None:
    """Remember a run's predicted and measured peak."""
    if predicted > 0 and measured > 0:
        _append("runs", {"kind": kind, "predicted": predicted, "measured": measured, **more})


def pace(device: str) -> float:
    """What the seconds that rates foretell are multiplied by on a device, by its name: how the last steps there stood beside them, the
    median of twenty; 1 where none was timed."""
    found = [step["measured"] / step["predicted"] for step in _read().get("steps", []) if step.get("device") == device]
    return float(median(found[-20:])) if found else 1.0


def note_step(device: str, *, predicted: float, measured: float, **more: Any) -> None:
    """Remember the seconds of a step as the rates alone foretold them, and as it took them."""
    if predicted > 0 and measured > 0:
        _append("steps", {"device": device, "predicted": predicted, "measured": measured, **more})


def rates(kind: str) -> Rates | None:
    """Measured rates of this machine, or None."""
    found = _read().get("rates", {}).get(kind)
    return None if found is None else Rates(found["flops"], found["bandwidth"], LAUNCH[kind], True)


def keep_rates(kind: str, measured: Rates) -> None:
    """Remember them."""
    held = _read()
    held.setdefault("rates", {})[kind] = {"flops": dict(measured.flops), "bandwidth": measured.bandwidth}
    _write(held)


def _append(name: str, fact: dict[str, Any]) -> None:
    held = _read()
    held[name] = [*held.get(name, []), fact][-KEPT:]
    _write(held)


def _write(held: dict[str, Any]) -> None:
    path = place()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, held)
    except OSError:  # a read-only home: plans go on without a memory
        return
