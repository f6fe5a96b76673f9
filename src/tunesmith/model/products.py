"""Products with the weights of linear layers that share an input, each weight with its low-rank update or without.

    ys = projected(x, weights)                                   # x W' of each, with gradients
    ys = linears(x, weights, biases, downs, ups, scales)         # x (W + scale B A)' + bias of each: the sum is never whole
    dx = linears_backward(grads, weights, downs, ups, scales)    # sum of dy (W + scale B A)

On AMD processors without AVX-512 kernels/products.c (built by compiled.py) makes them: torch's library (MKL) reaches four fifths of
such a processor, the kernel nine tenths, and it packs an input once for all layers. Elsewhere, and for what it does not know, they are
torch's.
"""

import ctypes
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch.utils.flop_counter import register_flop_formula

from tunesmith.model.compiled import call, operation, places, reads

WORK = 200_000_000  # multiplications: of fewer, packing takes more than is gained
LAYERS = 16  # the kernel's most
GATED = 16  # what the widths of gated layers are multiples of
_left = False


def fits(x: torch.Tensor, *weights: torch.Tensor) -> bool:
    """Whether the kernel computes these: fp32, on a CPU that gains by it, enough rows (n, in or out) and weights (out, in) as they lie."""
    if _left or x.dtype != torch.float32 or x.dim() != 2 or not faster_here():
        return False
    enough = len(weights) <= LAYERS and x.shape[0] * sum(weight.numel() for weight in weights) >= WORK
    return enough and all(weight.is_contiguous() for weight in weights) and reads("products", x, *weights)


@contextmanager
def left_to_torch() -> Iterator[None]:
    """Within it torch makes them all: what is planned for another device."""
    global _left
    before, _left = _left, True
    try:
        yield
    finally:
        _left = before


@lru_cache(maxsize=1)
def faster_here() -> bool:
    """Whether this is a processor whose whole vectors torch's library does not fill: AMD's with AVX2 alone."""
    try:
        facts = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return False
    return "AuthenticAMD" in facts and torch.backends.cpu.get_cpu_capability() == "AVX2"


def linears(
    x: torch.Tensor,
    weights: Sequence[torch.Tensor],
    biases: Sequence[torch.Tensor | None] = (),
    downs: Sequence[torch.Tensor] = (),
    ups: Sequence[torch.Tensor] = (),
    scales: Sequence[float] = (),
    gate: bool = False,
) -> list[torch.Tensor]:
    """x (n, in); of each layer W (out, in) and, where there are any, bias (out,), and A (rank, in), B (out, rank), scale of updates.
    Each (n, out); with `gate`, of two layers, silu of the first times the second comes after them where it can be made on the way. Without
    gradients."""
    added = biases or [None] * len(weights)
    gate = gate and not any(bias is not None for bias in added) and weights[0].shape[0] % GATED == 0
    if not fits(x, *weights):
        return [F.linear(x, w, bias) for w, bias in zip(_merged(weights, downs, ups, scales), added, strict=True)]
    made: list[torch.Tensor] = multiply(x.contiguous(), list(weights), *_given(downs, ups), list(scales), gate)
    for y, bias in zip(made, added):
        if bias is not None:
            y.add_(bias)
    return made


def linears_backward(
    grads: Sequence[torch.Tensor],
    weights: Sequence[torch.Tensor],
    downs: Sequence[torch.Tensor] = (),
    ups: Sequence[torch.Tensor] = (),
    scales: Sequence[float] = (),
) -> torch.Tensor:
    """The gradient (n, in) of what linears() was given, of those (n, out) of what it gave."""
    if fits(grads[0], *weights):
        return multiply_backward(*_given(grads), list(weights), *_given(downs, ups), list(scales))
    dx = None
    for dy, weight in zip(grads, _merged(weights, downs, ups, scales), strict=True):
        dx = dy @ weight if dx is None else dx.addmm_(dy, weight)
    assert dx is not None
    return dx


def projected(x: torch.Tensor, weights: Sequence[torch.Tensor], gate: bool = False) -> Sequence[torch.Tensor]:
    """linears() of whole weights, with gradients (but of what `gate` adds)."""
    made: Sequence[torch.Tensor] = _Projected.apply(x, gate, *weights)
    return made


def watched(layer: Any) -> bool:
    """Whether hooks want to see a layer being called, or its gradients: then it has to be called itself."""
    return bool(layer._forward_hooks or layer._forward_pre_hooks or layer._backward_hooks or layer._backward_pre_hooks)


class _Projected(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x, gate, *weights):
        ctx.save_for_backward(x, *weights)
        ctx.set_materialize_grads(False)
        made = linears(x, weights, gate=gate)
        ctx.mark_non_differentiable(*made[len(weights) :])
        return tuple(made)

    @staticmethod
    def backward(ctx: Any, *grads):
        x, *weights = ctx.saved_tensors
        back, learn = asked(grads, x, weights), ctx.needs_input_grad[2:]
        dx = linears_backward(back, weights) if ctx.needs_input_grad[0] else None
        return dx, None, *(dy.T @ x if learns else None for dy, learns in zip(back, learn, strict=True))


def asked(grads: Sequence[torch.Tensor | None], x: torch.Tensor, outputs: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """Of each layer the gradient of what it gave, zeros where nothing came back; `outputs`: anything of as many rows as it has outputs."""
    return [x.new_zeros(len(x), len(one)) if dy is None else dy for dy, one in zip(grads, outputs)]


def _given(*tensors: Sequence[torch.Tensor]) -> list[list[torch.Tensor]]:
    return [[each.contiguous() for each in some] for some in tensors]


def _merged(weights, downs, ups, scales):
    """W + scale B A, made one after another: none is held for longer than it is used."""
    if not scales:
        return iter(weights)
    return (torch.addmm(w, b, a, alpha=scale) for w, a, b, scale in zip(weights, downs, ups, scales, strict=True))


@operation
def multiply(
    x: torch.Tensor,
    weights: list[torch.Tensor],
    downs: list[torch.Tensor],
    ups: list[torch.Tensor],
    scales: list[float],
    gate: bool,
) -> list[torch.Tensor]:
    """linears() of contiguous tensors. An operation of torch's, so that plans without numbers know its sizes and its work."""
    made = _outputs(x, weights, downs, ups, scales, gate)
    _run(0, x, made[: len(weights)], weights, downs, ups, scales, made[-1] if gate else None)
    return made


@torch.library.register_fake("tunesmith::multiply")
def _outputs(x, weights, downs, ups, scales, gate):
    return [x.new_empty(len(x), len(weight)) for weight in (*weights, *weights[:gate])]


@operation
def multiply_backward(
    grads: list[torch.Tensor],
    weights: list[torch.Tensor],
    downs: list[torch.Tensor],
    ups: list[torch.Tensor],
    scales: list[float],
) -> torch.Tensor:
    """linears_backward() of contiguous tensors."""
    dx = _gradient(grads, weights, downs, ups, scales)
    _run(1, dx, grads, weights, downs, ups, scales)
    return dx


@torch.library.register_fake("tunesmith::multiply_backward")
def _gradient(grads, weights, downs, ups, scales):
    return grads[0].new_empty(len(grads[0]), weights[0].shape[1])


@register_flop_formula(torch.ops.tunesmith.multiply)
def _work(x, weights, *rest, out_shape=None, **more):
    return sum(2 * x[0] * w[0] * w[1] for w in weights)


@register_flop_formula(torch.ops.tunesmith.multiply_backward)
def _work_backward(grads, weights, *rest, out_shape=None, **more):
    return sum(2 * grads[0][0] * w[0] * w[1] for w in weights)


def _run(backward: int, x: torch.Tensor, ys, weights, downs, ups, scales, gated: torch.Tensor | None = None) -> None:
    num = len(weights)
    ranks = [len(a) for a in downs] or [0] * num
    numbers = [(ctypes.c_int64 * num)(*some) for some in ([len(w) for w in weights], ranks)]
    factors = (ctypes.c_float * num)(*(scales or [0.0] * num))
    at = [places(some) for some in (weights, downs, ups, ys)]
    sizes = map(ctypes.c_int64, x.shape)
    if call("products", "products", backward, x, *sizes, num, *numbers, factors, *at, gated, kinds=False):
        raise MemoryError("the products of linear layers could not have their working memory")
