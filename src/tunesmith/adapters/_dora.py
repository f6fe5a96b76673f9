"""A linear layer whose weight is a direction times a magnitude for each output: y = x (m / |V| * V)^T + b, V = W + s B A.

m, A and B train. The norms |V| (one for each row of V) count as constants in the backward pass, as the paper has it.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from tunesmith.adapters._stand_in import device_of, frozen, plain, precision, take_over, trained


class DoraLinear(nn.Module):
    """Stands in for a linear layer as LoraLinear does; `magnitude` (out,) starts as the norms of the base's rows."""

    def __init__(self, base: nn.Module, rank: int, scale: float, dropout: float) -> None:
        super().__init__()
        take_over(self, base)
        self.rank, self.scale, self.dropout = rank, scale, dropout
        like = {"dtype": precision(base), "device": device_of(base)}
        self.lora_A = trained(torch.empty(rank, self.in_features, **like))
        self.lora_B = trained(torch.zeros(self.out_features, rank, **like))
        self.magnitude = trained(row_norms(frozen(self).detach().to(precision(base)).contiguous()))

    def direction(self) -> torch.Tensor:
        """V = W + s B A, (out, in), in the update's precision."""
        return torch.addmm(frozen(self).to(self.lora_A.dtype), self.lora_B, self.lora_A, alpha=self.scale)

    def merged(self) -> torch.Tensor:
        """m / |V| * V: its rows have the norms m."""
        direction = self.direction()
        return direction * (self.magnitude / row_norms(direction.detach()))[:, None]

    def effective_weight(self) -> torch.Tensor:
        """`merged` in the base's precision, differentiable in m, A and B."""
        weight = frozen(self)
        return self.merged().to(weight.dtype) if self.enabled else weight

    def peft_tensors(self) -> dict[str, torch.Tensor]:
        """What is trained, by the endings of PEFT's names."""
        return {
            "lora_A.weight": self.lora_A,
            "lora_B.weight": self.lora_B,
            "lora_magnitude_vector": self.magnitude,
        }

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.enabled:
            return plain(self, x)
        if self.training and self.dropout or x.dtype not in (torch.float32, torch.float64):
            return self._beside(x)
        flat = x.reshape(-1, x.shape[-1])
        weight = frozen(self) if self.quantised is None else None
        packed = None if self.quantised is None else self.quantised.packed
        out = _Dora.apply(flat, weight, self.bias, self.lora_A, self.lora_B, self.magnitude, self.scale, packed)
        return out.view(*x.shape[:-1], out.shape[-1])

    def _beside(self, x: torch.Tensor) -> torch.Tensor:
        """The update beside the frozen weight: added to it in bf16 it would be rounded away. Dropout is on its input alone."""
        with torch.no_grad():
            norm = row_norms(self.direction())
        gain = self.magnitude / norm
        low = F.dropout(x, self.dropout, self.training)
        low = F.linear(F.linear(low, self.lora_A.to(x.dtype)), self.lora_B.to(x.dtype))
        whole = plain(self, x)
        base = whole if self.bias is None else whole - self.bias
        return whole + ((gain - 1) * base + gain * self.scale * low).to(x.dtype)

    def extra_repr(self) -> str:
        return f"in={self.in_features}, out={self.out_features}, rank={self.rank}, scale={self.scale:g}, dora"


def row_norms(weight: torch.Tensor) -> torch.Tensor:
    """(out,); a row of zeros (the padding token's, in a head) counts as next to nothing, so that its magnitude stays 0."""
    return torch.linalg.vector_norm(weight, dim=1).clamp_min(torch.finfo(weight.dtype).tiny)


class _Dora(torch.autograd.Function):
    """x (n, in) -> (n, out) by the merged weight; keeps x and the small matrices, and makes the merged weight again."""

    @staticmethod
    def _merged(weight, a, b, m, scale):
        direction = torch.addmm(weight, b, a, alpha=scale)
        norm = row_norms(direction)
        return direction, norm, m / norm

    @staticmethod
    def forward(ctx: Any, x, weight, bias, a, b, m, scale, packed):
        ctx.save_for_backward(x, weight, a, b, m)
        ctx.scale, ctx.bias, ctx.packed = scale, bias is not None, packed
        weight = weight if packed is None else packed.dequantised(x.dtype)
        direction, _, gain = _Dora._merged(weight, a, b, m, scale)
        return F.linear(x, direction.mul_(gain[:, None]), bias)

    @staticmethod
    def backward(ctx: Any, dy):
        x, weight, a, b, m = ctx.saved_tensors
        weight = weight if ctx.packed is None else ctx.packed.dequantised(x.dtype)
        direction, norm, gain = _Dora._merged(weight, a, b, m, ctx.scale)
        dm = torch.einsum("no,no->o", dy, F.linear(x, direction)) / norm
        dy_gain = dy * gain
        da = ((dy_gain @ b).T @ x).mul_(ctx.scale)
        db = (dy_gain.T @ F.linear(x, a)).mul_(ctx.scale)
        dx = dy_gain @ direction if ctx.needs_input_grad[0] else None
        dw = dy_gain.T @ x if ctx.needs_input_grad[1] else None
        dbias = dy.sum(0) if ctx.bias and ctx.needs_input_grad[2] else None
        return dx, dw, dbias, da, db, dm, None, None
