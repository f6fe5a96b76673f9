"""Where documents begin and end in a packed row, and causal attention that stays inside them, made for a CPU.

    segments = Segments((0, 12, 24, 40))
    segments.runs                              # ((0, 2, 12), (24, 1, 16)): start, how many, tokens each

Documents of equal length that lie side by side form a run and are computed in one batch; `pack` lays them out so.
Short documents go through batched matrix products: torch's fused CPU kernel is 2 times slower forward and backward at 35
tokens in fp32, and 20 times in bf16. Long ones go through the fused kernel, which keeps no score matrix.
"""

from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Any

import torch

# Tokens of a document up to which score matrices cost less than the fused kernel, measured forward and backward.
SHORT = {torch.float32: 144, torch.bfloat16: 640}


class Segments(tuple):
    """Bounds of the documents of a packed row: (0, end of the first, ..., number of tokens).

    Where documents share their beginning (the answers to one prompt), the row holds it once. The bounds are then those
    of the documents written out in full, and two index lists lead from one to the other:

    place   int64 (tokens in full,): where each token of each document lies in the row; None = nothing is shared
    source  int64 (tokens of the row,): which of the tokens in full each one of the row is
    """

    place: torch.Tensor | None = None
    source: torch.Tensor | None = None

    def sharing(self, place: torch.Tensor, source: torch.Tensor) -> "Segments":
        """The same bounds, over a row in which shared beginnings lie once."""
        made = Segments(self)
        made.place, made.source = place, source
        return made

    def to(self, device: torch.device | str) -> "Segments":
        """With its index lists on `device`."""
        if self.place is None or self.source is None:
            return self
        return self.sharing(self.place.to(device), self.source.to(device))

    @property
    def runs(self) -> tuple[tuple[int, int, int], ...]:
        """(start, number of documents, tokens of each) of neighbours of equal length."""
        return _runs(self)


@lru_cache(maxsize=16)
def _runs(bounds: Sequence[int]) -> tuple[tuple[int, int, int], ...]:
    runs: list[tuple[int, int, int]] = []
    for start, end in pairwise(bounds):
        size = end - start
        if runs and runs[-1][2] == size:
            runs[-1] = (runs[-1][0], runs[-1][1] + 1, size)
        else:
            runs.append((start, 1, size))
    return tuple(runs)


def attend(
    query: torch.Tensor,  # (tokens, heads, head_dim)
    key: torch.Tensor,  # (tokens, kv_heads, head_dim)
    value: torch.Tensor,
    segments: Segments,
    scale: float,
) -> torch.Tensor:
    """Causal attention within each document, (tokens, heads, head_dim). On a CPU; heads are a multiple of kv_heads."""
    if segments.place is not None and segments.source is not None:
        # everything but attention saw a shared prompt once; here it is read by each of its continuations
        query, key, value = (x.index_select(0, segments.place) for x in (query, key, value))
        mixed = _Attend.apply(query, key, value, segments.runs, scale)
        return mixed.index_select(0, segments.source)
    return _Attend.apply(query, key, value, segments.runs, scale)


class _Attend(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, query, key, value, runs, scale):
        out = torch.empty_like(query)
        kept: list[torch.Tensor] = []
        for start, number, size in runs:
            rows = slice(start, start + number * size)
            q, k, v = (_fold(x[rows], number, size, key.shape[1]) for x in (query, key, value))
            if size <= SHORT.get(query.dtype, 144):
                mask = _mask(size, q.shape[1] // size, q.dtype, q.device)
                weights = torch.softmax(torch.baddbmm(mask, q, k.transpose(1, 2), alpha=scale), dim=-1)
                out[rows] = _unfold(torch.bmm(weights, v), number, size, key.shape[1])
                kept.append(weights)
            else:
                q, k, v = (_by_head(x[rows], number, size, query.shape[1]) for x in (query, key, value))
                made, lse = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(q, k, v, 0.0, True, scale=scale)
                out[rows] = made.transpose(1, 2).reshape(number * size, *query.shape[1:])
                kept.append(lse)
        ctx.save_for_backward(query, key, value, out, *kept)
        ctx.runs, ctx.scale = runs, scale
        return out

    @staticmethod
    def backward(ctx: Any, grad):
        query, key, value, out, *kept = ctx.saved_tensors
        heads, groups = query.shape[1], key.shape[1]
        grad = grad.contiguous()
        d_query, d_key, d_value = torch.empty_like(query), torch.empty_like(key), torch.empty_like(value)
        for (start, number, size), saved in zip(ctx.runs, kept):
            rows = slice(start, start + number * size)
            if size <= SHORT.get(query.dtype, 144):
                q, k, v, g = (_fold(x[rows], number, size, groups) for x in (query, key, value, grad))
                d_weights = torch.bmm(g, v.transpose(1, 2))
                d_scores = torch._softmax_backward_data(d_weights, saved, -1, saved.dtype).mul_(ctx.scale)
                d_query[rows] = _unfold(torch.bmm(d_scores, k), number, size, groups)
                d_key[rows] = _unfold(torch.bmm(d_scores.transpose(1, 2), q), number, size, groups)
                d_value[rows] = _unfold(torch.bmm(saved.transpose(1, 2), g), number, size, groups)
            else:
                q, k, v, g, o = (_by_head(x[rows], number, size, heads) for x in (query, key, value, grad, out))
                made = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward(
                    g, q, k, v, o, saved, 0.0, True, scale=ctx.scale
                )
                for whole, part in zip((d_query, d_key, d_value), made):
                    flat = part.transpose(
                        1, 2
                    )  # (number, size, heads, dim); a shared head gets the sum of its queries'
                    if whole.shape[1] != heads:
                        flat = flat.unflatten(2, (groups, heads // groups)).sum(3)
                    whole[rows] = flat.reshape(number * size, *whole.shape[1:])
        return d_query, d_key, d_value, None, None


def _fold(x: torch.Tensor, number: int, size: int, groups: int) -> torch.Tensor:
    """(number * size, heads, dim) -> (number * groups, heads / groups * size, dim): the queries of one key head together."""
    each = x.shape[1] // groups
    return x.view(number, size, groups, each, -1).permute(0, 2, 3, 1, 4).reshape(number * groups, each * size, -1)


def _unfold(x: torch.Tensor, number: int, size: int, groups: int) -> torch.Tensor:
    """The way back of `_fold`, as a view (tokens, heads, dim) that still has to be copied."""
    each = x.shape[1] // size
    return x.view(number, groups, each, size, -1).permute(0, 3, 1, 2, 4).reshape(number * size, groups * each, -1)


def _by_head(x: torch.Tensor, number: int, size: int, heads: int) -> torch.Tensor:
    """(number * size, own heads, dim) -> (number, heads, size, dim), shared key heads repeated."""
    x = x.view(number, size, x.shape[1], -1).transpose(1, 2)
    return x if x.shape[1] == heads else x.repeat_interleave(heads // x.shape[1], dim=1)


@lru_cache(maxsize=512)
def _mask(size: int, times: int, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """(times * size, size): 0 where a query may look, -inf at later tokens."""
    mask = torch.full((size, size), float("-inf"), dtype=dtype, device=device).triu(1)
    return mask.repeat(times, 1)
