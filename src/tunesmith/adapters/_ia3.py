"""A linear layer whose outputs, or inputs, are multiplied by trained numbers: y = l * (x W^T + b), or y = (l * x) W^T + b."""

import torch
from torch import nn

from tunesmith.adapters._stand_in import device_of, frozen, plain, precision, take_over, trained


class Ia3Linear(nn.Module):
    """Stands in for a linear layer. `ia3_l` starts at 1: (1, in) where the inputs are scaled, else (out, 1), as PEFT has it."""

    def __init__(self, base: nn.Module, scales_input: bool) -> None:
        super().__init__()
        take_over(self, base)
        self.scales_input = scales_input
        shape = (1, self.in_features) if scales_input else (self.out_features, 1)
        self.ia3_l = trained(torch.ones(shape, dtype=precision(base), device=device_of(base)))

    def peft_tensors(self) -> dict[str, torch.Tensor]:
        """What is trained, by the endings of PEFT's names."""
        return {"ia3_l": self.ia3_l}

    def merged(self) -> torch.Tensor:
        """The scaled weight (out, in)."""
        return frozen(self).to(self.ia3_l.dtype) * self.ia3_l

    def merged_bias(self) -> torch.Tensor | None:
        """The scaled bias: outputs are scaled with theirs."""
        return self.bias if self.bias is None or self.scales_input else self.bias * self.ia3_l.flatten()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.enabled:
            return plain(self, x)
        scale = self.ia3_l.flatten()
        if self.scales_input:
            return plain(self, (x * scale).to(x.dtype))
        return (plain(self, x) * scale).to(x.dtype)

    def extra_repr(self) -> str:
        return f"in={self.in_features}, out={self.out_features}, scales {'inputs' if self.scales_input else 'outputs'}"
