"""How Units lie in memory for one forward pass: packed end to end, or padded. Methods never see the difference.

    batch = pack(units)                      # (1, total): documents one after another, isolated by `segments`
    batch = pad(units, pad_id=0)             # (examples, longest): for models that cannot be proved to isolate documents

A prompt that the Examples of a Unit share lies in a packed row once and is computed once; attention knows (segments.py).

Either way `predictor`, `target` and `weight` list the trained-on tokens flat, in the order of the Examples.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import numpy as np
import torch

from tunesmith.model.segments import Segments, onto
from tunesmith.text.example import Unit


@dataclass(frozen=True, eq=False)
class Batch:
    """One micro-batch.

    ids        int64 (rows, time)
    positions  int64 (rows, time): restart at 0 in every Example
    segments   bounds of the Examples in a packed row, (examples + 1,) plain ints; None when padded. Where prompts are
               shared, the bounds they would have without sharing, and where each token lies (see model/segments.py)
    mask       bool (rows, time), True where a token is; None when packed
    predictor  int64 (targets,): flat index of the hidden state that predicts each trained-on token
    target     int64 (targets,): the token that is to be predicted
    weight     float32 (targets,): its weight
    example    int64 (targets,): which Example of the batch it belongs to
    last       int64 (examples,): flat index of each Example's last token
    unit       int64 (examples,): which Unit each Example belongs to
    columns    per Example numbers, float32 (examples,), or per target values, float32 (targets,): those that all Examples have
    units      what was laid out, for methods that take a batch apart by task
    """

    ids: torch.Tensor
    positions: torch.Tensor
    segments: Segments | None
    mask: torch.Tensor | None
    predictor: torch.Tensor
    target: torch.Tensor
    weight: torch.Tensor
    example: torch.Tensor
    last: torch.Tensor
    unit: torch.Tensor
    num_units: int
    num_tokens: int
    columns: dict[str, Any] = field(default_factory=dict)
    units: tuple[Unit, ...] = ()

    @property
    def num_examples(self) -> int:
        return len(self.unit)

    def to(self, device: torch.device | str) -> "Batch":
        """The same batch with its tensors on `device`."""
        if torch.device(device) == self.ids.device:
            return self
        names = ("ids", "positions", "mask", "predictor", "target", "weight", "example", "last", "unit")
        moved: dict[str, Any] = {name: getattr(self, name) for name in names}
        moved = {name: value if value is None else onto(value, device) for name, value in moved.items()}
        moved["columns"] = {k: onto(v, device) if torch.is_tensor(v) else v for k, v in self.columns.items()}
        if self.segments is not None:
            moved["segments"] = self.segments.to(device)
        return replace(self, **moved)

    def per_example(self, values: torch.Tensor) -> torch.Tensor:
        """Sums over each Example's trained-on tokens: (targets,) -> (examples,)."""
        return values.new_zeros(self.num_examples).index_add(0, self.example, values)

    def per_unit(self, values: torch.Tensor) -> torch.Tensor:
        """Weighted means over each Unit's trained-on tokens: (targets,) -> float64 (units,), 0 for a Unit that has none."""
        unit = self.unit[self.example]
        sums = torch.zeros(self.num_units, 2, dtype=torch.float64, device=values.device)
        sums.index_add_(0, unit, torch.stack([values * self.weight, self.weight], dim=1).double())
        return sums[:, 0] / sums[:, 1].clamp_min(1e-12)

    @property
    def lengths(self) -> torch.Tensor:
        """Trained-on tokens of each Example, float32 (examples,): those whose weight is not 0."""
        return self.per_example((self.weight != 0).float())


def pack(units: Sequence[Unit]) -> Batch:
    """Lay all Examples of `units` end to end in one row: no padding, documents isolated by `segments`."""
    examples = [example for unit in units for example in unit.examples]
    lengths = np.array([len(example) for example in examples], dtype=np.int64)
    bounds = np.concatenate(([0], np.cumsum(lengths)))
    shared = [unit.shared_prompt for unit in units for _ in unit.examples]
    if not any(shared):
        where = np.arange(bounds[-1])
        own = np.ones(len(where), dtype=bool)
    else:
        where, own = _places(units, bounds)
    ids = np.concatenate([example.ids for example in examples]).astype(np.int64)[own]
    positions = (np.arange(bounds[-1]) - np.repeat(bounds[:-1], lengths))[own]
    segments = Segments(int(bound) for bound in bounds)
    if len(ids) < len(where):
        segments = segments.sharing(torch.from_numpy(where), torch.from_numpy(np.flatnonzero(own)))
    return _batch(
        units,
        examples,
        places=[where[start:end] for start, end in pairwise(bounds)],
        ids=torch.from_numpy(ids)[None],
        positions=torch.from_numpy(positions)[None],
        segments=segments,
        mask=None,
    )


def _places(units: Sequence[Unit], bounds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(where each token of each Example lies in the row, which of them is the one that lies there)."""
    own = np.ones(bounds[-1], dtype=bool)
    number = 0
    for unit in units:
        for later in range(1, len(unit.examples)):
            start = bounds[number + later]
            own[start : start + unit.shared_prompt] = False
        number += len(unit.examples)
    where = np.cumsum(own) - 1
    number = 0
    for unit in units:
        if shared := unit.shared_prompt:
            prompt = where[bounds[number] : bounds[number] + shared]
            for later in range(1, len(unit.examples)):
                start = bounds[number + later]
                where[start : start + shared] = prompt
        number += len(unit.examples)
    return where, own


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
        places=[np.arange(len(example)) + row * longest for row, example in enumerate(examples)],
        ids=torch.from_numpy(ids),
        positions=torch.from_numpy(positions),
        segments=None,
        mask=torch.from_numpy(mask),
    )


def _batch(units: Sequence[Unit], examples: Sequence[Any], places: Sequence[np.ndarray], **layout: Any) -> Batch:
    """List the trained-on tokens flat: the token at i is predicted by the hidden state at i - 1, shifted exactly once.

    places  for each Example, the flat index of each of its tokens
    """
    predictor, target, weight, owner = [], [], [], []
    for number, (example, place) in enumerate(zip(examples, places)):
        trained = np.flatnonzero(example.weights)
        if len(trained) and trained[0] == 0:
            raise ValueError("the first token of an Example is predicted from nothing; its weight must be 0")
        predictor.append(place[trained - 1])
        target.append(example.ids[trained])
        weight.append(example.weights[trained])
        owner.append(np.full(len(trained), number))
    columns: dict[str, torch.Tensor] = {}
    for name in set.intersection(*(set(example.columns) for example in examples)):
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
        last=torch.tensor([int(place[-1]) for place in places], dtype=torch.int64),
        unit=torch.tensor([number for number, unit in enumerate(units) for _ in unit.examples], dtype=torch.int64),
        num_units=len(units),
        num_tokens=int(layout["ids"].shape[1]) if layout["mask"] is None else sum(map(len, examples)),
        columns=columns,
        units=tuple(units),
        **layout,
    )
