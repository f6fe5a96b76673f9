"""What a row becomes: Examples (token ids with a weight each), kept together in Units.

>>> Example.of([5, 6, 7], [0, 1, 1]).num_trained
2
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np


@dataclass(frozen=True, eq=False)
class Example:
    """One sequence of tokens as the model sees it.

    ids      int32, shape (time,)
    weights  float32, shape (time,): weight of predicting ids[i] from ids[:i]; 0 = not trained on; weights[0] is always 0
    columns  named extras: one value per token (array of shape (time,)) or one per Example (a number)
    """

    ids: np.ndarray
    weights: np.ndarray
    columns: Mapping[str, Any] = field(default_factory=dict)

    @staticmethod
    def of(ids: Sequence[int], weights: Sequence[float], **columns: Any) -> "Example":
        """Build from plain lists. The first token is predicted from nothing, so its weight becomes 0."""
        if len(ids) != len(weights):
            raise ValueError(f"{len(ids)} ids but {len(weights)} weights")
        weight = np.asarray(weights, dtype=np.float32).copy()
        if len(weight):
            weight[0] = 0.0
        return Example(np.asarray(ids, dtype=np.int32), weight, columns)

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def num_trained(self) -> int:
        """How many tokens are trained on."""
        return int(np.count_nonzero(self.weights))


@dataclass(frozen=True, eq=False)
class Unit:
    """1..n Examples that stay together in one step (a preference pair is 2), perhaps over one shared prompt.

    shared_prompt  the first `shared_prompt` ids are equal in all Examples and may be computed once
    origin         where the row came from, as `faq.jsonl:812`
    """

    examples: tuple[Example, ...]
    shared_prompt: int = 0
    origin: str = ""
    columns: Mapping[str, Any] = field(default_factory=dict)

    @property
    def num_tokens(self) -> int:
        """Tokens in memory, the shared prompt counted once."""
        return sum(len(example) for example in self.examples) - self.shared_prompt * (len(self.examples) - 1)


def together(examples: Sequence[Example], origin: str = "", columns: Mapping[str, Any] | None = None) -> Unit:
    """A Unit of Examples over one prompt: what they all start with and nobody is trained on is its shared prompt.

    >>> a, b = Example.of([5, 6, 7], [0, 0, 1]), Example.of([5, 6, 8, 9], [0, 0, 1, 1])
    >>> together([a, b]).shared_prompt
    2
    """
    if len(examples) < 2:
        return Unit(tuple(examples), origin=origin, columns=columns or {})
    first = examples[0]
    # at least one token of each Example is its own, and what is trained on is never shared
    shared = min(min(len(e) - 1, int(np.flatnonzero(e.weights)[0]) if e.num_trained else len(e) - 1) for e in examples)
    for other in examples[1:]:
        differs = np.flatnonzero(first.ids[:shared] != other.ids[:shared])
        shared = int(differs[0]) if len(differs) else shared
    return Unit(tuple(examples), shared_prompt=max(0, shared), origin=origin, columns=columns or {})


def weighed(example: Example, row: Mapping[str, Any]) -> Example:
    """The Example with its weights times the row's own, which `data.weight` reads; a row without one stays as it is.

    >>> weighed(Example.of([5, 6, 7], [0, 1, 1]), {"weight": 2.0}).weights.tolist()
    [0.0, 2.0, 2.0]
    """
    weight = row.get("weight")
    return example if weight is None else replace(example, weights=example.weights * np.float32(weight))


def spread(values: np.ndarray, example: Example) -> np.ndarray:
    """A column of the Example: `values` at its trained-on tokens, in order, and 0 elsewhere; float32 (time,)."""
    column = np.zeros(len(example), dtype=np.float32)
    column[np.flatnonzero(example.weights)] = values
    return column
