"""A linear layer with a small network behind it: z = x W^T + b; y = z + up(act(down(z)))."""

import torch
import torch.nn.functional as F
from torch import nn

from tunesmith.adapters._stand_in import device_of, plain, precision, take_over, trained

ACTIVATIONS = {"gelu": F.gelu, "relu": F.relu, "silu": F.silu, "tanh": torch.tanh}


class BottleneckLinear(nn.Module):
    """Stands in for the last linear layer of a sublayer. down (size, out), up (out, size); up starts at 0, so that y is z."""

    def __init__(self, base: nn.Module, size: int, activation: str) -> None:
        super().__init__()
        take_over(self, base)
        self.activation = activation
        like = {"dtype": precision(base), "device": device_of(base)}
        self.down = trained(torch.zeros(size, self.out_features, **like))
        self.down_bias = trained(torch.zeros(size, **like))
        self.up = trained(torch.zeros(self.out_features, size, **like))
        self.up_bias = trained(torch.zeros(self.out_features, **like))

    def peft_tensors(self) -> dict[str, torch.Tensor]:
        """What is trained. PEFT has no such adapter: these names are ours."""
        return {
            "bottleneck_down.weight": self.down,
            "bottleneck_down.bias": self.down_bias,
            "bottleneck_up.weight": self.up,
            "bottleneck_up.bias": self.up_bias,
        }

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        z = plain(self, x)
        if not self.enabled:
            return z
        inner = ACTIVATIONS[self.activation](F.linear(z, self.down.to(z.dtype), self.down_bias.to(z.dtype)))
        return z + F.linear(inner, self.up.to(z.dtype), self.up_bias.to(z.dtype))

    def extra_repr(self) -> str:
        return f"in={self.in_features}, out={self.out_features}, bottleneck={len(self.down)}, {self.activation}"
