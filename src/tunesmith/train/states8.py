"""Optimiser states in eight bits: 256 numbers share a scale, each is one of 256 values (Dettmers et al. 2022, arXiv 2110.02861).

    pack(inner)          # between two steps: the states of a torch optimiser as uint8 codes and a scale a block
    unpack(inner)        # for the update: as fp32

The values are the paper's dynamic ones, close together near 0 and far apart near 1: of both signs for a mean of gradients,
positive for a mean of their squares. Codes and scales are bitsandbytes' own. The update itself is made in fp32, one
tensor at a time, by the same torch code as without. As in the paper small tensors stay fp32 and so do embeddings and heads, whose
gradients are unlike others'. 1.016 bytes a state instead of 4.
"""

from typing import Any

import torch
import torch.nn.functional as F

from tunesmith.model.dynamic8 import codebook

BLOCK = 256
LEAST = 4096  # numbers of a tensor from which on its states are packed
_POSITIVE = frozenset({"exp_avg_sq"})  # states that are never negative
_CODES, _SCALES = "_codes", "_scales"


def quantise(values: torch.Tensor, signed: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """fp32 of any shape -> (uint8 codes of that shape, fp32 scale of each block of 256)."""
    table = torch.tensor(codebook(signed), device=values.device)
    flat = values.reshape(-1)
    blocks = F.pad(flat, (0, -len(flat) % BLOCK)).view(-1, BLOCK)
    scales = blocks.abs().amax(1)
    unit = blocks * (1.0 / scales.clamp(min=1e-38))[:, None]
    codes = torch.bucketize(unit.clamp_(-1, 1), (table[1:] + table[:-1]) / 2).to(torch.uint8)
    return codes.view(-1)[: len(flat)].reshape(values.shape), scales


def dequantise(codes: torch.Tensor, scales: torch.Tensor, signed: bool) -> torch.Tensor:
    """The fp32 numbers that codes and scales stand for."""
    table = torch.tensor(codebook(signed), device=codes.device)
    flat = codes.reshape(-1)
    blocks = F.pad(table[flat.int()], (0, -len(flat) % BLOCK)).view(-1, BLOCK) * scales[:, None]
    return blocks.view(-1)[: len(flat)].reshape(codes.shape)


def fits(master: torch.Tensor) -> bool:
    """Whether the states of a weight are packed at all."""
    return master.numel() >= LEAST and master.dtype == torch.float32


def packed_bytes(numel: int) -> int:
    """Bytes of one packed state of so many numbers."""
    return sum(packed_sizes(numel))


def packed_sizes(numel: int) -> list[int]:
    """Bytes of its codes and of their scales."""
    return [numel, 4 * -(-numel // BLOCK)]


@torch.no_grad()
def pack(inner: torch.optim.Optimizer) -> None:
    """Replace the states of an optimiser's large tensors by codes and scales."""
    for master, state in inner.state.items():
        if not fits(master):
            continue
        for name in [name for name, value in state.items() if _large(value, master)]:
            codes, scales = quantise(state.pop(name), name not in _POSITIVE)
            state[name + _CODES], state[name + _SCALES] = codes, scales


@torch.no_grad()
def unpack(inner: torch.optim.Optimizer) -> None:
    """Undo `pack`, to the numbers that the codes stand for."""
    for state in inner.state.values():
        for name in [name.removesuffix(_CODES) for name in state if name.endswith(_CODES)]:
            codes, scales = state.pop(name + _CODES), state.pop(name + _SCALES)
            state[name] = dequantise(codes, scales, name not in _POSITIVE)


def _large(value: Any, master: torch.Tensor) -> bool:
    return torch.is_tensor(value) and value.shape == master.shape and value.dtype == torch.float32
