"""Bytes of a packed model: those of the matrices and those of the whole file, apart, scales counted.

    table = sizes(net, choice.shapes, rest_bytes=2)
    table["int8"]["matrices"], table["int8"]["total"]       # by the formula, before anything is written
    on_disk(folder, choice.names)["matrices"]               # from the headers of the files that were written

A model's files shrink less than its matrices: embeddings stay. Both figures are given, so that neither stands for the other.
"""

import math
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from torch import nn

from tunesmith.model.headers import headers
from tunesmith.model.packed import KINDS


def sizes(net: nn.Module, shapes: Mapping[str, tuple[int, int]], *, rest_bytes: int) -> dict[str, dict[str, int]]:
    """{format: {"codes", "scales", "tables", "matrices", "rest", "total"}} in bytes, for 16 bits and for each kind.

    codes + scales + tables = matrices: what the packed layers of `shapes` take, their scales, and what a file repeats for each so that
    other programs can read it. rest: everything else, `rest_bytes` a number (2 in the row of 16 bits).
    """
    weights = sum(out * columns for out, columns in shapes.values())
    others = _numbers(net) - weights
    found = {"16-bit": _row(2 * weights, 0, 0, 2 * others)}
    for kind, layout in KINDS.items():
        codes = sum(math.ceil(out * columns * layout.bits / 8) for out, columns in shapes.values())
        parts = sum(layout.size(out, columns) for out, columns in shapes.values())
        found[kind] = _row(codes, parts - codes, layout.more_in_file * len(shapes), rest_bytes * others)
    return found


def on_disk(folder: Path, names: Collection[str]) -> dict[str, int]:
    """{"matrices", "rest", "headers", "file"} in bytes, read from the headers of the safetensors in a folder.

    A tensor belongs to the layer its name begins with; biases count as rest."""
    found = {"matrices": 0, "rest": 0, "headers": 0, "file": 0}
    owners = {f"{name}." for name in names}
    for name, told in headers(Path(folder)).items():
        packed = not name.endswith(".bias") and any(name.startswith(owner) for owner in owners)
        found["matrices" if packed else "rest"] += told.num_bytes
    found["file"] = sum(path.stat().st_size for path in Path(folder).glob("*.safetensors"))
    found["headers"] = found["file"] - found["matrices"] - found["rest"]  # a file is its header and its tensors
    return found


def kv_cache_bytes(config: Any, *, number: int = 2) -> int | None:
    """Bytes a token keeps in the cache of keys and values: 2 x layers x heads x their width x bytes a number. Packing weights leaves
    it as it is. None where the configuration does not say."""
    layers, heads = getattr(config, "num_hidden_layers", None), getattr(config, "num_attention_heads", None)
    if not layers or not heads:
        return None
    width = getattr(config, "head_dim", None) or config.hidden_size // heads
    return int(2 * layers * (getattr(config, "num_key_value_heads", None) or heads) * width * number)


def _row(codes: int, scales: int, tables: int, rest: int) -> dict[str, int]:
    packed = codes + scales + tables
    return {
        "codes": codes, "scales": scales, "tables": tables, "matrices": packed, "rest": rest, "total": packed + rest,
    }  # fmt: skip


def _numbers(net: nn.Module) -> int:
    """How many numbers a file of the network holds: tied weights once."""
    kept = {}
    for value in net.state_dict().values():
        kept[(value.data_ptr(), tuple(value.shape), value.stride())] = value.numel()
    return sum(kept.values())
