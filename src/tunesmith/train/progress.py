"""Progress for a person who waits: one line that is rewritten on a terminal, a line now and then elsewhere.

fit(..., listeners=[Progress()])
"""

import sys
import time
from collections.abc import Mapping
from typing import Any, TextIO


class Progress:
    """A listener on the events of a run; writes to stderr, so that stdout holds the result alone."""

    def __init__(self, stream: TextIO | None = None, every_seconds: float = 10.0) -> None:
        self.stream = stream or sys.stderr
        self.live = self.stream.isatty()
        self.every = every_seconds
        self.last = 0.0

    def __call__(self, event: Mapping[str, Any]) -> None:
        kind = event["kind"]
        if kind == "step":
            due = time.monotonic() - self.last > (0.2 if self.live else self.every)
            if due or event["step"] in (1, event["steps"]):
                self.last = time.monotonic()
                self._write(step_line(event), end="" if self.live else "\n")
        elif kind == "eval":
            mark = "  (best so far)" if event["improved"] else ""
            figures = event["figures"]
            right = f"  accuracy {figures['accuracy']:.1%}" if "accuracy" in figures else ""
            self._write(f"step {event['step']}: dev loss {event['dev_loss']:.4f}{right}{mark}")
        elif kind == "warning":
            self._write(f"warning at step {event['step']}: {event['message']}\n  {event['fix']}")
        elif kind == "out_of_memory":
            now, before = event["pass_tokens"], event["before"]
            self._write(
                f"memory ran out in the {event['part']} pass of step {event['step']}: passes hold {now:,} tokens from now on, not {before:,}"
            )
        elif kind == "pause":
            self._write(f"paused at step {event['step']}: goes on when the pause file is gone")
        elif kind == "early_stop":
            self._write(f"stopped early at step {event['step']}: dev loss was best at step {event['best_step']}")

    def _write(self, text: str, end: str = "\n") -> None:
        start = "\r\x1b[2K" if self.live else ""
        self.stream.write(f"{start}{text}{end}")
        self.stream.flush()


def step_line(event: Mapping[str, Any]) -> str:
    """step 12/300  epoch 0.1  loss 2.31  3,120 tokens/s  1.2 GB  2 min left"""
    return (
        f"step {event['step']}/{event['steps']}  epoch {event['epoch']:.2f}  loss {event['loss']:.4f}  lr {event['lr']:.2e}  "
        f"{event['tokens_per_second']:,.0f} tokens/s  {event['memory_bytes'] / 1e9:.2f} GB  {duration(event['eta'])} left"
    )


def duration(seconds: float) -> str:
    """90 -> "1 min 30 s"."""
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds} s"
    minutes, rest = divmod(seconds, 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min"
