"""A frozen weight in eight bits: whole numbers from -127 to 127 times one scale an output row (Dettmers et al. 2022, arXiv 2208.07339).

    packed = Packed.of(weight)            # (out, in): one byte a weight and four bytes a row
    packed.dequantised(torch.float32)     # (out, in) again, each weight off by half a step at most

Bytes are those of bitsandbytes' LLM.int8, in memory and in files. Its kernels also round what is multiplied by the weights; here
only the weights are rounded, and activations stay as they are. Whole networks: packed.py.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from tunesmith.core.errors import ModelError

TOP = 127  # -128 is never used: the codes are symmetric


@dataclass(frozen=True, eq=False)
class Packed:
    """A weight (out, in) in eight bits: weight = codes * largest / 127.

    codes    int8 (out, in)
    largest  float32 (out,): the largest absolute value of each row
    """

    codes: torch.Tensor
    largest: torch.Tensor
    shape: tuple[int, int]

    bits: ClassVar[int] = 8
    more_in_file: ClassVar[int] = 1  # bytes: weight_format
    parts: ClassVar[tuple[str, ...]] = ("codes", "largest")
    names: ClassVar[tuple[str, ...]] = ("weight", "SCB", "weight_format")

    @staticmethod
    @torch.no_grad()
    def of(weight: torch.Tensor) -> "Packed":
        """Quantise a weight (out, in) row by row, to the nearest step."""
        values = weight.detach().float()
        largest = values.abs().amax(1)
        steps = values * (TOP / largest.clamp(min=1e-38))[:, None]
        return Packed(steps.round_().clamp_(-TOP, TOP).to(torch.int8), largest, (weight.shape[0], weight.shape[1]))

    @property
    def num_bytes(self) -> int:
        """Bytes of all parts."""
        return sum(t.numel() * t.element_size() for t in (self.codes, self.largest))

    def dequantised(self, dtype: torch.dtype) -> torch.Tensor:
        """The weight (out, in) that the codes stand for."""
        return (self.codes * (self.largest / TOP)[:, None]).to(dtype)

    @staticmethod
    def size(out: int, columns: int) -> int:
        """Bytes of all parts of a weight (out, columns)."""
        return out * columns + 4 * out

    def file_tensors(self, dtype: str) -> dict[str, Any]:
        """What a file holds of it, under `names` behind the layer's: bitsandbytes' own."""
        return dict(zip(self.names, (self.codes, self.largest, torch.zeros((), dtype=torch.uint8))))

    @staticmethod
    def of_file(tensors: Mapping[str, torch.Tensor], where: str) -> "Packed":
        """A weight from a file's tensors. Raises ModelError for what bitsandbytes can write and this does not read."""
        codes, largest, layout = tensors["weight"], tensors.get("SCB"), tensors.get("weight_format")
        if codes.dtype != torch.int8 or codes.ndim != 2 or largest is None or largest.shape != codes.shape[:1]:
            raise ModelError(f"{where} is no weight in eight bits: codes (out, in) and SCB (out,) are needed.")
        if layout is not None and int(layout) != 0:
            raise ModelError(
                f"{where} is laid out for a GPU (weight_format {int(layout)})",
                wanted="Rows as they are: weight_format 0.",
            )
        return Packed(codes, largest.float(), (codes.shape[0], codes.shape[1]))
