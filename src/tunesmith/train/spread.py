"""A tensor that lies in spans on several ranks, and a safetensors file written from such tensors one at a time.

    part = Spread(shape, dtype, own, bounds)     # this rank holds the flat span bounds[rank] .. bounds[rank + 1]
    part.whole()                                 # the first rank gets the tensor, the others send their span and get None
    write(path, {"a": tensor, "b": part})        # on the first rank, while the others `send` the same tensors
    for name, tensor in read(path): ...          # one tensor in memory at a time, too

So a checkpoint is one file, whole, the same for any number of ranks, and neither its writer nor its reader holds more than one tensor of it.
"""

import json
import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from tunesmith.step.ranks import rank, ranks

WORDS = {
    torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16", torch.int64: "I64",
    torch.int32: "I32", torch.int16: "I16", torch.int8: "I8", torch.uint8: "U8", torch.bool: "BOOL",
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Spread:
    """own (n,) is this rank's span of the flattened tensor; bounds (ranks + 1) say where each rank's begins and ends."""

    shape: torch.Size
    dtype: torch.dtype
    own: torch.Tensor
    bounds: tuple[int, ...]

    def whole(self) -> torch.Tensor | None:
        """The tensor on the first rank, None on the others. All ranks have to ask, in the same order."""
        if rank():
            if self.own.numel():
                dist.send(self.own, dst=0)
            return None
        flat = torch.empty(self.shape.numel(), dtype=self.dtype, device=self.own.device)
        for other in range(ranks()):
            span = flat[self.bounds[other] : self.bounds[other + 1]]
            if not span.numel():
                continue
            if other:
                dist.recv(span, src=other)
            else:
                span.copy_(self.own)
        return flat.view(self.shape)

    def same(self, whole: torch.Tensor) -> bool:
        """Is this rank's span of a whole tensor what it holds, to the last bit?"""
        return torch.equal(whole.reshape(-1)[self.bounds[rank()] : self.bounds[rank() + 1]], self.own.cpu())


def send(tensors: Mapping[str, Any]) -> None:
    """What the ranks that do not write do while the first one writes the same tensors."""
    for _, value in _in_order(tensors):
        if isinstance(value, Spread):
            value.whole()


def _in_order(tensors: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Those of wide numbers first: each then begins at a place that its format can be read from."""
    return sorted(tensors.items(), key=lambda pair: -pair[1].dtype.itemsize)


def write(path: Path, tensors: Mapping[str, Any]) -> None:
    """A safetensors file (github.com/huggingface/safetensors, README, Format): length, header, bytes; one tensor in memory at a time."""
    header: dict[str, Any] = {}
    ordered = _in_order(tensors)
    place = 0
    for name, value in ordered:
        end = place + value.shape.numel() * value.dtype.itemsize
        header[name] = {"dtype": WORDS[value.dtype], "shape": list(value.shape), "data_offsets": [place, end]}
        place = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for _, value in ordered:
            whole = value.whole() if isinstance(value, Spread) else value.detach()
            file.write(whole.contiguous().cpu().reshape(-1).view(torch.uint8).numpy().data)


def read(path: Path, start: tuple[str, ...] = ("",)) -> Iterator[tuple[str, torch.Tensor]]:
    """(name, tensor) of those in a safetensors file whose names start with one of `start`, in the order of their bytes, each read when it
    is asked for; the others are passed over. Raises OSError, ValueError."""
    formats = {word: dtype for dtype, word in WORDS.items()}
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        length = int.from_bytes(file.read(8), "little")
        if length > size - 8:
            raise ValueError("it ends within its header")
        header = json.loads(file.read(length))
        header.pop("__metadata__", None)
        place = 0
        for name, about in sorted(header.items(), key=lambda pair: pair[1]["data_offsets"]):
            dtype = formats[about["dtype"]]
            end = place + math.prod(about["shape"]) * dtype.itemsize
            if about["data_offsets"] != [place, end]:
                raise ValueError(f"{name} lies at {about['data_offsets']}, wanted {[place, end]}")
            if 8 + length + end > size:
                raise ValueError(f"it ends within {name}")
            if name.startswith(start):
                tensor = torch.empty(about["shape"], dtype=dtype)
                file.seek(8 + length + place)
                file.readinto(tensor.reshape(-1).view(torch.uint8).numpy().data)
                yield name, tensor
            place = end
