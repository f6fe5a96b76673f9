"""A linear layer with a low-rank update: y = x (W + s B A)^T + b, only A and B trained.

In fp32 the forward pass multiplies once, by the merged weight, and keeps no activation but x, which its neighbours share.
In bf16 the update is computed beside the frozen weight: added to it, it would be rounded away.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn


class LoraLinear(nn.Module):
    """Stands in for an nn.Linear (weight (out, in)) or a GPT-2 Conv1D (weight (in, out)).

    weight and bias are the base's own parameters under their own names, so the base's state dict keeps its names.
    lora_A (rank, in) and lora_B (out, rank) are fp32. scale is alpha / rank, or alpha / sqrt(rank) for rsLoRA.
    """

    def __init__(self, base: nn.Module, rank: int, scale: float, dropout: float, transposed: bool) -> None:
        super().__init__()
        self.base_type = type(base)
        self.weight, self.bias = base.weight, base.bias
        self.transposed = transposed
        self.scale = scale
        self.dropout = dropout
        self.enabled = True
        rows, columns = self.weight.shape[::-1] if transposed else self.weight.shape
        self.out_features, self.in_features = rows, columns
        wide = torch.float64 if self.weight.dtype == torch.float64 else torch.float32
        device = self.weight.device
        self.lora_A = nn.Parameter(torch.empty(rank, columns, dtype=wide, device=device))
        self.lora_B = nn.Parameter(torch.zeros(rows, rank, dtype=wide, device=device))
        self.lora_A.adapter = self.lora_B.adapter = True  # type: ignore[attr-defined]

    def delta(self) -> torch.Tensor:
        """s B A in the weight's own orientation."""
        update = self.scale * (self.lora_B @ self.lora_A)
        return update.T if self.transposed else update

    def effective_weight(self) -> torch.Tensor:
        """W + s B A, differentiable in A and B: what the chunked loss multiplies by when the head is adapted."""
        return self.weight + self.delta().to(self.weight.dtype) if self.enabled else self.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        weight = self.weight.T if self.transposed else self.weight
        if not self.enabled:
            return F.linear(x, weight, self.bias)
        if self.training and self.dropout:
            low = F.linear(F.dropout(x, self.dropout), self.lora_A.to(x.dtype))
            return F.linear(x, weight, self.bias) + self.scale * F.linear(low, self.lora_B.to(x.dtype))
        flat = x.reshape(-1, x.shape[-1])
        if not torch.is_grad_enabled():
            return self._without_gradient(flat, weight).view(*x.shape[:-1], -1)
        merged = x.dtype in (torch.float32, torch.float64)
        out = _Lora.apply(flat, weight, self.bias, self.lora_A, self.lora_B, self.scale, merged)
        return out.view(*x.shape[:-1], out.shape[-1])

    def _without_gradient(self, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        few = x.shape[0] * (self.in_features + self.out_features) < self.in_features * self.out_features
        if few or x.dtype not in (torch.float32, torch.float64):
            low = F.linear(x, self.lora_A.to(x.dtype))
            return F.linear(x, weight, self.bias).addmm_(low, self.lora_B.to(x.dtype).T, alpha=self.scale)
        return F.linear(x, torch.addmm(weight, self.lora_B, self.lora_A, alpha=self.scale), self.bias)

    def unwrap(self) -> nn.Module:
        """The layer that was replaced, with its (perhaps merged) weight."""
        base = self.base_type.__new__(self.base_type)
        nn.Module.__init__(base)
        base.weight, base.bias = self.weight, self.bias
        if self.transposed:
            base.nf, base.nx = self.out_features, self.in_features
        else:
            base.in_features, base.out_features = self.in_features, self.out_features
        return base.train(self.training)

    def extra_repr(self) -> str:
        return f"in={self.in_features}, out={self.out_features}, rank={self.lora_A.shape[0]}, scale={self.scale:g}"


class _Lora(torch.autograd.Function):
    """x (n, in), weight (out, in) frozen or not, A (rank, in), B (out, rank) -> (n, out); saves x and no product of it."""

    @staticmethod
    def forward(ctx: Any, x, weight, bias, a, b, scale, merged):
        ctx.save_for_backward(x, weight, a, b)
        ctx.scale, ctx.merged, ctx.bias = scale, merged, bias is not None
        if merged:
            return F.linear(x, torch.addmm(weight, b, a, alpha=scale), bias)
        return F.linear(x, weight, bias).addmm_(F.linear(x, a.to(x.dtype)), b.to(x.dtype).T, alpha=scale)

    @staticmethod
    def backward(ctx: Any, dy):
        x, weight, a, b = ctx.saved_tensors
        scale = ctx.scale
        low_b = b.to(dy.dtype)
        through = dy @ low_b  # (n, rank)
        dx = dw = dbias = None
        if ctx.needs_input_grad[0]:
            if ctx.merged:
                dx = dy @ torch.addmm(weight, b, a, alpha=scale)
            else:
                dx = (dy @ weight).addmm_(through, a.to(dy.dtype), alpha=scale)
        if ctx.needs_input_grad[1]:
            dw = dy.T @ x
        if ctx.bias and ctx.needs_input_grad[2]:
            dbias = dy.sum(0)
        da = (through.T @ x).to(a.dtype).mul_(scale)
        db = (dy.T @ F.linear(x, a.to(x.dtype))).to(b.dtype).mul_(scale)
        return dx, dw, dbias, da, db, None, None
