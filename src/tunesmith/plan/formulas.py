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


ROOM = 128  # columns that a key-value cache grows by, at least (model/decode_lean.py)


def cache_columns(prompt: int, total: int, *, refilled: bool = False) -> int:
    """Columns of the key-value cache at its highest moment, while texts grow from `prompt` tokens to `total`. model/decode_lean.py starts
    with half the prompt's columns on top, ROOM at least; when they are full it copies what is still read into half as many again, ROOM at
    least, and the old ones and the new ones live together.

    refilled  rows that are finished make place for others, which write on where those stopped: full columns come again and again

    >>> cache_columns(100, 200), cache_columns(100, 300), cache_columns(100, 200, refilled=True)
    (228, 584, 656)
    """
    held = most = prompt + max(ROOM, prompt // 2)
    while refilled or held < total - 1:  # the last token is drawn and not read again
        read = min(held, total)
        grown = held if read + ROOM <= held else read + max(ROOM, read // 2)
        most = max(most, held + grown)
        if grown == held:
            break
        held = grown
    return most


@dataclass(frozen=True)
class Shard:
    """Bytes on each of `devices`: ZeRO stage 0 holds all everywhere, 1 divides optimiser states (and masters), 2 gradients
    too, 3 weights too (Rajbhandari et al. 2020, arXiv 1910.02054, section 5)."""

    weights: int
    gradients: int
    optimizer: int

    @property
    def total(self) -> int:
        return self.weights + self.gradients + self.optimizer


def shard(weights: int, gradients: int, optimizer: int, *, devices: int, stage: int) -> Shard:
    """What each device holds between passes; what is gathered for them under stage 3 says shards.py."""
    over = [devices if stage >= least else 1 for least in (3, 2, 1)]
    held = [-(-size // number) for size, number in zip((weights, gradients, optimizer), over)]
    return Shard(*held)


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
