"""A frozen base in four bits a weight: NormalFloat with double quantisation (Dettmers et al. 2023, arXiv 2305.14314).

    quantise_network(net)                 # every linear layer of the body becomes an Nf4Linear, in place
    packed = Packed.of(weight)            # 64 weights share a scale, 256 scales share another: 0.5 + 0.0157 bytes a weight
    packed.dequantised(torch.float32)     # (out, in) again, each weight one of 16 values times its block's scale

Bytes and their order are bitsandbytes' own, so its kernels can read what lies here; they do where it is installed and the
weights are on a GPU. Everywhere else the few lines below do the same in plain torch. What is quantised is never trained:
an adapter beside it is, and the backward pass dequantises once more instead of keeping the whole weight.
"""

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

BLOCK, GROUP = 64, 256  # weights that share a scale; scales that share one of their own

# Quantiles of the normal distribution, scaled to [-1, 1], with an exact 0 (the paper's appendix E).
CODEBOOK = (
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334,
    -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
    0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0,
)  # fmt: skip


# Tables are made anew for each call, from plain numbers: a tensor kept here could be one of the planner's, without values.
def _table(device: torch.device) -> torch.Tensor:
    return torch.tensor(CODEBOOK, device=device)


def _scale_table(device: torch.device) -> torch.Tensor:
    return torch.tensor(scale_codebook(), device=device)


@lru_cache(maxsize=1)
def scale_codebook() -> tuple[float, ...]:
    """256 values for the scales: a sign, a power of ten from 1e-6 to 1, and a fraction that gets the bits that are left
    (Dettmers 2015, arXiv 1511.04561). In float32, as bitsandbytes has them."""
    values = [0.0, 1.0]
    for power in range(7):
        for mean in _between(2**power):
            size = float(np.float32(10.0 ** (power - 6)) * mean)
            values += [size, -size]
    return tuple(sorted(values))


def _between(number: int) -> np.ndarray:
    """Middles of `number` equal pieces of [0.1, 1], float32, rounded as torch.linspace rounds: each half from its own end."""
    first, step = np.float32(0.1), (np.float32(1.0) - np.float32(0.1)) / np.float32(number)
    index = np.arange(number + 1)
    low = (first.astype(np.float64) + step.astype(np.float64) * index).astype(np.float32)
    high = (1.0 - step.astype(np.float64) * (number - index)).astype(np.float32)
    edges = np.where(index < (number + 1) // 2, low, high)
    return (edges[:-1] + edges[1:]) / np.float32(2)


def _nearest(values: torch.Tensor, table: torch.Tensor) -> torch.Tensor:
    """Index of the nearest entry of a sorted table, uint8."""
    return torch.bucketize(values, (table[1:] + table[:-1]) / 2).to(torch.uint8)


def _blocks(flat: torch.Tensor, size: int) -> torch.Tensor:
    """(blocks, size), the last one filled up with zeros."""
    return F.pad(flat, (0, -len(flat) % size)).view(-1, size)


@dataclass(frozen=True, eq=False)
class Packed:
    """A weight (out, in) in four bits.

    codes    uint8 (ceil(out * in / 2),): two indices into CODEBOOK, the first in the high half
    scales   uint8 (blocks,): index into 256 values; scale of a block = value * group + offset
    groups   float32 (groups of 256 scales,);  offset  float32 (): mean of all scales
    """

    codes: torch.Tensor
    scales: torch.Tensor
    groups: torch.Tensor
    offset: torch.Tensor
    shape: tuple[int, int]

    @staticmethod
    @torch.no_grad()
    def of(weight: torch.Tensor) -> "Packed":
        """Quantise a weight (out, in) in blocks along its rows."""
        flat = weight.detach().reshape(-1).float()
        blocks = _blocks(flat, BLOCK)
        largest = blocks.abs().amax(1)
        unit = (blocks * (1.0 / largest.clamp(min=1e-38))[:, None]).clamp_(-1, 1)
        index = _nearest(unit, _table(weight.device)).reshape(-1)[: len(flat) + len(flat) % 2]
        offset = largest.mean()
        rest = _blocks(largest - offset, GROUP)
        groups = rest.abs().amax(1)
        scales = _nearest((rest * (1.0 / groups.clamp(min=1e-38))[:, None]).clamp_(-1, 1), _scale_table(weight.device))
        scales = scales.reshape(-1)[: len(largest)].contiguous()
        return Packed((index[::2] << 4) | index[1::2], scales, groups, offset, (weight.shape[0], weight.shape[1]))

    @property
    def num_bytes(self) -> int:
        """Bytes of all parts."""
        return sum(t.numel() * t.element_size() for t in (self.codes, self.scales, self.groups, self.offset))

    def dequantised(self, dtype: torch.dtype) -> torch.Tensor:
        """The weight (out, in) that the codes stand for."""
        if self.codes.device.type == "cuda" and (found := _bitsandbytes()) is not None:
            return by_bitsandbytes(self, dtype, found)
        number = math.prod(self.shape)
        scale = _scale_table(self.codes.device)[self.scales.int()]
        scale = (_blocks(scale, GROUP) * self.groups[:, None]).reshape(-1)[: len(self.scales)] + self.offset
        index = torch.stack([self.codes >> 4, self.codes & 15], 1).reshape(-1)[:number].int()
        values = _blocks(_table(self.codes.device)[index], BLOCK) * scale[:, None]
        return values.reshape(-1)[:number].view(self.shape).to(dtype)


@lru_cache(maxsize=1)
def _bitsandbytes() -> Any:
    """bitsandbytes' functions, None where it is not installed."""
    from importlib.util import find_spec

    if find_spec("bitsandbytes") is None:
        return None
    from bitsandbytes import functional

    return functional


def by_bitsandbytes(packed: Packed, dtype: torch.dtype, functional: Any) -> torch.Tensor:
    """`Packed.dequantised` by bitsandbytes' kernels, from the same bytes."""
    device = packed.codes.device
    inner = functional.QuantState(packed.groups, code=_scale_table(device), blocksize=GROUP, dtype=torch.float32)
    state = functional.QuantState(
        packed.scales, torch.Size(packed.shape), _table(device), BLOCK, "nf4", dtype, packed.offset, inner
    )
    return functional.dequantize_4bit(packed.codes[:, None], state)


class Nf4Linear(nn.Module):
    """Stands in for a frozen nn.Linear or a GPT-2 Conv1D: y = x W^T + b with W dequantised for each call."""

    def __init__(self, base: nn.Module) -> None:
        super().__init__()
        matrix = base.weight.T if type(base).__name__ == "Conv1D" else base.weight
        packed = Packed.of(matrix)
        for name in ("codes", "scales", "groups", "offset"):
            self.register_buffer(name, getattr(packed, name))
        self.bias = base.bias
        self.out_features, self.in_features = packed.shape
        self.base_type, self.dtype = type(base), base.weight.dtype

    @property
    def weight(self) -> torch.Tensor:
        """No numbers, only the precision that is computed in: T5 asks its layers for it before it calls them."""
        return torch.empty(0, dtype=self.dtype, device=self.codes.device)

    @property
    def packed(self) -> Packed:
        """The parts, where they are now."""
        return Packed(self.codes, self.scales, self.groups, self.offset, (self.out_features, self.in_features))

    def _apply(self, fn: Any, recurse: bool = True) -> "Nf4Linear":
        """Moving to a device moves all parts; a cast to bf16 changes what is computed in, never the scales."""
        exact = {name: getattr(self, name) for name in ("groups", "offset")}
        super()._apply(fn, recurse)
        probe = fn(torch.empty(0, dtype=self.dtype))
        self.dtype = probe.dtype if probe.dtype.is_floating_point else self.dtype
        for name, kept in exact.items():
            setattr(self, name, kept.to(self.codes.device))
        return self

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
        return f"in={self.in_features}, out={self.out_features}, nf4"


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


def quantise_network(net: nn.Module) -> list[str]:
    """Put every linear layer of the body into four bits, in place; returns their names. Head, embeddings, norms and
    routers stay as they are. A network that is quantised already is left alone."""
    if is_quantised(net):
        return []
    head = net.get_output_embeddings() if hasattr(net, "get_output_embeddings") else None
    body = getattr(net, "base_model", net)
    prefix = next((f"{name}." for name, module in net.named_modules() if module is body and name), "")
    names = [
        name
        for name, module in net.named_modules()
        if (type(module) is nn.Linear or type(module).__name__ == "Conv1D")
        and module is not head
        and name.startswith(prefix)
        and name not in getattr(net, "new_heads", ())
        and not name.endswith((".router", ".gate", ".dt_proj"))
    ]
    for name in names:
        old = net.get_submodule(name)
        net.set_submodule(name, Nf4Linear(old).train(old.training))
    return names


@torch.no_grad()
def dequantise_network(net: nn.Module) -> None:
    """Put ordinary layers, with the weights that the codes stand for, in the places of all four-bit ones."""
    for name, layer in [(n, m) for n, m in net.named_modules() if isinstance(m, Nf4Linear)]:
        net.set_submodule(name, layer.plain())


def is_quantised(net: nn.Module) -> bool:
    """Whether `quantise_network` was here."""
    return any(isinstance(module, Nf4Linear) for module in net.modules())


def weight_bytes(net: nn.Module) -> dict[str, int]:
    """Bytes of the four-bit matrices and of everything else, measured: {"nf4": ..., "other": ...}."""
    packed = [module for module in net.modules() if isinstance(module, Nf4Linear)]
    held = {id(tensor) for module in packed for tensor in module.buffers(recurse=False)}
    tensors = {id(t): t for t in (*net.parameters(), *net.buffers())}
    other = sum(t.numel() * t.element_size() for key, t in tensors.items() if key not in held)
    return {"nf4": sum(module.packed.num_bytes for module in packed), "other": other}
