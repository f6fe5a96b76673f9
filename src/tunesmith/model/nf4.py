"""A frozen base in four bits a weight: NormalFloat with double quantisation (Dettmers et al. 2023, arXiv 2305.14314).

    packed = Packed.of(weight)            # 64 weights share a scale, 256 scales share another: 0.5 + 0.0157 bytes a weight
    packed.dequantised(torch.float32)     # (out, in) again, each weight one of 16 values times its block's scale

Bytes and their order are bitsandbytes' own, in memory and in files, so its kernels can read what lies here; they do where it is
installed and the weights are on a GPU. Everywhere else the few lines below do the same in plain torch. Whole networks: packed.py.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar

import torch
import torch.nn.functional as F

from tunesmith.core.errors import ModelError
from tunesmith.model.dynamic8 import codebook

BLOCK, GROUP = 64, 256  # weights that share a scale; scales that share one of their own
STATE = 256  # bytes in a file for what bitsandbytes writes as JSON, filled up with spaces: every weight's is as long

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
    return torch.tensor(codebook(signed=True), device=device)


def _nearest(values: torch.Tensor, table: torch.Tensor) -> torch.Tensor:
    """Index of the nearest entry of a sorted table, uint8."""
    return torch.bucketize(values, (table[1:] + table[:-1]) / 2).to(torch.uint8)


def _blocks(flat: torch.Tensor, size: int) -> torch.Tensor:
    """(blocks, size), the last one filled up with zeros."""
    missing = -len(flat) % size
    return (F.pad(flat, (0, missing)) if missing else flat).view(-1, size)


def _first(flat: torch.Tensor, number: int) -> torch.Tensor:
    return flat if len(flat) == number else flat[:number]


@dataclass(frozen=True, eq=False)
class Packed:
    """A weight (out, in) in four bits.

    codes    uint8 (ceil(out * in / 2),): two indices into CODEBOOK, the first in the high half
    scales   uint8 (blocks,): index into 256 values; scale of a block = value * group + offset
    groups   float32 (groups of 256 scales,);  offset  float32 (): mean of all scales
    """

    bits: ClassVar[int] = 4
    more_in_file: ClassVar[int] = (
        16 * 4 + 256 * 4 + STATE - 4
    )  # bytes: two tables and what stands in the state, the offset too
    parts: ClassVar[tuple[str, ...]] = ("codes", "scales", "groups", "offset")
    names: ClassVar[tuple[str, ...]] = (
        "weight", "weight.absmax", "weight.quant_map", "weight.nested_absmax", "weight.nested_quant_map",
        "weight.quant_state.bitsandbytes__nf4",
    )  # fmt: skip

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
        index = _first(_nearest(unit, _table(weight.device)).reshape(-1), len(flat) + len(flat) % 2)
        offset = largest.mean()
        rest = _blocks(largest - offset, GROUP)
        groups = rest.abs().amax(1)
        scales = _nearest((rest * (1.0 / groups.clamp(min=1e-38))[:, None]).clamp_(-1, 1), _scale_table(weight.device))
        scales = _first(scales.reshape(-1), len(largest)).contiguous()
        return Packed((index[::2] << 4) | index[1::2], scales, groups, offset, (weight.shape[0], weight.shape[1]))

    @property
    def num_bytes(self) -> int:
        """Bytes of all parts."""
        return sum(t.numel() * t.element_size() for t in (self.codes, self.scales, self.groups, self.offset))

    def dequantised(self, dtype: torch.dtype) -> torch.Tensor:
        """The weight (out, in) that the codes stand for."""
        number = math.prod(self.shape)
        real = type(self.codes) is torch.Tensor and dtype in (torch.float32, torch.bfloat16, torch.float16)
        if real and number % 2 == 0 and (found := _bitsandbytes(self.codes.device.type)) is not None:
            return by_bitsandbytes(self, dtype, found)
        return self.plainly(dtype)

    def plainly(self, dtype: torch.dtype) -> torch.Tensor:
        """`dequantised` by torch alone."""
        number = math.prod(self.shape)
        scale = _scale_table(self.codes.device)[self.scales.int()]
        scale = _first((_blocks(scale, GROUP) * self.groups[:, None]).reshape(-1), len(self.scales)) + self.offset
        index = _first(torch.stack([self.codes >> 4, self.codes & 15], 1).reshape(-1), number).int()
        values = _blocks(_table(self.codes.device)[index], BLOCK) * scale[:, None]
        return _first(values.reshape(-1), number).view(self.shape).to(dtype)

    @staticmethod
    def size(out: int, columns: int) -> int:
        """Bytes of all parts of a weight (out, columns)."""
        blocks = math.ceil(out * columns / BLOCK)
        return math.ceil(out * columns / 2) + blocks + 4 * math.ceil(blocks / GROUP) + 4

    def file_tensors(self, dtype: str) -> dict[str, torch.Tensor]:
        """What a file holds of it, under `names` behind the layer's: bitsandbytes' own, its two tables included."""
        told = {
            "quant_type": "nf4", "blocksize": BLOCK, "dtype": dtype, "shape": list(self.shape), "nested_blocksize": GROUP,
            "nested_dtype": "float32", "nested_offset": self.offset.item(),
        }  # fmt: skip
        state = torch.tensor(list(json.dumps(told).ljust(STATE).encode()), dtype=torch.uint8)
        device = self.codes.device
        found = (self.codes[:, None], self.scales, _table(device), self.groups, _scale_table(device), state)
        return dict(zip(self.names, found))

    @staticmethod
    def of_file(tensors: Mapping[str, torch.Tensor], where: str) -> "Packed":
        """A weight from a file's tensors. Raises ModelError for what bitsandbytes can write and this does not read."""
        wanted = {"quant_type": "nf4", "blocksize": BLOCK, "nested_blocksize": GROUP}
        try:
            told = json.loads(bytes(tensors[Packed.names[-1]].tolist()))
            rows, columns = (int(n) for n in told["shape"])
            found = {key: told.get(key) for key in wanted}
            offset = torch.tensor(float(told["nested_offset"])) if found == wanted else None
            parts = (
                [tensors[ending] for ending in ("weight", "weight.absmax", "weight.nested_absmax")]
                if found == wanted
                else []
            )
        except (KeyError, ValueError, TypeError, AttributeError) as error:
            raise ModelError(f"{where} is no weight in NF4 as bitsandbytes writes it: {error!r}") from error
        if offset is None or not _same_table(tensors.get("weight.quant_map")):
            raise ModelError(
                f"{where} is packed in another way: {found}", wanted="NF4 in blocks of 64 with double quantisation."
            )
        codes, scales, groups = parts
        blocks = math.ceil(rows * columns / BLOCK)
        if (codes.numel(), scales.numel()) != (math.ceil(rows * columns / 2), blocks):
            raise ModelError(
                f"{where} has {codes.numel()} bytes of codes and {scales.numel()} scales for {rows} x {columns} weights."
            )
        return Packed(codes.reshape(-1), scales.reshape(-1), groups.reshape(-1).float(), offset, (rows, columns))


@lru_cache(maxsize=4)
def _bitsandbytes(device: str) -> Any:
    """bitsandbytes' functions, None where it is not installed or its build gives nothing, or other weights, on this kind of device."""
    from importlib.util import find_spec

    if find_spec("bitsandbytes") is None or device not in ("cpu", "cuda"):
        return None
    tried = Packed.of(torch.linspace(-1, 1, 2 * BLOCK).view(2, BLOCK).to(device))
    try:
        from bitsandbytes import functional

        found = by_bitsandbytes(tried, torch.float32, functional)
    except (ImportError, AttributeError, TypeError, ValueError, RuntimeError, OSError, AssertionError):
        # an old build, or one without kernels for this device: plain torch does the same work
        return None
    return functional if torch.allclose(found, tried.plainly(torch.float32)) else None


def get_ready(packed: Packed) -> None:
    """Look for bitsandbytes as a network is packed or read: importing and trying it has no place in the first training step."""
    if type(packed.codes) is torch.Tensor:
        _bitsandbytes(packed.codes.device.type)


def _same_table(table: torch.Tensor | None) -> bool:
    return table is not None and torch.equal(table.float().cpu(), _table(torch.device("cpu")))


def by_bitsandbytes(packed: Packed, dtype: torch.dtype, functional: Any) -> torch.Tensor:
    """`Packed.dequantised` by bitsandbytes' kernels, from the same bytes."""
    device = packed.codes.device
    inner = functional.QuantState(packed.groups, code=_scale_table(device), blocksize=GROUP, dtype=torch.float32)
    state = functional.QuantState(
        packed.scales, torch.Size(packed.shape), _table(device), BLOCK, "nf4", dtype, packed.offset, inner
    )
    return functional.dequantize_4bit(packed.codes[:, None], state)
