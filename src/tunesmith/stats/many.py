"""Several tests at once: adjusted p-values, so that ten checkpoints do not make one lucky winner.

>>> [round(p, 3) for p in holm([0.01, 0.04, 0.03])]
[0.03, 0.06, 0.06]

`holm` bounds the chance of even one false claim (to confirm); `benjamini_hochberg` the share of false ones among the claims
(to explore). Compare an adjusted p with the level you would use for a single test.
"""

from collections.abc import Sequence

import numpy as np


def holm(ps: Sequence[float]) -> list[float]:
    """Holm's step-down adjusted p-values, in the order given (Holm 1979). Valid whatever the tests have in common."""
    p, order = _sorted(ps)
    adjusted = np.maximum.accumulate(p * np.arange(len(p), 0, -1))
    return _unsorted(np.minimum(adjusted, 1.0), order)


def benjamini_hochberg(ps: Sequence[float]) -> list[float]:
    """Benjamini and Hochberg's adjusted p-values (false discovery rate, 1995), in the order given.

    >>> [round(p, 3) for p in benjamini_hochberg([0.01, 0.04, 0.03])]
    [0.03, 0.04, 0.04]
    """
    p, order = _sorted(ps)
    scaled = p * len(p) / np.arange(1, len(p) + 1)
    adjusted = np.minimum.accumulate(scaled[::-1])[::-1]
    return _unsorted(np.minimum(adjusted, 1.0), order)


def _sorted(ps: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    values = np.asarray(ps, dtype=np.float64)
    if values.ndim != 1 or not ((values >= 0) & (values <= 1)).all():
        raise ValueError("p-values are numbers from 0 to 1")
    order = np.argsort(values, kind="stable")
    return values[order], order


def _unsorted(values: np.ndarray, order: np.ndarray) -> list[float]:
    back = np.empty_like(values)
    back[order] = values
    return back.tolist()
