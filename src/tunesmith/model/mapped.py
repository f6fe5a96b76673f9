"""A weight that stays in its file: read when it is used, its pages given back at once.

    mapped = Mapped(layer.weight, (64, 64))      # a view of a safetensors file that is mapped into memory
    mapped.dequantised(torch.float32)            # a copy in memory; nothing of the file is held afterwards

safetensors maps a file, and transformers takes weights of the number format asked for as they lie there, without reading them. A
matrix so held costs no memory between its uses but what the kernel's cache can spare. stream.py does it to a network.
"""

import ctypes
import mmap
import sys
from bisect import bisect_right
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import nn

_WILLNEED, _DONTNEED = 3, 4  # madvise(2): read them all, in large pieces; they may go, and are read again when touched


@dataclass(frozen=True, eq=False)
class Mapped:
    """A weight (out, in) in a mapped file; view (in, out) where it lies so (GPT-2). What packed.py wants of a held weight."""

    parts: ClassVar[tuple[str, ...]] = ()  # nothing that a network's state or a move to a device has to know

    view: torch.Tensor
    shape: tuple[int, int]
    transposed: bool = False
    device: torch.device | str = "cpu"

    @property
    def num_bytes(self) -> int:
        """Bytes in the file."""
        return self.view.numel() * self.view.element_size()

    def dequantised(self, dtype: torch.dtype) -> torch.Tensor:
        """A copy (out, in) in memory; the pages it was read from are given back."""
        _advise(self.view, _WILLNEED)
        if _real(self.view) and torch.device(self.device).type == "cpu":
            made = in_own_pages(self.view, dtype)
        else:
            made = self.view.to(device=self.device, dtype=dtype, copy=True)
        give_back(self.view)
        return made.T if self.transposed else made

    def on(self, device: torch.device) -> "Mapped":
        """The same weight, read onto a device."""
        return replace(self, device=device)

    def __deepcopy__(self, memo: Any) -> "Mapped":
        """A copy of a network shares the file."""
        return self


class Maps:
    """The safetensors files mapped into this process, by address. Linux says it; elsewhere there are none."""

    def __init__(self) -> None:
        path = Path("/proc/self/maps")
        self.starts: list[int] = []
        self.ends: list[int] = []
        for line in path.read_text(errors="replace").splitlines() if path.exists() else ():
            place, _, _, _, _, *name = line.split(maxsplit=5)
            if name and name[0].endswith(".safetensors"):
                start, end = (int(part, 16) for part in place.split("-"))
                self.starts.append(start)
                self.ends.append(end)

    def hold(self, tensor: torch.Tensor) -> bool:
        """Whether a tensor's numbers lie in a file. Those of the planner's tensors lie nowhere, and count as if."""
        if not _real(tensor):
            return True
        number = bisect_right(self.starts, tensor.data_ptr()) - 1
        return number >= 0 and tensor.is_contiguous() and tensor.data_ptr() + tensor.nbytes <= self.ends[number]


def give_back(view: torch.Tensor) -> None:
    """Let go of the whole pages under a view of a mapped file."""
    _advise(view, _DONTNEED)


def _advise(view: torch.Tensor, wish: int) -> None:
    if not _real(view) or sys.platform != "linux":
        return
    page = mmap.PAGESIZE
    start = -(-view.data_ptr() // page) * page
    end = (view.data_ptr() + view.nbytes) // page * page
    if end > start:
        ctypes.CDLL(None).madvise(ctypes.c_void_p(start), ctypes.c_size_t(end - start), ctypes.c_int(wish))


def in_own_pages(view: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """A copy of `view` in pages that the kernel gets back as soon as it is dropped. From the heap, matrices of one layer after
    another leave holes that small tensors settle in: a step over 1.5 GB of weights grew by 270 MB, and the next again."""
    size = view.numel() * dtype.itemsize
    if not size:
        return view.to(dtype=dtype, copy=True)
    pages = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    return torch.frombuffer(pages, dtype=dtype).view(view.shape).copy_(view)


def stored_dtype(source: Path) -> torch.dtype:
    """The number format of most weights in a folder's safetensors files."""
    from safetensors import safe_open

    formats = {"F64": torch.float64, "F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16}
    counts: Counter[str] = Counter({"F32": 0})
    for path in Path(source).glob("*.safetensors"):
        with safe_open(path, framework="pt") as file:
            for name in sorted(file.keys()):
                part = file.get_slice(name)
                if part.get_dtype() in formats:
                    counts[part.get_dtype()] += torch.Size(part.get_shape()).numel()
    return formats[counts.most_common(1)[0][0]]


def _real(tensor: torch.Tensor) -> bool:
    return type(tensor) in (torch.Tensor, nn.Parameter) and tensor.device.type == "cpu"
