"""Stop a run that cannot succeed, with the cause: NaN, divergence. And stop it gently when the user asks.

guard = DivergenceGuard(); guard.check(step, origins)     # raises TrainingError
with Asked() as asked: ... if asked: save and leave
"""

import math
import signal
from collections.abc import Sequence
from types import FrameType
from typing import Any, Self

from tunesmith.core.errors import TrainingError


class DivergenceGuard:
    """Watches the loss. `state` is plain numbers, saved with the checkpoint.

    Diverged = the smoothed loss stands `factor` times above its best plus one nat; smoothing over about ten steps.
    """

    def __init__(self, factor: float = 1.5, state: dict[str, float] | None = None) -> None:
        self.factor = factor
        given = state or {"mean": math.nan, "best": math.inf, "seen": 0}
        self.state = {name: float(value) for name, value in given.items()}  # in JSON infinity is the word "Infinity"

    def check(
        self, *, number: int, loss: float, grad_norm: float, lr: float, origins: Sequence[str], falls: bool = True
    ) -> None:
        """Raise TrainingError naming what happened at which step, and what to do.

        falls  False where the loss is no measure of progress (methods that sample): only NaN and infinity count
        """
        rows = ", ".join(origins[:3])
        if not math.isfinite(loss):
            raise TrainingError(
                f"the loss became {loss} at step {number} (learning rate {lr:.3g}, rows such as {rows})",
                fix="Start a new run with a lower train.lr or train.clip=1.0; with fp16 use train.precision=bf16. --resume would go the same way.",
            )
        if not math.isfinite(grad_norm):
            raise TrainingError(
                f"the gradient became {grad_norm} at step {number} while the loss was {loss:.4g} (learning rate {lr:.3g}, rows such as {rows})",
                fix="Lower train.lr or look at those rows: tunesmith data --show 3.",
            )
        if not falls:
            return
        state = self.state
        state["seen"] += 1
        state["mean"] = loss if math.isnan(state["mean"]) else 0.9 * state["mean"] + 0.1 * loss
        if state["seen"] >= 10:
            state["best"] = min(state["best"], state["mean"])
            if state["mean"] > self.factor * state["best"] + 1.0:
                raise TrainingError(
                    f"training diverged: the loss rose from {state['best']:.3f} to {state['mean']:.3f} by step {number} (learning rate {lr:.3g})",
                    fix="Lower train.lr (a third is a good next try) or lengthen train.warmup.",
                )


class Asked:
    """True once Ctrl-C or SIGTERM came; a second one stops at once, as usual."""

    def __init__(self) -> None:
        self.name = ""
        self._before: dict[int, Any] = {}

    def __bool__(self) -> bool:
        return bool(self.name)

    def __enter__(self) -> Self:
        for number in (signal.SIGINT, signal.SIGTERM):
            try:
                self._before[number] = signal.signal(number, self._note)
            except ValueError:  # not the main thread: whoever runs us there handles signals
                pass
        return self

    def __exit__(self, *_: object) -> None:
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.name = signal.Signals(number).name
        self._restore()
