"""What every layer that stands in for a linear one shares: it holds the base's own tensors under their own names, and can
put the plain layer back.

    take_over(self, base)        # in __init__: self.weight, self.bias, sizes; a packed base is held whole
    frozen(layer)                # its weight (out, in), dequantised where it has to be
    plain(layer, x)              # what the base alone makes of x
    give_back(layer, weight)     # the ordinary layer, with a changed weight (out, in)
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from tunesmith.model.packed import PackedLinear


def take_over(layer: Any, base: nn.Module) -> None:
    """Hold what `base` (nn.Linear, Conv1D or PackedLinear) holds."""
    layer.base_type, layer.transposed, layer.enabled = type(base), type(base).__name__ == "Conv1D", True
    layer.quantised = base if isinstance(base, PackedLinear) else None
    layer.weight = base.weight  # of a packed base: empty
    if layer.quantised is None:
        rows, columns = base.weight.shape[::-1] if layer.transposed else base.weight.shape
    else:
        rows, columns = base.out_features, base.in_features
    layer.bias = base.bias
    layer.out_features, layer.in_features = rows, columns


def trained(value: torch.Tensor) -> nn.Parameter:
    """A parameter of an adapter: at least fp32, and it stays so when the network is cast."""
    made = nn.Parameter(value if value.dtype == torch.float64 else value.float())
    made.adapter = True  # type: ignore[attr-defined]
    return made


def precision(base: Any) -> torch.dtype:
    """What an adapter beside `base` is kept in: float64 beside float64 (tests), else float32."""
    dtype = base.dtype if isinstance(base, PackedLinear) else base.weight.dtype
    return torch.float64 if dtype == torch.float64 else torch.float32


def device_of(base: Any) -> torch.device:
    """Where the base lies."""
    return base.weight.device


def frozen(layer: Any) -> torch.Tensor:
    """The base's weight (out, in)."""
    if layer.quantised is not None:
        return layer.quantised.dequantised()
    return layer.weight.T if layer.transposed else layer.weight


def plain(layer: Any, x: torch.Tensor) -> torch.Tensor:
    """x W^T + b of the base alone."""
    return layer.quantised(x) if layer.quantised is not None else F.linear(x, frozen(layer), layer.bias)


def give_back(layer: Any, weight: torch.Tensor | None = None, bias: torch.Tensor | None = None) -> nn.Module:
    """The plain layer that was replaced; `weight` (out, in) and `bias` are written into it.

    A packed weight that changes becomes an ordinary one, in the precision that is computed in.
    """
    if layer.quantised is not None:
        if weight is None:
            return layer.quantised
        made: Any = layer.quantised.plain(weight.to(layer.quantised.dtype))
    else:
        made = layer.base_type.__new__(layer.base_type)
        nn.Module.__init__(made)
        made.weight, made.bias = layer.weight, layer.bias
        if layer.transposed:
            made.nf, made.nx = layer.out_features, layer.in_features
        else:
            made.in_features, made.out_features = layer.in_features, layer.out_features
        if weight is not None:
            made.weight.data = (weight.T if layer.transposed else weight).to(made.weight.dtype).contiguous()
    if bias is not None:
        made.bias.data = bias.to(made.bias.dtype)
    return made.train(layer.training)


def stand_ins(net: nn.Module, kind: type) -> dict[str, Any]:
    """The layers of `kind` in a network, by their full names."""
    return {name: module for name, module in net.named_modules() if isinstance(module, kind)}


def put_back(net: nn.Module, name: str, layer: Any, weight: torch.Tensor, bias: torch.Tensor | None = None) -> None:
    """Replace a stand-in by its plain layer with a merged weight (out, in). A head tied to the embeddings is untied: only
    the head learned, so from here on they are two tensors."""
    held = getattr(layer, "weight", None)
    shared = held is not None and any(
        p is held for n, p in net.named_parameters(remove_duplicate=False) if n != f"{name}.weight"
    )
    if shared:
        layer.weight = nn.Parameter(held.detach(), requires_grad=held.requires_grad)
        net.config.tie_word_embeddings = False  # type: ignore[union-attr]
    net.set_submodule(name, give_back(layer, weight, bias))
