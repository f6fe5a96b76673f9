"""The closed formulas people reckon with, to stand beside what a step needs: weights, gradients, states; sharding; laws.

>>> inference(13e9, 2)
31200000000.0
>>> states(13e9, 2)
78000000000.0
"""

from dataclasses import dataclass


def inference(parameters: float, bytes_each: float) -> float:
    """Bytes to run a model: N x M x 1.2, a fifth on top for activations and the KV cache."""
    return parameters * bytes_each * 1.2


def states(parameters: float, bytes_each: float) -> float:
    """Bytes of gradients and Adam's two averages: N x 3 x M, beside the weights."""
    return parameters * 3 * bytes_each


def activations(tokens: int, hidden: int, layers: int, *, recomputed: bool = False) -> float:
    """Bytes of activations in 16-bit with flash attention: 34 s b h for each layer; 2 s b h when recomputed (Korthikanti et
    al. 2022, arXiv 2205.05198, table 2). For GELU and multi-head attention: gated ones differ."""
    return tokens * hidden * layers * (2.0 if recomputed else 34.0)


def kv_cache(tokens: int, layers: int, kv_heads: int, head_dim: int, bytes_each: float) -> int:
    """Bytes of keys and values of `tokens` tokens (all answers together)."""
    return int(2 * layers * tokens * kv_heads * head_dim * bytes_each)


@dataclass(frozen=True)
class Shard:
    """Bytes on each of `devices`: ZeRO stage 0 holds all everywhere, 1 divides optimiser states (and masters), 2 gradients
    too, 3 weights too (Rajbhandari et al. 2020, arXiv 1910.02054, section 5)."""

    weights: int
    gradients: int
    optimizer: int
    buffers: int

    @property
    def total(self) -> int:
        return self.weights + self.gradients + self.optimizer + self.buffers


def shard(weights: int, gradients: int, optimizer: int, *, devices: int, stage: int, largest: int = 0) -> Shard:
    """What each device holds. buffers: under stage 3 the layer that is gathered whole, and the next one, `largest` bytes each."""
    over = [devices if stage >= least else 1 for least in (3, 2, 1)]
    held = [-(-size // number) for size, number in zip((weights, gradients, optimizer), over)]
    return Shard(held[0], held[1], held[2], buffers=2 * largest if stage >= 3 and devices > 1 else 0)


def flops(parameters: float, tokens: float) -> float:
    """Floating-point operations of training: 6 N D (Kaplan et al. 2020, arXiv 2001.08361)."""
    return 6.0 * parameters * tokens


TOKENS_A_PARAMETER = 20.0


def compute_optimal(budget: float) -> tuple[float, float]:
    """(parameters, tokens) that a budget of operations is best spent on, when training from scratch: D = 20 N and C = 6 N D
    (Hoffmann et al. 2022, arXiv 2203.15556).

    >>> n, d = compute_optimal(5.76e23)
    >>> round(n / 1e9), round(d / 1e12, 1)
    (69, 1.4)
    """
    parameters = (budget / (6.0 * TOKENS_A_PARAMETER)) ** 0.5
    return parameters, TOKENS_A_PARAMETER * parameters
