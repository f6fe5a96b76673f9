"""A low-rank update for each expert of a mixture whose experts are joined in one parameter (experts, out, in).

W_e' = W_e + s B_e A_e. The module that holds the parameters is called as it is, with the updated weights put in for the
call, so every way transformers has of computing experts sees them. On disk it is PEFT's `target_parameters`: A of all
experts stands in one matrix (experts * rank, in), B in one (out, rank * experts), the experts' index running fastest.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn
from torch.func import functional_call

from tunesmith.adapters._stand_in import trained


class ExpertsLora(nn.Module):
    """Stands in for a module of experts; the base's parameters keep their names."""

    def __init__(self, base: nn.Module) -> None:
        super().__init__()
        self._base = [base]  # in a list: its parameters are held here, under the names they had
        for name, parameter in base.named_parameters(recurse=False):
            self.register_parameter(name, parameter)
        for name, child in base.named_children():
            self.add_module(name, child)
        # some architectures keep (experts, in, out) and say so
        self.transposed = bool(getattr(base, "is_transposed", False))
        self.enabled = True
        self.scales: dict[str, float] = {}

    def adapt(self, name: str, rank: int, scale: float) -> tuple[nn.Parameter, int]:
        """Put an update beside the parameter `name`; returns A (experts * rank, in) to be drawn, and the width of its input."""
        weight = getattr(self, name)
        number, out, columns = (
            weight.shape if not self.transposed else (weight.shape[0], weight.shape[2], weight.shape[1])
        )
        like = {"dtype": torch.float64 if weight.dtype == torch.float64 else torch.float32, "device": weight.device}
        a = trained(torch.zeros(number * rank, columns, **like))
        self.register_parameter(f"{name}_lora_A", a)
        self.register_parameter(f"{name}_lora_B", trained(torch.zeros(out, rank * number, **like)))
        self.scales[name] = scale
        return a, columns

    def effective(self, name: str) -> torch.Tensor:
        """W + s B A of every expert, differentiable in A and B."""
        weight, a, b = getattr(self, name), getattr(self, f"{name}_lora_A"), getattr(self, f"{name}_lora_B")
        number = weight.shape[0]
        a = a.view(number, -1, a.shape[-1])  # (experts, rank, in)
        b = b.view(b.shape[0], -1, number).permute(2, 0, 1)  # (experts, out, rank)
        update = self.scales[name] * (b @ a)
        return weight + (update.transpose(1, 2) if self.transposed else update).to(weight.dtype)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        if not self.enabled:
            return self._base[0](*args, **kwargs)
        return functional_call(self._base[0], {name: self.effective(name) for name in self.scales}, args, kwargs)

    def merged(self) -> nn.Module:
        """The module that was replaced, with the updates in its weights."""
        base = self._base[0]
        for name in self.scales:
            getattr(base, name).data = self.effective(name).detach()
        return base.train(self.training)

    def peft_tensors(self) -> dict[str, torch.Tensor]:
        """PEFT wraps the parameters one after the other: the first lies innermost."""
        names = [name for name, _ in self._base[0].named_parameters(recurse=False) if name in self.scales]
        return {
            "base_layer." * (len(names) - 1 - depth) + f"lora_{part}.weight": getattr(self, f"{name}_lora_{part}")
            for depth, name in enumerate(names)
            for part in "AB"
        }


def put_into_experts(
    net: Any,
    names: Sequence[str],
    size: Callable[[str], tuple[int, float]],
    start: Callable[[nn.Parameter, int], None],
) -> None:
    """Adapt the expert parameters `names`; size(name) gives rank and scale, start(A, columns) draws."""
    for name in names:
        place, _, parameter = name.rpartition(".")
        layer = net.get_submodule(place)
        if not isinstance(layer, ExpertsLora):
            layer = ExpertsLora(layer).train(layer.training)
            net.set_submodule(place, layer)
        start(*layer.adapt(parameter, *size(name)))
