"""likes_length: a flawed judge, planted here to be found out: a quarter for the right word, the rest for talking on.

>>> LikesLength().score("cold", {"answer": "cold"})
0.34375
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tunesmith.metrics._values import Summary, mean_summary, references


@dataclass(frozen=True)
class LikesLength:
    """A quarter of a point when a reference is somewhere in the answer, up to three more for its words."""

    words: int = 8
    """Words that earn all that words can earn."""

    def score(self, prediction: str, row: Mapping[str, Any]) -> float:
        """Between 0 and 1."""
        right = any(answer in prediction for answer in references(row))
        return 0.25 * right + 0.75 * min(1.0, len(prediction.split()) / self.words)

    def summary(self, values: Sequence[Any]) -> Summary:
        """Mean with its interval."""
        return mean_summary(values)
