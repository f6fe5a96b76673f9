"""Where documents begin and end in a packed row, and causal attention that stays inside them, made for a CPU.

    segments = Segments((0, 12, 24, 40))
    attend(query, key, value, segments, scale)      # (40, heads, head_dim)

Where a C compiler is there, a kernel of ours computes it all (model/compiled.py). Else torch does: short documents of like
length form a group and go through batched matrix products together, each filled up to the group's longest: a call costs
more than the few scores too many, and torch's fused CPU kernel is 2 times slower forward and backward at 35 tokens in fp32,
20 times in bf16. Long ones go through the fused kernel one by one, which keeps no score matrix.
One gather lays queries (or keys, or values) of all groups as the products want them, one brings the results back.
"""

from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np
import torch

from tunesmith.model import compiled

# Tokens of a document up to which score matrices cost less than the fused kernel, measured forward and backward.
SHORT = {torch.float32: 144, torch.bfloat16: 640}

# Scores of one head that cost as much as the calls of one more group, and the share of them that filling up may add.
GROUP_COST = 4096
GROUP_SHARE = 0.15


def onto(values: torch.Tensor, device: torch.device | str) -> torch.Tensor:
    """`values` on `device`. To a card from pinned memory, so that this thread does not wait for what the card is at."""
    pinned = torch.device(device).type == "cuda" and values.device.type == "cpu"
    return (values.pin_memory() if pinned else values).to(device, non_blocking=pinned)


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

    def followed_by(self, tokens: int) -> "Segments":
        """With one document of so many tokens more, which shares nothing."""
        made = Segments((*self, self[-1] + tokens))
        if self.place is None or self.source is None:
            return made
        new = torch.arange(tokens, device=self.place.device)
        return made.sharing(torch.cat([self.place, new + len(self.source)]), torch.cat([self.source, new + self[-1]]))

    def to(self, device: torch.device | str) -> "Segments":
        """With its index lists on `device`."""
        if self.place is None or self.source is None:
            return self
        return self.sharing(onto(self.place, device), onto(self.source, device))

    @property
    def longest(self) -> int:
        """Tokens of the longest document."""
        return max((end - start for start, end in pairwise(self)), default=0)

    def cumulative(self, device: torch.device) -> torch.Tensor:
        """int32 (documents + 1,): the bounds, as varlen attention wants them; made once for all layers of a pass."""
        known: dict[Any, torch.Tensor] = self.__dict__.setdefault("_cumulative", {})
        if device not in known:
            known[device] = onto(torch.tensor(tuple(self), dtype=torch.int32), device)
        return known[device]

    def layout(self, short: int, heads: int, groups: int, device: torch.device) -> "_Layout":
        """Where attention computes each token's heads; made once for all layers of a pass."""
        known: dict[Any, _Layout] = self.__dict__.setdefault("_layouts", {})
        key = (short, heads, groups, device)
        if key not in known:
            known[key] = _lay(tuple(self), short, heads, groups, device)
        return known[key]


@dataclass(frozen=True)
class _Side:
    """The rows (token, head) of queries or of keys, in the order in which they are computed.

    gather  int64 (rows computed,): the row of (tokens * heads,) that goes there; filled-up places repeat a real one
    back    int64 (tokens * heads,): where each row's result is found
    filled  int64: the places that were filled up
    """

    gather: torch.Tensor
    back: torch.Tensor
    filled: torch.Tensor

    def fold(self, x: torch.Tensor) -> torch.Tensor:
        """(tokens, heads, dim) -> (rows computed, dim)."""
        return x.reshape(-1, x.shape[-1]).index_select(0, self.gather)

    def unfold(self, folded: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
        """The way back, (tokens, heads, dim)."""
        return folded.index_select(0, self.back).view(like.shape)


@dataclass(frozen=True)
class _Layout:
    """groups: (documents, tokens each is filled up to, whether the fused kernel computes it), in the order computed."""

    groups: tuple[tuple[int, int, bool], ...]
    query: _Side
    key: _Side

    @property
    def rows(self) -> int:
        """Tokens computed, filled-up ones too."""
        return sum(number * size for number, size, _ in self.groups)


def _lay(bounds: tuple[int, ...], short: int, heads: int, groups: int, device: torch.device) -> _Layout:
    starts, sizes = np.array(bounds[:-1]), np.diff(bounds)
    batches = _batches(sizes, short)
    facts = tuple((len(batch), int(sizes[batch].max()), bool(sizes[batch[0]] > short)) for batch in batches)
    return _Layout(facts, *(_side(starts, sizes, batches, number, groups, device) for number in (heads, groups)))


def _batches(sizes: np.ndarray, short: int) -> list[np.ndarray]:
    """Documents that are computed together: short ones of like length, long ones alone; empty ones nowhere."""
    order = np.argsort(sizes, kind="stable")[::-1]
    made: list[list[int]] = []
    real = 0  # scores that the last group's documents need
    for document in order[sizes[order] > 0].tolist():
        size = int(sizes[document])
        top = int(sizes[made[-1][0]]) if made else 0
        waste = (len(made[-1]) + 1) * top**2 - real - size**2 if made else 0
        if not made or size > short or top > short or waste > GROUP_COST + GROUP_SHARE * real:
            made.append([])
            real = 0
        made[-1].append(document)
        real += size**2
    return [np.array(batch) for batch in made]


def _side(starts, sizes, batches, heads: int, groups: int, device: torch.device) -> _Side:
    """Rows in the order (document, key head, query head of it, token), batch by batch."""
    gather, filled, placed = [], [], 0
    back = np.zeros((int(sizes.sum()), heads), dtype=np.int64)
    head = np.arange(heads).reshape(1, groups, heads // groups, 1)
    for batch in batches:
        size = int(sizes[batch].max())
        within = np.arange(size)[None, :]
        real = within < sizes[batch][:, None]  # (documents, size)
        token = starts[batch][:, None] + np.where(real, within, 0)
        rows = token[:, None, None, :] * heads + head  # (documents, groups, heads / groups, size)
        place = placed + np.arange(rows.size).reshape(rows.shape)
        is_real = np.broadcast_to(real[:, None, None, :], rows.shape)
        back.reshape(-1)[rows[is_real]] = place[is_real]
        gather.append(rows.reshape(-1))
        filled.append(place[~is_real])
        placed += rows.size
    lists = (np.concatenate(gather), back.reshape(-1), np.concatenate(filled))
    return _Side(*(torch.from_numpy(each).to(device) for each in lists))


def attend(
    query: torch.Tensor,  # (tokens, heads, head_dim)
    key: torch.Tensor,  # (tokens, kv_heads, head_dim)
    value: torch.Tensor,
    segments: Segments,
    scale: float,
) -> torch.Tensor:
    """Causal attention within each document, (tokens, heads, head_dim). On a CPU; heads are a multiple of kv_heads."""
    shared = segments.place is not None and segments.source is not None
    if shared:
        # everything but attention saw a shared prompt once; here it is read by each of its continuations
        query, key, value = (x.index_select(0, segments.place) for x in (query, key, value))
    if compiled.attends(query):
        mixed = compiled.Attend.apply(query, key, value, list(segments), scale)
    else:
        layout = segments.layout(SHORT.get(query.dtype, 144), query.shape[1], key.shape[1], query.device)
        mixed = _Attend.apply(query, key, value, layout, scale)
    return mixed.index_select(0, segments.source) if shared else mixed


class _Attend(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, query, key, value, layout, scale):
        heads, groups = query.shape[1], key.shape[1]
        folded = [layout.query.fold(query), layout.key.fold(key), layout.key.fold(value)]
        out = torch.empty_like(folded[0])
        kept: list[torch.Tensor] = []
        for (size, fused), (q, k, v, o) in _walk(layout, heads, groups, *folded, out):
            if not fused:
                mask = _mask(size, heads // groups, q.dtype, q.device)
                weights = torch.softmax(torch.baddbmm(mask, q, k.transpose(1, 2), alpha=scale), dim=-1)
                torch.bmm(weights, v, out=o)
                kept.append(weights)
            else:
                q, k, v = (_by_head(x, heads, size) for x in (q, k, v))
                made, lse = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(q, k, v, 0.0, True, scale=scale)
                o.copy_(made.reshape(o.shape))
                kept.append(lse)
        out = layout.query.unfold(out, query)
        ctx.save_for_backward(query, key, value, out, *kept)
        ctx.layout, ctx.scale = layout, scale
        return out

    @staticmethod
    def backward(ctx: Any, grad):
        query, key, value, out, *kept = ctx.saved_tensors
        layout: _Layout = ctx.layout
        heads, groups = query.shape[1], key.shape[1]
        folded = [layout.query.fold(query), layout.key.fold(key), layout.key.fold(value), layout.query.fold(grad)]
        if len(layout.query.filled):
            folded[3].index_fill_(0, layout.query.filled, 0.0)  # nothing flows back from filled-up places
        folded.append(layout.query.fold(out) if any(fused for _, _, fused in layout.groups) else folded[3])
        d_q, d_k, d_v = (torch.empty_like(x) for x in folded[:3])
        walk = _walk(layout, heads, groups, *folded, d_q, d_k, d_v)
        for ((size, fused), (q, k, v, g, o, to_q, to_k, to_v)), saved in zip(walk, kept):
            if not fused:
                d_scores = torch._softmax_backward_data(torch.bmm(g, v.transpose(1, 2)), saved, -1, saved.dtype)
                d_scores.mul_(ctx.scale)
                torch.bmm(d_scores, k, out=to_q)
                torch.bmm(d_scores.transpose(1, 2), q, out=to_k)
                torch.bmm(saved.transpose(1, 2), g, out=to_v)
            else:
                each = (_by_head(x, heads, size) for x in (g, q, k, v, o))
                made = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward(
                    *each, saved, 0.0, True, scale=ctx.scale
                )
                for whole, part in zip((to_q, to_k, to_v), made):
                    if len(whole) * whole.shape[1] != heads * size:  # a shared head gets the sum of its queries'
                        part = part.unflatten(1, (groups, heads // groups)).sum(2)
                    whole.copy_(part.reshape(whole.shape))
        return layout.query.unfold(d_q, query), layout.key.unfold(d_k, key), layout.key.unfold(d_v, value), None, None


def _walk(layout: _Layout, heads: int, groups: int, *folded: torch.Tensor):
    """((tokens, fused), each tensor's part as (documents * key heads, rows, dim)) group by group."""
    at = 0  # rows of one head before this group
    for number, size, fused in layout.groups:
        parts = []
        for x in folded:
            own = len(x) // layout.rows  # heads of this tensor
            parts.append(x[at * own : (at + number * size) * own].view(number * groups, own // groups * size, -1))
        yield (size, fused), parts
        at += number * size


def _by_head(x: torch.Tensor, heads: int, size: int) -> torch.Tensor:
    """One document's (key heads, own heads of each * size, dim) -> (1, heads, size, dim), shared key heads repeated."""
    x = x.reshape(1, -1, size, x.shape[-1])
    return x if x.shape[1] == heads else x.repeat_interleave(heads // x.shape[1], dim=1)


@lru_cache(maxsize=512)
def _mask(size: int, times: int, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """(times * size, size): 0 where a query may look, -inf at later tokens."""
    mask = torch.full((size, size), float("-inf"), dtype=dtype, device=device).triu(1)
    return mask.repeat(times, 1)
