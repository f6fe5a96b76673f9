"""How Units lie in memory for one forward pass: packed end to end, or padded. Methods never see the difference.

    batch = pack(units)                      # (1, total): documents one after another, isolated by `segments`
    batch = pad(units, pad_id=0)             # (examples, longest): for models that cannot be proved to isolate documents

Either way `predictor`, `target` and `weight` list the trained-on tokens flat, in the order of the Examples.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch

from tunesmith.text.example import Unit


@dataclass(frozen=True, eq=False)
class Batch:
    """One micro-batch.

    ids        int64 (rows, time)
    positions  int64 (rows, time): restart at 0 in every Example
    segments   bounds of the Examples in a packed row, (examples + 1,) plain ints; None when padded
    mask       bool (rows, time), True where a token is; None when packed
    predictor  int64 (targets,): flat index of the hidden state that predicts each trained-on token
    target     int64 (targets,): the token that is to be predicted
    weight     float32 (targets,): its weight
    example    int64 (targets,): which Example of the batch it belongs to
    unit       int64 (examples,): which Unit each Example belongs to
    columns    per Example numbers, float32 (examples,), or per target values, float32 (targets,)
    """

    ids: torch.Tensor
    positions: torch.Tensor
    segments: tuple[int, ...] | None
    mask: torch.Tensor | None
    predictor: torch.Tensor
    target: torch.Tensor
    weight: torch.Tensor
    example: torch.Tensor
    unit: torch.Tensor
    num_units: int
    num_tokens: int
    columns: dict[str, Any] = field(default_factory=dict)

    @property
    def num_examples(self) -> int:
        return len(self.unit)

    def to(self, device: torch.device | str) -> "Batch":
        """The same batch with its tensors on `device`."""
        if torch.device(device) == self.ids.device:
            return self
        names = ("ids", "positions", "mask", "predictor", "target", "weight", "example", "unit")
        moved: dict[str, Any] = {name: getattr(self, name) for name in names}
        moved = {name: value if value is None else value.to(device, non_blocking=True) for name, value in moved.items()}
        moved["columns"] = {k: v.to(device) if torch.is_tensor(v) else v for k, v in self.columns.items()}
        return replace(self, **moved)


def pack(units: Sequence[Unit]) -> Batch:
    """Lay all Examples of `units` end to end in one row: no padding, documents isolated by `segments`."""
    examples = [example for unit in units for example in unit.examples]
    lengths = np.array([len(example) for example in examples], dtype=np.int64)
    bounds = np.concatenate(([0], np.cumsum(lengths)))
    ids = np.concatenate([example.ids for example in examples]).astype(np.int64)
    positions = np.arange(bounds[-1]) - np.repeat(bounds[:-1], lengths)
    return _batch(
        units,
        examples,
        offsets=bounds[:-1],
        ids=torch.from_numpy(ids)[None],
        positions=torch.from_numpy(positions)[None],
        segments=tuple(int(bound) for bound in bounds),
        mask=None,
    )


def pad(units: Sequence[Unit], pad_id: int = 0) -> Batch:
    """Lay each Example in a row of its own, padded on the right. Padding is masked by length, never by its id."""
    examples = [example for unit in units for example in unit.examples]
    longest = max(len(example) for example in examples)
    ids = np.full((len(examples), longest), pad_id, dtype=np.int64)
    mask = np.zeros((len(examples), longest), dtype=bool)
    for row, example in enumerate(examples):
        ids[row, : len(example)] = example.ids
        mask[row, : len(example)] = True
    positions = np.where(mask, np.arange(longest), 0)
    return _batch(
        units,
        examples,
        offsets=np.arange(len(examples), dtype=np.int64) * longest,
        ids=torch.from_numpy(ids),
        positions=torch.from_numpy(positions),
        segments=None,
        mask=torch.from_numpy(mask),
    )


def _batch(units: Sequence[Unit], examples: Sequence[Any], offsets: np.ndarray, **layout: Any) -> Batch:
    """List the trained-on tokens flat: the token at i is predicted by the hidden state at i - 1, shifted exactly once."""
    predictor, target, weight, owner = [], [], [], []
    for number, (example, offset) in enumerate(zip(examples, offsets)):
        trained = np.flatnonzero(example.weights)
        if len(trained) and trained[0] == 0:
            raise ValueError("the first token of an Example is predicted from nothing; its weight must be 0")
        predictor.append(offset + trained - 1)
        target.append(example.ids[trained])
        weight.append(example.weights[trained])
        owner.append(np.full(len(trained), number))
    columns: dict[str, torch.Tensor] = {}
    for name in {key for example in examples for key in example.columns}:
        values = [example.columns[name] for example in examples]
        if np.ndim(values[0]):  # one value a token: keep those of the trained-on tokens
            values = [np.asarray(v, dtype=np.float32)[np.flatnonzero(e.weights)] for v, e in zip(values, examples)]
            columns[name] = torch.from_numpy(np.concatenate(values))
        else:
            columns[name] = torch.tensor(values, dtype=torch.float32)
    return Batch(
        predictor=torch.from_numpy(np.concatenate(predictor).astype(np.int64)),
        target=torch.from_numpy(np.concatenate(target).astype(np.int64)),
        weight=torch.from_numpy(np.concatenate(weight).astype(np.float32)),
        example=torch.from_numpy(np.concatenate(owner).astype(np.int64)),
        unit=torch.tensor([number for number, unit in enumerate(units) for _ in unit.examples], dtype=torch.int64),
        num_units=len(units),
        num_tokens=sum(len(example) for example in examples),
        columns=columns,
        **layout,
    )
