"""Ids that stand before every text without being words: the places of a soft prompt's trained vectors.

    virtual_ids(net)            # (8000, 8001, ...) where an adapter put some, else ()
    hidden_places(net)          # positions taken by a trained prefix, which needs no ids
    before(units, ids)          # the same Units, each Example with `ids` in front, not trained on
    without(units, ids)         # and without them again, for a network that does not know them

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


def hidden_places(net: Any) -> int:
    """Positions that every text finds taken without any id standing there: those of a trained prefix (adapters/prefix.py)."""
    prefix = getattr(getattr(net, "base_model", net), "prefix", None)
    return int(getattr(prefix, "places", 0))


def before(units: Sequence[Unit], ids: Sequence[int]) -> Sequence[Unit]:
    """Units whose Examples begin with `ids`. Columns with a value a token get zeros there; a shared prompt grows by them."""
    if not ids:
        return units
    return [unit if _has(unit, ids) else _longer_unit(unit, ids) for unit in units]


def without(units: Sequence[Unit], ids: Sequence[int]) -> Sequence[Unit]:
    """Units as they were before `before`."""
    if not ids:
        return units
    return [_shorter_unit(unit, len(ids)) if _has(unit, ids) else unit for unit in units]


def _has(unit: Unit, ids: Sequence[int]) -> bool:
    """Whether they stand there already, as in Units taken from a batch; no word has such an id."""
    return all(len(example) and example.ids[0] == ids[0] for example in unit.examples)


def _longer_unit(unit: Unit, ids: Sequence[int]) -> Unit:
    shared = unit.shared_prompt and unit.shared_prompt + len(ids)
    return replace(unit, examples=tuple(_longer(example, ids) for example in unit.examples), shared_prompt=shared)


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


def _shorter_unit(unit: Unit, num: int) -> Unit:
    shared = unit.shared_prompt and unit.shared_prompt - num
    return replace(unit, examples=tuple(_shorter(example, num) for example in unit.examples), shared_prompt=shared)


def _shorter(example: Example, num: int) -> Example:
    columns = {name: value[num:] if np.ndim(value) else value for name, value in example.columns.items()}
    return Example(example.ids[num:], example.weights[num:], columns)
