"""Activations that wait for the backward pass outside the memory that is short: in a file, or in the host's memory for a GPU.

    with Offload("disk", run / "scratch").here():
        backward(...)                # what autograd saves is written, and read again when its gradient is due

Every tensor of at least LEAST bytes that autograd keeps goes, each once however often it is kept; weights stay, and so do views
with gaps. What comes back has the same bytes in the same layout, so losses and gradients are the same, bit by bit. Use it
beside checkpointing, which leaves one tensor a layer; alone it writes and reads everything that checkpointing would compute again.
(vDNN: Rhu et al. 2016, arXiv 1602.08124; ZeRO-Infinity: Rajbhandari et al. 2021, arXiv 2104.07857.)
"""

import mmap
import os
import tempfile
import weakref
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from tunesmith.core.errors import SettingError, TrainingError
from tunesmith.core.files import explain_os_error
from tunesmith.model.again import as_given

KINDS = ("none", "disk", "pinned")
LEAST = 1 << 16


class Offload:
    """Where saved tensors go.

    kind    disk: a scratch file; pinned: page-locked memory of the host, for tensors on a GPU; none: they stay
    path    the scratch file. It has no name once it is open, so that no kill leaves it behind
    weights  tensors that live anyway and are not moved
    least   bytes below which a tensor stays
    """

    def __init__(self, kind: str, path: Path, weights: Iterable[torch.Tensor] = (), *, least: int = LEAST) -> None:
        if kind not in KINDS:
            raise SettingError(f"offload {kind!r} is not known", wanted=f"One of {', '.join(KINDS)}.")
        self.kind, self.least = kind, least
        self.num_bytes = 0  # that went out, all steps together
        self._weights = {_key(tensor) for tensor in weights}
        self._known: dict[Any, weakref.ref[Away]] = {}
        self._file = Scratch(path) if kind == "disk" else None

    @contextmanager
    def here(self) -> Iterator[None]:
        """What autograd saves within the block is moved."""
        if self.kind == "none":
            yield
            return
        with as_given(), torch.autograd.graph.saved_tensors_hooks(self._pack, _unpack):
            yield

    def _pack(self, tensor: torch.Tensor) -> Any:
        if not self._moves(tensor):
            return tensor
        storage = tensor.untyped_storage()
        key = (_key(tensor), tensor.storage_offset(), tensor.shape, tensor.stride(), tensor.dtype, tensor._version)
        found = self._known[key]() if key in self._known else None
        if found is not None and found.source() is storage:
            return found
        away = Away(tensor, self._file)
        self.num_bytes += away.num_bytes
        self._known[key] = weakref.ref(away, lambda _: self._known.pop(key, None))
        return away

    def _moves(self, tensor: torch.Tensor) -> bool:
        if isinstance(tensor, nn.Parameter) or tensor.numel() * tensor.element_size() < self.least:
            return False
        if self.kind == "pinned" and tensor.device.type != "cuda":
            return False
        return _key(tensor) not in self._weights and _dense(tensor)


class Away:
    """A tensor without its numbers, and where they are."""

    def __init__(self, tensor: torch.Tensor, file: "Scratch | None") -> None:
        self.shape, self.stride, self.dtype, self.device = tensor.shape, tensor.stride(), tensor.dtype, tensor.device
        self.num_bytes = tensor.numel() * tensor.element_size()
        self.source = weakref.ref(tensor.untyped_storage())
        self.held: torch.Tensor | None = None
        self.file, self.place = file, -1
        if type(tensor) is not torch.Tensor:
            return  # the planner's tensors have no numbers to keep
        if file is None:
            self.held = torch.empty_strided(self.shape, self.stride, dtype=self.dtype, pin_memory=True)
            self.held.copy_(tensor.detach(), non_blocking=True)
        else:
            self.place = file.write(_bytes(tensor))
            weakref.finalize(self, file.free, self.place, self.num_bytes)

    def seen(self) -> torch.Tensor:
        """The tensor in host memory or mapped from the file: to be read through, not to be kept."""
        if self.file is None or self.place < 0:
            return self.back() if self.held is None else self.held
        flat = torch.from_numpy(self.file.mapped(self.place, self.num_bytes)).view(self.dtype)
        return flat.as_strided(self.shape, self.stride)

    def back(self) -> torch.Tensor:
        """The tensor again."""
        if self.held is not None:
            return self.held.to(self.device, non_blocking=True)
        made = torch.empty_strided(self.shape, self.stride, dtype=self.dtype, device=self.device)
        if self.file is not None and self.place >= 0:
            if self.device.type == "cpu":
                self.file.read(self.place, _bytes(made))
            else:
                host = torch.empty_strided(self.shape, self.stride, dtype=self.dtype)
                self.file.read(self.place, _bytes(host))
                made.copy_(host)
        return made


def _unpack(packed: Any) -> torch.Tensor:
    return packed.back() if isinstance(packed, Away) else packed


class Scratch:
    """Places in a file, given out and taken back by size; the next step finds those of the last."""

    def __init__(self, path: Path) -> None:
        self.path, self.end, self.number = path, 0, -1
        self.places: defaultdict[int, list[int]] = defaultdict(list)

    def _open(self) -> None:
        self.number, name = tempfile.mkstemp(prefix=f"{self.path.name}.", dir=self.path.parent)  # one for each rank
        os.unlink(name)
        weakref.finalize(self, os.close, self.number)

    def write(self, data: memoryview) -> int:
        """Put bytes into the file; where they are."""
        free = self.places[len(data)]
        place = free.pop() if free else self.end
        self.end = max(self.end, place + len(data))
        done = 0
        try:
            if self.number < 0:
                self._open()
            while done < len(data):
                done += os.pwrite(self.number, data[done:], place + done)
        except OSError as error:
            raise explain_os_error(error, self.path) or error from error
        return place

    def read(self, place: int, into: memoryview) -> None:
        """Fill `into` from the file."""
        done = 0
        while done < len(into):
            now = os.preadv(self.number, [into[done:]], place + done)
            if not now:
                raise TrainingError(f"the scratch file {self.path} ends too early", fix="Check the disk.")
            done += now

    def mapped(self, place: int, size: int) -> np.ndarray:
        """uint8 (size,): the bytes as they lie in the file, of which the system reads what is looked at."""
        start = place - place % mmap.ALLOCATIONGRANULARITY
        view = mmap.mmap(
            self.number,
            place - start + size,
            offset=start,
            prot=mmap.PROT_READ | mmap.PROT_WRITE,
            flags=mmap.MAP_PRIVATE,
        )
        return np.frombuffer(view, dtype=np.uint8, count=size, offset=place - start)

    def free(self, place: int, size: int) -> None:
        """The bytes are not needed any more."""
        self.places[size].append(place)


def _bytes(tensor: torch.Tensor) -> memoryview:
    """The memory of a tensor without gaps, as it lies there; a copy of one on a GPU."""
    flat = tensor.detach().as_strided((tensor.numel(),), (1,))
    return memoryview(flat.cpu().view(torch.uint8).numpy())


def _dense(tensor: torch.Tensor) -> bool:
    """Whether the numbers lie side by side, in whatever order."""
    if tensor.layout != torch.strided or not tensor.numel():
        return False
    expected = 1
    for size, stride in sorted(zip(tensor.shape, tensor.stride()), key=lambda pair: (pair[1], pair[0])):
        if size != 1:
            if stride != expected:
                return False
            expected *= size
    return True


def _key(tensor: torch.Tensor) -> int:
    return tensor.untyped_storage()._cdata
