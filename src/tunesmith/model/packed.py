"""A frozen network whose matrices lie in few bits, int8 (int8.py) or nf4 (nf4.py), or in their file (stream.py).

    quantise_network(net, "nf4")    # every linear layer of the body becomes a PackedLinear, in place
    dequantise_network(net)         # ordinary layers again, with the weights that the codes stand for

What is packed is never trained: an adapter beside it is, and the backward pass dequantises once more instead of keeping the
whole weight. Folders of such networks: packed_files.py.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from tunesmith.model import int8, nf4
from tunesmith.model.mapped import Mapped

KINDS: Mapping[str, Any] = {"int8": int8.Packed, "nf4": nf4.Packed}


class PackedLinear(nn.Module):
    """Stands in for a frozen nn.Linear or a GPT-2 Conv1D: y = x W^T + b with W dequantised for each call."""

    def __init__(self, base: nn.Module, packed: Any) -> None:
        super().__init__()
        self.layout, self.shape = type(packed), packed.shape
        for name in self.layout.parts:
            self.register_buffer(name, getattr(packed, name))
        if self.layout is nf4.Packed:
            nf4.get_ready(packed)
        self.outside = None if self.layout.parts else packed  # its numbers are not the network's to hold
        self.bias = base.bias
        self.out_features, self.in_features = packed.shape
        self.base_type, self.dtype = type(base), base.weight.dtype

    @staticmethod
    def of(base: nn.Module, kind: str) -> "PackedLinear":
        """The layer with its weight quantised."""
        return PackedLinear(base, KINDS[kind].of(matrix(base))).train(base.training)

    @property
    def weight(self) -> torch.Tensor:
        """No numbers, only the precision that is computed in: T5 asks its layers for it before it calls them."""
        return torch.empty(0, dtype=self.dtype, device=self.device)

    @property
    def device(self) -> torch.device:
        """Where the weight is computed with."""
        return self.codes.device if self.outside is None else torch.device(self.outside.device)

    @property
    def packed(self) -> Any:
        """The parts, where they are now."""
        if self.outside is not None:
            return self.outside
        return self.layout(*(getattr(self, name) for name in self.layout.parts), self.shape)

    def _apply(self, fn: Any, recurse: bool = True) -> "PackedLinear":
        """Moving to a device moves all parts; a cast to bf16 changes what is computed in, never the scales."""
        parts = {name: getattr(self, name) for name in self.layout.parts}
        exact = {name: part for name, part in parts.items() if part.is_floating_point()}
        super()._apply(fn, recurse)
        probe = fn(self.weight)
        self.outside = None if self.outside is None else self.outside.on(probe.device)
        self.dtype = probe.dtype if probe.dtype.is_floating_point else self.dtype
        for name, kept in exact.items():
            setattr(self, name, kept.to(self.codes.device))
        return self

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        """A weight in a file stands in the state under the plain layer's name."""
        super()._save_to_state_dict(destination, prefix, keep_vars)  # type: ignore[no-untyped-call]
        if self.outside is not None:
            destination[f"{prefix}weight"] = self.outside.view

    def dequantised(self) -> torch.Tensor:
        """The weight (out, in) in the precision that is computed in."""
        return self.packed.dequantised(self.dtype)

    def plain(self, weight: torch.Tensor | None = None) -> nn.Module:
        """An ordinary layer with the dequantised weight, or with `weight` (out, in)."""
        weight = self.dequantised() if weight is None else weight
        if self.base_type.__name__ == "Conv1D":
            made: Any = self.base_type(self.out_features, self.in_features).to("meta")
            weight = weight.T.contiguous()
        else:
            made = nn.Linear(self.in_features, self.out_features, bias=self.bias is not None, device="meta")
        made.weight, made.bias = nn.Parameter(weight, requires_grad=False), self.bias
        return made.train(self.training)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return _Linear.apply(x, self.bias, self.packed)

    def extra_repr(self) -> str:
        return f"in={self.in_features}, out={self.out_features}, {name_of(self.layout)}"


class _Linear(torch.autograd.Function):
    """x (..., in) -> (..., out); keeps the packed weight and dequantises it again in the backward pass."""

    @staticmethod
    def forward(ctx: Any, x, bias, packed):
        ctx.packed = packed
        return F.linear(x, packed.dequantised(x.dtype), bias)

    @staticmethod
    def backward(ctx: Any, dy):
        dx = dy @ ctx.packed.dequantised(dy.dtype) if ctx.needs_input_grad[0] else None
        dbias = dy.reshape(-1, dy.shape[-1]).sum(0) if ctx.needs_input_grad[1] else None
        return dx, dbias, None


def matrix(layer: nn.Module) -> torch.Tensor:
    """The weight (out, in) of an nn.Linear or a Conv1D, which holds it transposed."""
    return layer.weight.T if type(layer).__name__ == "Conv1D" else layer.weight


def name_of(layout: Any) -> str:
    """int8, nf4 or streamed, of a class that holds weights."""
    return next(name for name, known in {**KINDS, "streamed": Mapped}.items() if known is layout)


def matrices(net: nn.Module) -> list[str]:
    """Names of the linear layers that may be packed: those of the body. Head, heads of tasks and routers stay as they are."""
    head = net.get_output_embeddings() if hasattr(net, "get_output_embeddings") else None
    body = getattr(net, "base_model", net)
    prefix = next((f"{name}." for name, module in net.named_modules() if module is body and name), "")
    return [
        name
        for name, module in net.named_modules()
        if (type(module) is nn.Linear or type(module).__name__ == "Conv1D")
        and module is not head
        and name.startswith(prefix)
        and name not in getattr(net, "new_heads", ())
        and not name.endswith((".router", ".gate", ".dt_proj"))
    ]


def quantise_network(
    net: nn.Module, kind: str = "nf4", names: Sequence[str] | None = None, *, device: str | None = None
) -> list[str]:
    """Pack every linear layer of the body, or those of `names`, in place; returns their names. A network that is packed
    already is left alone.

    device  where each layer is packed and stays, one after the other: a card never holds more than one whole
    """
    if is_quantised(net):
        return []
    names = matrices(net) if names is None else list(names)
    for name in names:
        layer = net.get_submodule(name)
        net.set_submodule(name, PackedLinear.of(layer if device is None else layer.to(device), kind))
    return names


@torch.no_grad()
def dequantise_network(net: nn.Module) -> None:
    """Put ordinary layers, with the weights that the codes stand for, in the places of all packed ones."""
    for name, layer in packed_layers(net).items():
        net.set_submodule(name, layer.plain())


def packed_layers(net: nn.Module) -> dict[str, PackedLinear]:
    """The packed layers of a network, by their names."""
    return {name: module for name, module in net.named_modules() if isinstance(module, PackedLinear)}


def num_weights(net: nn.Module) -> int:
    """How many numbers the network is made of: parameters, and weights that lie in few bits or in their file, which are no
    parameters of torch's."""
    packed = sum(layer.out_features * layer.in_features for layer in packed_layers(net).values())
    return packed + sum(parameter.numel() for parameter in net.parameters())


def kind_of(net: nn.Module) -> str:
    """int8, nf4 or streamed; "" of a network that holds its weights itself."""
    return next((name_of(layer.layout) for layer in packed_layers(net).values()), "")


def is_quantised(net: nn.Module) -> bool:
    """Whether matrices of the network are packed."""
    return bool(kind_of(net))


def weight_bytes(net: nn.Module) -> dict[str, int]:
    """Bytes of the packed matrices and of everything else, measured: {"nf4": ..., "other": ...}."""
    packed = packed_layers(net).values()
    held = {id(tensor) for module in packed for tensor in module.buffers(recurse=False)}
    tensors = {id(t): t for t in (*net.parameters(), *net.buffers())}
    other = sum(t.numel() * t.element_size() for key, t in tensors.items() if key not in held)
    return {kind_of(net) or "packed": sum(module.packed.num_bytes for module in packed), "other": other}
