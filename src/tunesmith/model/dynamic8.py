"""The 256 values of a dynamic eight-bit number (Dettmers 2015, arXiv 1511.04561), as bitsandbytes has them.

    codebook(signed=True)       # ascending floats from about -1 to 1, for the scales of nf4 and for means of gradients
    codebook(signed=False)      # from 0 to 1, for what is never negative

A power of ten from 1e-6 to 1, and a fraction that gets the bits that are left: close together near 0, far apart near 1.
"""

from functools import lru_cache

import numpy as np


@lru_cache(maxsize=2)
def codebook(signed: bool) -> tuple[float, ...]:
    """The values, ascending. Without a sign the fractions have a bit more."""
    values = [0.0, 1.0]
    for power in range(7):
        sizes = np.float32(10.0 ** (power - 6)) * _between(2 ** (power if signed else power + 1))
        values += [float(size) for size in sizes]
        if signed:
            values += [-float(size) for size in sizes]
    return tuple(sorted(values))


def _between(number: int) -> np.ndarray:
    """Middles of `number` equal pieces of [0.1, 1], float32, rounded as torch.linspace rounds: each half from its own end."""
    first, step = np.float32(0.1), (np.float32(1.0) - np.float32(0.1)) / np.float32(number)
    index = np.arange(number + 1)
    low = (first.astype(np.float64) + step.astype(np.float64) * index).astype(np.float32)
    high = (1.0 - step.astype(np.float64) * (number - index)).astype(np.float32)
    edges = np.where(index < (number + 1) // 2, low, high)
    return (edges[:-1] + edges[1:]) / np.float32(2)
