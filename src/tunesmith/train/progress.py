"""Progress for a person who waits: one line that is rewritten on a terminal, a line now and then elsewhere.

fit(..., listeners=[Progress()])
"""

import sys
import time
from collections.abc import Mapping
from typing import Any, TextIO

from tunesmith.report.labels import speaker


class Progress:
    """A listener on the events of a run; writes to stderr, so that stdout holds the result alone."""

    def __init__(self, stream: TextIO | None = None, every_seconds: float = 10.0, lang: str = "en") -> None:
        self.stream = stream or sys.stderr
        self.live = self.stream.isatty()
        self.every = every_seconds
        self.lang, self.say = lang, speaker(lang)
        self.last = 0.0

    def __call__(self, event: Mapping[str, Any]) -> None:
        kind, say = event["kind"], self.say
        if kind == "step":
            due = time.monotonic() - self.last > (0.2 if self.live else self.every)
            if due or event["step"] in (1, event["steps"]):
                self.last = time.monotonic()
                self._write(step_line(event, self.lang), end="" if self.live else "\n")
        elif kind == "eval":
            figures = event["figures"]
            parts = [say("step_eval", step=event["step"], loss=f"{event['dev_loss']:.4f}")]
            if "accuracy" in figures:
                parts.append(say("step_accuracy", share=f"{figures['accuracy']:.1%}"))
            if event["improved"]:
                parts.append(say("step_best"))
            self._write("  ".join(parts))
        elif kind == "warning":
            self._write(say("step_warning", step=event["step"], message=event["message"]) + f"\n  {event['fix']}")
        elif kind == "out_of_memory":
            part = event["part"]
            name = {"evaluation": "step_memory_evaluation", "rollouts": "step_memory_rollouts"}.get(part, "step_memory")
            now = event["prompts"] if part == "rollouts" else event["pass_tokens"]
            before, now = f"{event['before']:,}", f"{now:,}"
            self._write(say(name, part=part, step=event["step"], now=now, before=before))
        elif kind == "pause":
            self._write(say("step_paused", step=event["step"]))
        elif kind == "early_stop":
            self._write(say("step_early", step=event["step"], best=event["best_step"]))

    def _write(self, text: str, end: str = "\n") -> None:
        start = "\r\x1b[2K" if self.live else ""
        self.stream.write(f"{start}{text}{end}")
        self.stream.flush()


def step_line(event: Mapping[str, Any], lang: str = "en") -> str:
    """step 12/300  epoch 0.1  loss 2.31  3,120 tokens/s  1.2 GB  2 min left"""
    return speaker(lang)(
        "step_line", step=event["step"], steps=event["steps"], epoch=f"{event['epoch']:.2f}", loss=f"{event['loss']:.4f}",
        lr=f"{event['lr']:.2e}", speed=f"{event['tokens_per_second']:,.0f}", memory=f"{event['memory_bytes'] / 1e9:.2f}",
        left=duration(event["eta"], lang),
    )  # fmt: skip


def duration(seconds: float, lang: str = "en") -> str:
    """90 -> "1 min 30 s", or "1분 30초"."""
    say, seconds = speaker(lang), round(seconds)
    if seconds < 60:
        return say("seconds", n=seconds)
    minutes, rest = divmod(seconds, 60)
    if minutes < 60:
        return say("minutes", n=minutes, rest=rest)
    hours, minutes = divmod(minutes, 60)
    return say("hours", n=hours, rest=minutes)
