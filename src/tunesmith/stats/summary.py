"""A score that never travels alone: its value, how many rows it rests on, and its 95 % interval.

>>> Summary(value=0.5, n=4, low=0.15, high=0.85).as_dict()["n"]
4
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True)
class Summary:
    """One score over n rows.

    value  the score;  low, high  its interval (infinite when n is too small to say)
    better  which way is good;  extra  tables that belong to it (confusion, per class, ...), plain JSON values
    """

    value: float
    n: int
    low: float
    high: float
    better: Literal["higher", "lower"] = "higher"
    extra: Mapping[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON; an infinite bound becomes None, since JSON has no infinity."""
        return {
            "value": _finite(self.value),
            "n": self.n,
            "low": _finite(self.low),
            "high": _finite(self.high),
            "better": self.better,
            "extra": dict(self.extra),
        }

    @staticmethod
    def of_dict(values: Mapping[str, Any]) -> "Summary":
        """The way back from `as_dict`."""
        low, high = values["low"], values["high"]
        return Summary(
            values["value"],
            values["n"],
            -math.inf if low is None else low,
            math.inf if high is None else high,
            values["better"],
            values["extra"],
        )


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
