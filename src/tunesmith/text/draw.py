"""Random numbers for one row, and another row of its split: what an objective's `units` is given as `draw`.

>>> draw = Draw([0, 0, 3], rows)
>>> draw.random(), draw.other()["origin"]
"""

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np


class Draw:
    """numpy's Generator, seeded by (seed, epoch, row): its methods, and `other`. Most methods draw nothing, so it is made when first asked."""

    def __init__(self, seed: Sequence[int], rows: Sequence[Mapping[str, Any]] = ()) -> None:
        self._seed, self._rows = seed, rows

    @cached_property
    def _made(self) -> np.random.Generator:
        return np.random.Generator(np.random.PCG64(np.random.SeedSequence(list(self._seed))))

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._made, name)

    def other(self) -> Mapping[str, Any]:
        """Another row than the one these numbers are for; the row itself when there is no other."""
        if len(self._rows) < 2:
            return self._rows[0]
        number = int(self.integers(len(self._rows) - 1))
        return self._rows[number + (number >= int(self._seed[-1]))]
