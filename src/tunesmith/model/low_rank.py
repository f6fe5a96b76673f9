"""Gradients of low-rank updates of layers that share an input: every dA and dB in one reading of it and of what came back.

    das, dbs = gradients(x, grads, downs, ups, scales)     # of y_l = x (W_l + scale_l up_l down_l)^T

As matrix products these are thin (a rank of 16 beside widths of hundreds), and a library's take three to four goes over tensors that
lie in no cache. kernels/low_rank.c, built by compiled.py, takes one. Where it does not fit, products do.
"""

import ctypes
from collections.abc import Sequence
from itertools import accumulate, pairwise

import torch
import torch.nn.functional as F
from torch.utils.flop_counter import register_flop_formula

from tunesmith.model.compiled import call, operation, places, reads

ROWS = 64  # fewer are not worth a call
LAYERS = 16  # the kernel's most


def fits(x: torch.Tensor, grads: Sequence[torch.Tensor], downs: Sequence[torch.Tensor]) -> bool:
    """Whether the kernel computes these: fp32, on a CPU, more than a few rows (n, in) and (n, out)."""
    known = x.dtype == torch.float32 and x.shape[0] >= ROWS and len(grads) <= LAYERS
    return known and reads("low_rank", x, *grads, *downs)


def gradients(
    x: torch.Tensor,
    grads: Sequence[torch.Tensor],
    downs: Sequence[torch.Tensor],
    ups: Sequence[torch.Tensor],
    scales: Sequence[float],
) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """x (n, in); of each layer the gradient of what it gave (n, out), A (rank, in), B (out, rank), scale. Every dA, every dB."""
    if not fits(x, grads, downs):
        return _products(x, grads, downs, ups, scales)
    rows = [grad.contiguous() for grad in grads]
    made = low_rank(x.contiguous(), rows, [a.contiguous() for a in downs], [b.contiguous() for b in ups], list(scales))
    return made[: len(rows)], made[len(rows) :]


def _products(x, grads, downs, ups, scales):
    low = F.linear(x, torch.cat([a * scale for a, scale in zip(downs, scales)]))
    through = torch.empty_like(low)
    places = list(pairwise(accumulate((len(a) for a in downs), initial=0)))
    dbs = []
    for dy, b, scale, (start, end) in zip(grads, ups, scales, places):
        torch.mm(dy, b * scale, out=through[:, start:end])
        dbs.append((low[:, start:end].T @ dy).T)  # twice as fast as dy.T @ low
    da = through.T @ x
    return [da[start:end] for start, end in places], dbs


@operation
def low_rank(
    x: torch.Tensor,
    grads: list[torch.Tensor],
    downs: list[torch.Tensor],
    ups: list[torch.Tensor],
    scales: list[float],
) -> list[torch.Tensor]:
    """Every dA (rank, in), then every dB (out, rank). An operation of torch's, so that plans without numbers know its sizes."""
    made, num = _sizes(x, grads, downs, ups, scales), len(grads)
    outputs, ranks = (
        (ctypes.c_int64 * num)(*(b.shape[0] for b in ups)),
        (ctypes.c_int64 * num)(*(b.shape[1] for b in ups)),
    )
    at = [places(given) for given in (grads, downs, ups, made[:num], made[num:])]
    factors = (ctypes.c_float * num)(*scales)
    if call("low_rank", "low_rank", x, *map(ctypes.c_int64, x.shape), num, outputs, ranks, factors, *at, kinds=False):
        raise MemoryError("the gradients of low-rank updates could not have their working memory")
    return made


@register_flop_formula(torch.ops.tunesmith.low_rank)
def _work(x, grads, downs, ups, scales, *rest, out_shape=None, **more):
    return sum(4 * x[0] * (down[0] * down[1] + up[0] * up[1]) for down, up in zip(downs, ups, strict=True))


@torch.library.register_fake("tunesmith::low_rank")
def _sizes(x, grads, downs, ups, scales):
    return [torch.empty_like(each) for each in (*downs, *ups)]
