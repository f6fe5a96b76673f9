"""Random numbers for one row, and another row of its split: what an objective's `units` is given as `draw`.

>>> draw = Draw([0, 0, 3], rows)
>>> draw.random(), draw.other()["origin"]
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np


class Draw(np.random.Generator):
    """numpy's Generator, seeded by (seed, epoch, row)."""

    def __init__(self, seed: Sequence[int], rows: Sequence[Mapping[str, Any]] = ()) -> None:
        super().__init__(np.random.PCG64(np.random.SeedSequence(list(seed))))
        self._rows, self._own = rows, int(seed[-1])

    def other(self) -> Mapping[str, Any]:
        """Another row than the one these numbers are for; the row itself when there is no other."""
        if len(self._rows) < 2:
            return self._rows[0]
        number = int(self.integers(len(self._rows) - 1))
        return self._rows[number + (number >= self._own)]
