"""Is the reward being gamed? Watches the figures of each step and says so in words, with the numbers.

    watch = Watch(kl_limit=10.0)
    for sign in watch.note(step.number, step.stats.figures):
        print(sign.name, sign.message)

Four signs (Gao et al. 2023, arXiv 2210.10760; Singhal et al. 2024, arXiv 2310.03716): the reward rises while a hidden metric falls;
answers grow longer as the reward rises; they repeat themselves more; the policy is farther from its start than allowed. A rise
is one that the Mann-Kendall trend test sees (Mann 1945), in the last steps or over the whole run, so a noisy figure is no
sign. Nothing is random: the same figures give the same signs, also after a resume (`state`). Each sign is given once, and
again only after it had been gone for a window.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

WATCHED = ("reward", "hidden", "length", "repetition", "kl")
SURE = 3.5  # standard deviations of the trend test: one false rise in 4,000 windows
MOST_BINS = 64  # of the whole run: two neighbours become one when it is full
LONGER = 1.25  # answers that grew by less are no sign
REPEATS = 0.05  # neither is repetition that rose by less than this share
FEW = 5  # steps whose median KL is compared with the limit


@dataclass(frozen=True)
class Sign:
    """One sign that the reward is gamed. name: hidden | length | repetition | kl; facts: the numbers behind it."""

    name: str
    step: int
    message: str
    fix: str
    facts: Mapping[str, float]


class Watch:
    """Figures of each step in, signs out. window: steps of the short look; kl_limit: in the figure's own unit."""

    def __init__(
        self, *, window: int = 20, kl_limit: float | None = None, state: Mapping[str, Any] | None = None
    ) -> None:
        if window < 8:
            raise ValueError(f"a window of {window} steps shows no trend; at least 8")
        self.window, self.kl_limit = window, kl_limit
        given = state or {}
        self._last: dict[str, list[float]] = {k: list(v) for k, v in given.get("last", {}).items()}
        self._bins: dict[str, list[float]] = {k: list(v) for k, v in given.get("bins", {}).items()}
        self._each: dict[str, int] = dict(given.get("each", {}))  # steps in a full bin
        self._open: dict[str, list[float]] = {k: list(v) for k, v in given.get("open", {}).items()}
        self._quiet: dict[str, int] = dict(given.get("quiet", {}))  # signs given: steps since they were last seen

    @property
    def state(self) -> dict[str, Any]:
        """Plain values for a checkpoint."""
        copied = {k: {n: list(v) for n, v in getattr(self, f"_{k}").items()} for k in ("last", "bins", "open")}
        return {**copied, "each": dict(self._each), "quiet": dict(self._quiet)}

    def note(self, step: int, figures: Mapping[str, float]) -> list[Sign]:
        """Take in a step's figures; the signs that are new with it."""
        for name in WATCHED:
            if name in figures and math.isfinite(figures[name]):
                self._take(name, float(figures[name]))
        found = [
            sign for sign in (self._hidden(step), self._length(step), self._repeats(step), self._far(step)) if sign
        ]
        new = [sign for sign in found if sign.name not in self._quiet]
        seen = {sign.name: 0 for sign in found}
        self._quiet = {k: v + 1 for k, v in self._quiet.items() if v + 1 < self.window} | seen
        return new

    def _take(self, name: str, value: float) -> None:
        self._last[name] = [*self._last.get(name, []), value][-self.window :]
        bins, part = self._bins.setdefault(name, []), self._open.setdefault(name, [])
        part.append(value)
        if len(part) >= self._each.setdefault(name, 1):
            bins.append(sum(part) / len(part))
            part.clear()
        if len(bins) >= MOST_BINS:
            bins[:] = [(a + b) / 2 for a, b in zip(bins[::2], bins[1::2])]
            self._each[name] *= 2

    def _views(self) -> list[tuple[str, dict[str, list[float]]]]:
        """The last steps, and the whole run: each with the series that are long enough to show a trend."""
        views = [(f"the last {self.window} steps", self._last), ("the run", self._bins)]
        return [(span, {k: v for k, v in held.items() if len(v) >= self.window}) for span, held in views]

    def _hidden(self, step: int) -> Sign | None:
        for span, held in self._views():
            if trend(held.get("reward", ())) > SURE and trend(held.get("hidden", ())) < -SURE:
                reward, hidden = _ends(held["reward"]), _ends(held["hidden"])
                return Sign(
                    "hidden",
                    step,
                    f"over {span} the reward rose from {reward[0]:.3g} to {reward[1]:.3g} while the hidden metric fell from "
                    f"{hidden[0]:.3g} to {hidden[1]:.3g}: the reward is paid for something else",
                    "Hold the policy nearer its start (kl, kl_target, kl_limit), or mend the reward.",
                    {"reward": reward[1] - reward[0], "hidden": hidden[1] - hidden[0]},
                )
        return None

    def _length(self, step: int) -> Sign | None:
        for span, held in self._views():
            if trend(held.get("reward", ())) > SURE and trend(held.get("length", ())) > SURE:
                first, last = _ends(held["length"])
                if last > LONGER * first:
                    return Sign(
                        "length",
                        step,
                        f"over {span} answers grew from {first:.1f} to {last:.1f} tokens as the reward rose: it may be paid "
                        "for length",
                        "Look at the samples; compare rewards of long and short answers that are equally good.",
                        {"length": last - first},
                    )
        return None

    def _repeats(self, step: int) -> Sign | None:
        for span, held in self._views():
            if trend(held.get("repetition", ())) > SURE:
                first, last = _ends(held["repetition"])
                if last > first + REPEATS:
                    return Sign(
                        "repetition",
                        step,
                        f"over {span} the share of answers that repeats what they said rose from {first:.2f} to {last:.2f}",
                        "Look at the samples; hold the policy nearer its start (kl), or make repetition cost reward.",
                        {"repetition": last - first},
                    )
        return None

    def _far(self, step: int) -> Sign | None:
        recent = sorted(self._last.get("kl", [])[-FEW:])
        if self.kl_limit is None or len(recent) < FEW or recent[FEW // 2] <= self.kl_limit:
            return None
        return Sign(
            "kl",
            step,
            f"the KL divergence to the starting model is {recent[FEW // 2]:.3g}, the limit {self.kl_limit:.3g}",
            "Raise kl, lower train.lr, or stop earlier; ppo holds it with kl_target or kl_limit.",
            {"kl": recent[FEW // 2], "limit": self.kl_limit},
        )


def trend(values: Sequence[float]) -> float:
    """Mann-Kendall's z: how many standard deviations more pairs rise than fall; below 0 they fall. Ties are allowed for.

    >>> round(trend([1, 2, 3, 4, 5, 6, 7, 8]), 2), trend([3, 3, 3])
    (3.34, 0.0)
    """
    given = np.asarray(values, dtype=np.float64)
    rises = float(np.triu(np.sign(given[None, :] - given[:, None]), 1).sum())
    _, counts = np.unique(given, return_counts=True)
    variance = (_pairs(len(given)) - sum(map(_pairs, counts.tolist()))) / 18
    if variance <= 0 or rises == 0:
        return 0.0
    return (rises - math.copysign(1, rises)) / math.sqrt(variance)


def _pairs(n: int) -> float:
    return float(n * (n - 1) * (2 * n + 5))


def _ends(values: Sequence[float]) -> tuple[float, float]:
    """Means of the first and the last third."""
    third = max(1, len(values) // 3)
    return sum(values[:third]) / third, sum(values[-third:]) / third
