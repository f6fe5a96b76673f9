"""Ids that stand before every text without being words: the places of a soft prompt's trained vectors.

    virtual_ids(net)            # (8000, 8001, ...) where an adapter put some, else ()
    before(units, ids)          # the same Units, each Example with `ids` in front, not trained on

They lie above the embedding's rows, and only the stand-in that adapters/prompt.py puts there knows them. Everything else
(packing, positions, the key-value cache) sees ordinary tokens.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from tunesmith.text.example import Example, Unit


def virtual_ids(net: Any) -> tuple[int, ...]:
    """The ids that have to stand before every text of this network."""
    embedding = net.get_input_embeddings() if hasattr(net, "get_input_embeddings") else None
    return tuple(getattr(embedding, "virtual", ()))


def before(units: Sequence[Unit], ids: Sequence[int]) -> Sequence[Unit]:
    """Units whose Examples begin with `ids`. Columns with a value a token get zeros there; a shared prompt grows by them."""
    if not ids:
        return units
    return [
        replace(
            unit,
            examples=tuple(_longer(example, ids) for example in unit.examples),
            shared_prompt=unit.shared_prompt + len(ids) if len(unit.examples) > 1 else unit.shared_prompt,
        )
        for unit in units
    ]


def _longer(example: Example, ids: Sequence[int]) -> Example:
    front = np.zeros(len(ids), dtype=np.float32)
    columns = {
        name: np.concatenate([front.astype(np.asarray(value).dtype), value]) if np.ndim(value) else value
        for name, value in example.columns.items()
    }
    return Example(
        np.concatenate([np.asarray(ids, dtype=np.int32), example.ids]),
        np.concatenate([front, example.weights]),
        columns,
    )
