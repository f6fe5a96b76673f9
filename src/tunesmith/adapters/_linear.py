"""A linear layer with a low-rank update: y = x (W + s B A)^T + b, only A and B trained.

In fp32 the forward pass multiplies once, by the merged weight, and keeps no activation but x, which its neighbours share.
In bf16 the update is computed beside the frozen weight: added to it, it would be rounded away. A packed weight is
dequantised in each pass and kept by none.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from tunesmith.adapters._stand_in import device_of, frozen, plain, precision, take_over, trained
from tunesmith.model.low_rank import gradients
from tunesmith.model.products import asked, linears, linears_backward, watched


class LoraLinear(nn.Module):
    """Stands in for an nn.Linear (weight (out, in)), a GPT-2 Conv1D (weight (in, out)) or a PackedLinear.

    weight and bias are the base's own parameters under their own names, so the base's state dict keeps its names.
    lora_A (rank, in) and lora_B (out, rank) are fp32. scale is alpha / rank, or alpha / sqrt(rank) for rsLoRA.
    in_place  whether the update is added to the base's product where it lies: not where that product is kept (train/recompute.py)
    """

    in_place = True

    def __init__(self, base: nn.Module, rank: int, scale: float, dropout: float) -> None:
        super().__init__()
        take_over(self, base)
        self.rank, self.scale, self.dropout = rank, scale, dropout
        like = {"dtype": precision(base), "device": device_of(base)}
        self.lora_A = trained(torch.empty(rank, self.in_features, **like))
        self.lora_B = trained(torch.zeros(self.out_features, rank, **like))

    def delta(self) -> torch.Tensor:
        """s B A, (out, in)."""
        return self.scale * (self.lora_B @ self.lora_A)

    def effective_weight(self) -> torch.Tensor:
        """W + s B A, differentiable in A and B: what the chunked loss multiplies by when the head is adapted."""
        weight = frozen(self)
        return weight + self.delta().to(weight.dtype) if self.enabled else weight

    def merged(self) -> torch.Tensor:
        """W + s B A, (out, in), added up in the update's precision."""
        return frozen(self).to(self.lora_A.dtype) + self.delta()

    def peft_tensors(self) -> dict[str, torch.Tensor]:
        """What is trained, by the endings of PEFT's names."""
        return {"lora_A.weight": self.lora_A, "lora_B.weight": self.lora_B}

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.enabled:
            return plain(self, x)
        if self.training and self.dropout:
            low = F.linear(F.dropout(x, self.dropout), self.lora_A.to(x.dtype))
            return plain(self, x) + self.scale * F.linear(low, self.lora_B.to(x.dtype))
        flat = x.reshape(-1, x.shape[-1])
        if not torch.is_grad_enabled():
            return self._without_gradient(flat).view(*x.shape[:-1], -1)
        merged = x.dtype in (torch.float32, torch.float64)
        weight = frozen(self) if self.quantised is None else None
        packed = None if self.quantised is None else self.quantised.packed
        settings = (self.scale, merged, packed, self.in_place)
        out = _Lora.apply(flat, weight, self.bias, self.lora_A, self.lora_B, *settings)
        return out.view(*x.shape[:-1], out.shape[-1])

    def together(
        self, x: torch.Tensor, layers: Sequence[nn.Module], gate: bool = False
    ) -> Sequence[torch.Tensor] | None:
        """What `layers`, of which this is one, make of the same x (n, in), with one product for all their A; None where they are not all
        alike: fp32, switched on, without dropout and hooks. gate: see model/products.py."""
        if x.dtype not in (torch.float32, torch.float64) or not torch.is_grad_enabled():
            return None
        if not all(type(layer) is LoraLinear and layer.joins for layer in layers):
            return None
        packed = [None if layer.quantised is None else layer.quantised.packed for layer in layers]
        weights = [frozen(layer) if layer.quantised is None else None for layer in layers]
        parts = [part for layer, w in zip(layers, weights) for part in (w, layer.bias, layer.lora_A, layer.lora_B)]
        made: Sequence[torch.Tensor] = _Together.apply(x, [layer.scale for layer in layers], packed, gate, *parts)
        return made

    @property
    def joins(self) -> bool:
        """Whether its update may be computed beside others of the same input."""
        if not self.enabled or (self.training and self.dropout) or watched(self):
            return False
        learns = self.quantised is None and frozen(self).requires_grad
        return not learns and (self.bias is None or not self.bias.requires_grad)

    def _without_gradient(self, x: torch.Tensor) -> torch.Tensor:
        few = x.shape[0] * (self.in_features + self.out_features) < self.in_features * self.out_features
        if few or x.dtype not in (torch.float32, torch.float64):
            low = F.linear(x, self.lora_A.to(x.dtype))
            return plain(self, x).addmm_(low, self.lora_B.to(x.dtype).T, alpha=self.scale)
        return F.linear(x, torch.addmm(frozen(self), self.lora_B, self.lora_A, alpha=self.scale), self.bias)

    def extra_repr(self) -> str:
        return f"in={self.in_features}, out={self.out_features}, rank={self.rank}, scale={self.scale:g}"


class _Lora(torch.autograd.Function):
    """x (n, in), weight (out, in) or packed, A (rank, in), B (out, rank) -> (n, out); saves x and no product of it."""

    @staticmethod
    def forward(ctx: Any, x, weight, bias, a, b, scale, merged, packed, in_place):
        ctx.save_for_backward(x, weight, a, b)
        ctx.scale, ctx.merged, ctx.bias, ctx.packed = scale, merged, bias is not None, packed
        weight = weight if packed is None else packed.dequantised(x.dtype)
        if merged:
            return linears(x, [weight], [bias], [a], [b], [scale])[0]
        product, low = F.linear(x, weight, bias), F.linear(x, a.to(x.dtype))
        return (product.addmm_ if in_place else product.addmm)(low, b.to(x.dtype).T, alpha=scale)

    @staticmethod
    def backward(ctx: Any, dy):
        x, weight, a, b = ctx.saved_tensors
        weight = weight if ctx.packed is None else ctx.packed.dequantised(x.dtype)
        scale = ctx.scale
        dx = dw = dbias = None
        if ctx.merged:
            if ctx.needs_input_grad[0]:
                dx = linears_backward([dy], [weight], [a], [b], [scale])
            (da,), (db,) = gradients(x, [dy], [a], [b], [scale])
        else:
            through = dy @ b.to(dy.dtype)  # (n, rank)
            if ctx.needs_input_grad[0]:
                dx = (dy @ weight).addmm_(through, a.to(dy.dtype), alpha=scale)
            da = (through.T @ x).to(a.dtype).mul_(scale)
            db = (F.linear(x, a.to(x.dtype)).T @ dy).T.to(b.dtype).mul_(scale)  # twice as fast as dy.T @ (x A.T)
        if ctx.needs_input_grad[1]:
            dw = dy.T @ x
        if ctx.bias and ctx.needs_input_grad[2]:
            dbias = dy.sum(0)
        return dx, dw, dbias, da, db, None, None, None, None


class _Together(torch.autograd.Function):
    """_Lora of several frozen weights over one x (n, in): x, scales, packed weights or None, then of each weight (out, in) or None, bias,
    A (rank, in), B (out, rank).

    The updates' gradients are made of all layers at once, and the gradients of x are added up as they are made.
    """

    @staticmethod
    def forward(ctx: Any, x, scales, packed, gate, *parts):
        ctx.save_for_backward(x, *parts)
        ctx.set_materialize_grads(False)
        ctx.scales, ctx.packed = scales, packed
        weights, biases, down, up = parts[::4], parts[1::4], parts[2::4], parts[3::4]
        if all(few is None for few in packed):
            made = linears(x, weights, biases, down, up, scales, gate)
            ctx.mark_non_differentiable(*made[len(scales) :])
            return tuple(made)
        made = []
        for w, few, bias, a, b, scale in zip(weights, packed, biases, down, up, scales, strict=True):
            made += linears(x, [_whole(w, few, x.dtype)], [bias], [a], [b], [scale])
        return tuple(made)

    @staticmethod
    def backward(ctx: Any, *grads):
        x, *parts = ctx.saved_tensors
        weights, down, up = parts[::4], parts[2::4], parts[3::4]
        back = asked(grads, x, up)
        das, dbs = gradients(x, back, down, up, ctx.scales)
        dx = None
        if ctx.needs_input_grad[0] and all(few is None for few in ctx.packed):
            dx = linears_backward(back, weights, down, up, ctx.scales)
        elif ctx.needs_input_grad[0]:
            for dy, few, w, a, b, scale in zip(back, ctx.packed, weights, down, up, ctx.scales):
                more = linears_backward([dy], [_whole(w, few, x.dtype)], [a], [b], [scale])
                dx = more if dx is None else dx.add_(more)
        return dx, None, None, None, *(gradient for da, db in zip(das, dbs) for gradient in (None, None, da, db))


def _whole(weight: torch.Tensor | None, packed: Any, dtype: torch.dtype) -> torch.Tensor:
    """A layer's weight (out, in), dequantised where it is packed: held by no name while the next one is."""
    return packed.dequantised(dtype) if weight is None else weight
