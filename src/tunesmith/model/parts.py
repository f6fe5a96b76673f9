"""What lies between the products of a decoder layer: residual + RMSNorm, rotary embedding, gated activation, each with its gradient.

    total, y = add_norm(x, delta, weight, eps)     # x + delta, and its norm
    y = norm(x, weight, eps)
    q = rotated(q, cos, sin)                       # (tokens, heads, dim) by (tokens, dim / 2)
    z = gated(gate, up)                            # silu(gate) * up

On a CPU these are bound by memory: torch goes over a tensor three to fourteen times for each of them, the kernel (kernels/parts.c,
built by compiled.py) reads and writes it once. Where there is no kernel, and in fp64, torch's operations compute the same.
Kept for the backward pass: inputs that are there anyway, and one number a row.
"""

import ctypes
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F

from tunesmith.model.compiled import call, operation, reads

LANES = 16  # the kernel's rows are multiples of so many elements
RUN = 64  # rows whose share of a weight's gradient is added up by one thread


def norm(x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    """RMSNorm over the last dimension (Zhang & Sennrich 2019, arXiv 1910.07467), reduced in fp32."""
    return _Norm.apply(x, None, weight, eps)[1]


def add_norm(
    x: torch.Tensor, delta: torch.Tensor | None, weight: torch.Tensor, eps: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """(x + delta, its RMSNorm); without delta (x, its RMSNorm). In the backward pass the gradients of both come together in one go."""
    return _Norm.apply(x, delta, weight, eps)


def rotated(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Rotary position embedding (Su et al. 2021, arXiv 2104.09864): (tokens, heads, dim) by cos and sin, (tokens, dim / 2)."""
    return all_rotated([x], cos, sin)[0]


def all_rotated(xs: Sequence[torch.Tensor], cos: torch.Tensor, sin: torch.Tensor) -> Sequence[torch.Tensor]:
    """Each of xs, of its own number of heads, rotated."""
    made: Sequence[torch.Tensor] = _Rotary.apply(cos, sin, *xs)
    return made


def gated(gate: torch.Tensor, up: torch.Tensor, made: torch.Tensor | None = None) -> torch.Tensor:
    """silu(gate) * up (Shazeer 2020, arXiv 2002.05202); the backward pass makes the sigmoid again instead of keeping it. made: the same, where
    something has it already."""
    return _Gated.apply(gate, up, made)


def fits(*tensors: torch.Tensor | None) -> bool:
    """Whether the kernel computes with these: one dtype of fp32 and bf16, on a CPU, rows of whole vectors."""
    there = [x for x in tensors if x is not None]
    return all(x.shape[-1] % LANES == 0 for x in there) and reads("parts", *there)


class _Norm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x, delta, weight, eps):
        ctx.set_materialize_grads(False)
        if fits(x, delta, weight):
            total, y, scale = normed(x.contiguous(), None if delta is None else delta.contiguous(), weight, eps)
        else:
            total = x if delta is None else x + delta
            wide = total if total.dtype in (torch.float32, torch.float64) else total.float()
            scale = torch.linalg.vector_norm(wide, dim=-1, keepdim=True).square_().div_(x.shape[-1]).add_(eps).rsqrt_()
            y = (wide * scale).to(x.dtype).mul_(weight)
        ctx.save_for_backward(x if delta is None else total, weight, scale)
        ctx.joined = delta is not None
        return x if delta is None else total, y

    @staticmethod
    def backward(ctx: Any, more, grad):
        x, weight, scale = ctx.saved_tensors
        learns = ctx.needs_input_grad[2]
        if grad is None:
            return more, more, None, None
        if fits(x, weight, grad) and (more is None or more.dtype == x.dtype):
            more = None if more is None else more.contiguous()
            d_x, d_weight = norm_backward(x.contiguous(), weight, scale, grad.contiguous(), more, learns)
            return d_x, d_x if ctx.joined else None, d_weight.to(weight.dtype) if learns else None, None
        wide = x if x.dtype in (torch.float32, torch.float64) else x.float()
        grad = grad if grad.dtype == wide.dtype else grad.to(wide.dtype)
        hat = wide * scale
        d_weight = (grad * hat).reshape(-1, grad.shape[-1]).sum(0).to(weight.dtype) if learns else None
        through = grad * weight
        mean = (through * hat).mean(-1, keepdim=True)
        d_x = through.addcmul_(hat, mean, value=-1).mul_(scale).to(x.dtype)
        d_x = d_x if more is None else d_x.add_(more)
        return d_x, d_x if ctx.joined else None, d_weight, None


class _Rotary(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, cos, sin, *xs):
        ctx.save_for_backward(cos, sin)
        return _rotate(xs, cos, sin, 1.0)

    @staticmethod
    def backward(ctx: Any, *grads):
        return None, None, *_rotate(grads, *ctx.saved_tensors, -1.0)


def _rotate(xs: Sequence[torch.Tensor], cos: torch.Tensor, sin: torch.Tensor, sign: float) -> tuple[torch.Tensor, ...]:
    if fits(*xs, cos, sin):
        return tuple(rotate([x.contiguous() for x in xs], cos, sin, sign))
    cos, sin = cos[:, None], sin[:, None]
    made = []
    for x in xs:
        first, second = x.chunk(2, dim=-1)
        out = torch.empty_like(x)
        one, two = out.chunk(2, dim=-1)
        torch.mul(first, cos, out=one).addcmul_(second, sin, value=-sign)
        torch.mul(second, cos, out=two).addcmul_(first, sin, value=sign)
        made.append(out)
    return tuple(made)


class _Gated(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gate, up, made):
        ctx.save_for_backward(gate, up)
        if made is not None:
            return made
        if fits(gate, up):
            return gate_up(gate.contiguous(), up.contiguous())
        return F.silu(gate).mul_(up)

    @staticmethod
    def backward(ctx: Any, grad):
        gate, up = ctx.saved_tensors
        if fits(gate, up, grad):
            return *gate_up_backward(gate.contiguous(), up.contiguous(), grad.contiguous()), None
        d_up = F.silu(gate).mul_(grad)
        d_gate = torch.ops.aten.silu_backward(grad * up, gate)
        return d_gate, d_up, None


# Operations of torch's, so that plans on tensors without numbers know their sizes.


@operation
def normed(
    x: torch.Tensor, delta: torch.Tensor | None, weight: torch.Tensor, eps: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(x + delta (nothing without delta), its norm, fp32 1 / rms of each row)."""
    made = _norm_sizes(x, delta, weight, eps)
    rows = x.numel() // x.shape[-1]
    call("parts", "norm", x, delta, weight, *made, ctypes.c_int64(rows), x.shape[-1], ctypes.c_float(eps))
    return made


@torch.library.register_fake("tunesmith::normed")
def _norm_sizes(x, delta, weight, eps):
    total = x.new_empty(0) if delta is None else torch.empty_like(x)
    return total, torch.empty_like(x), x.new_empty((*x.shape[:-1], 1), dtype=torch.float32)


@operation
def norm_backward(
    x: torch.Tensor,
    weight: torch.Tensor,
    scale: torch.Tensor,
    grad: torch.Tensor,
    more: torch.Tensor | None,
    learns: bool,
) -> tuple[torch.Tensor, torch.Tensor]:
    """(gradient of x plus `more`, fp32 gradient of the weight (nothing unless it learns))."""
    d_x, d_weight = _norm_gradients(x, weight, scale, grad, more, learns)
    dim, rows = x.shape[-1], x.numel() // x.shape[-1]
    parts = torch.empty((-(-rows // RUN), dim) if learns else 0, dtype=torch.float32)
    sizes = (ctypes.c_int64(rows), RUN, dim)
    call("parts", "norm_backward", x, weight, scale, grad, more, d_x, d_weight if learns else None, parts, *sizes)
    return d_x, d_weight


@torch.library.register_fake("tunesmith::norm_backward")
def _norm_gradients(x, weight, scale, grad, more, learns):
    return torch.empty_like(x), x.new_empty(weight.shape if learns else 0, dtype=torch.float32)


@operation
def rotate(xs: list[torch.Tensor], cos: torch.Tensor, sin: torch.Tensor, sign: float) -> list[torch.Tensor]:
    """Each (tokens, heads, dim) turned by the angles, or with sign -1 turned back."""
    made = _rotate_sizes(xs, cos, sin, sign)
    for x, out in zip(xs, made, strict=True):
        sizes = (ctypes.c_int64(len(x)), x.shape[1], x.shape[2] // 2)
        call("parts", "rotate", x, cos, sin, out, *sizes, ctypes.c_float(sign))
    return made


@torch.library.register_fake("tunesmith::rotate")
def _rotate_sizes(xs, cos, sin, sign):
    return [torch.empty_like(x) for x in xs]


@operation
def gate_up(gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
    """silu(gate) * up."""
    out = torch.empty_like(gate)
    call("parts", "gated", gate, up, None, out, None, None, ctypes.c_int64(gate.numel()))
    return out


@torch.library.register_fake("tunesmith::gate_up")
def _gated_sizes(gate, up):
    return torch.empty_like(gate)


@operation
def gate_up_backward(gate: torch.Tensor, up: torch.Tensor, grad: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Gradients of gate and up."""
    d_gate, d_up = torch.empty_like(gate), torch.empty_like(up)
    call("parts", "gated", gate, up, grad, None, d_gate, d_up, ctypes.c_int64(gate.numel()))
    return d_gate, d_up


@torch.library.register_fake("tunesmith::gate_up_backward")
def _gated_gradients(gate, up, grad):
    return torch.empty_like(gate), torch.empty_like(up)
