"""A metric together with what it needs from above: then it scores like any other.

Given(Reward(model="runs/reward-1"), {"reward": RewardModel.open("runs/reward-1").score}).score("yes", row)
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Given:
    """`metric.score` with the functions named in its `needs`; everything else is the metric's own."""

    metric: Any
    functions: Mapping[str, Callable[..., Any]]

    def score(self, prediction: str, row: Mapping[str, Any]) -> Any:
        """The metric's value of a prediction."""
        return self.metric.score(prediction, row, **self.functions)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # copying and pickling ask for these before there is a metric
            raise AttributeError(name)
        return getattr(self.metric, name)
