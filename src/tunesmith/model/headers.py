"""What the files of a model folder say of its weights, without reading one: from the headers of its safetensors, no torch.

found = headers(folder)       # {"model.norm.weight": Header("BF16", (256,), 512), ...}
num_parameters(found)         # weights packed in four or eight bits are counted as the weights they stand for
block_matrices(found)         # shapes of the matrices inside the layers: what LoRA goes beside
"""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunesmith.core.errors import ModelError

WORDS = {"F64": "fp64", "F32": "fp32", "F16": "fp16", "BF16": "bf16", "I8": "int8", "U8": "nf4"}
_BLOCK = re.compile(r"\.\d+\.")
_NO_LAYER = re.compile(r"embed|relative_attention_bias|\.(router|gate)\.weight$")  # tables, and what chooses experts


@dataclass(frozen=True)
class Header:
    """A tensor in a file: its number format in safetensors' words, its shape, its bytes."""

    dtype: str
    shape: tuple[int, ...]
    num_bytes: int


def headers(folder: Path) -> dict[str, Header]:
    """Every tensor of the safetensors in a folder, by name; {} where there are none."""
    found: dict[str, Header] = {}
    for path in sorted(folder.glob("*.safetensors")):
        try:
            with open(path, "rb") as file:
                told: dict[str, Any] = json.loads(file.read(int.from_bytes(file.read(8), "little")))
            told.pop("__metadata__", None)
            for name, one in told.items():
                begin, end = one["data_offsets"]
                found[name] = Header(one["dtype"], tuple(one["shape"]), end - begin)
        except (OSError, OverflowError, MemoryError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise ModelError(
                f"the weights in {path} are damaged: its header cannot be read", fix="Fetch or save the model again."
            ) from error
    return found


def num_parameters(found: Mapping[str, Header]) -> int:
    """How many weights the tensors hold; scales and tables of packed ones are none."""
    return sum(_weights(one) for name, one in found.items() if not _is_scale(name))


def formats(found: Mapping[str, Header]) -> str:
    """The number formats of the weights, the one with most bytes first: "bf16", "nf4 and fp32"."""
    held: dict[str, int] = {}
    for name, one in found.items():
        if not _is_scale(name):
            word = WORDS.get(one.dtype, one.dtype.lower())
            held[word] = held.get(word, 0) + one.num_bytes
    return " and ".join(sorted(held, key=lambda word: -held[word]))


def is_packed(found: Mapping[str, Header]) -> bool:
    """Whether matrices are held in four or eight bits."""
    return any(_is_scale(name) for name in found)


def block_matrices(found: Mapping[str, Header]) -> list[tuple[int, int]]:
    """(out, in) of each matrix in a numbered layer; of one in four bits, whose shape its file does not say so, as if it were square."""
    made = []
    for name, one in found.items():
        if len(one.shape) == 2 and _BLOCK.search(name) and not _is_scale(name) and not _NO_LAYER.search(name):
            side = math.isqrt(_weights(one)) if one.dtype == "U8" else 0
            made.append((side, side) if side else (one.shape[0], one.shape[1]))
    return made


def _weights(one: Header) -> int:
    return math.prod(one.shape) * (2 if one.dtype == "U8" else 1)  # two of four bits lie in a byte


def _is_scale(name: str) -> bool:
    """As bitsandbytes names what belongs to a packed weight."""
    return ".weight." in name or name.endswith((".SCB", ".weight_format"))
