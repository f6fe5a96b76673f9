"""What an objective returns, and what it may say of itself. See house.md "The one loop and the one contract".

class MyMethod:                       # a frozen dataclass; its fields are its settings
    shape = "chat"                    # rows it wants: chat | text | ...
    per = {"answer": "tokens"}        # what each term of the loss is divided by, once, over the whole step
    figures = {"loss": "mean ...\\n\\n..."}   # what each figure of a batch means, in English and, after a blank line, in Korean
    weighted = True                   # its Examples carry the row's own weight (text.example.weighed); without it data.weight is refused
    def units(self, row, text, draw): ...
    def loss(self, policy, batch, helpers): return Loss({"answer": total}, {"loss": (total, weight)})
"""

from dataclasses import dataclass, field
from typing import Any

import torch


@dataclass(frozen=True, eq=False)
class Loss:
    """terms: {name: sum} that are divided by what `per` says and differentiated; stats: {name: (sum, count)} to look at."""

    terms: dict[str, torch.Tensor]
    stats: dict[str, tuple[torch.Tensor, torch.Tensor]] = field(default_factory=dict)
    per_target: torch.Tensor | None = None
    """detached log p of each trained-on token, for the loss of every row"""
    per_unit: torch.Tensor | None = None
    """detached loss of each Unit, where it is not the mean over its tokens; NaN for one that had none"""


def of_units(each: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
    """What `Loss.per_unit` wants of the losses of Units and of which of them count (1) or not (0)."""
    return each.detach().masked_fill(real == 0, float("nan"))


def network(objective: Any, rows: Any) -> dict[str, Any]:
    """How `load` makes the network an objective wants: its kind, and for classifiers the labels.

    rows  the training rows, for objectives whose labels stand in them
    """
    kind = getattr(objective, "kind", "causal")
    if hasattr(objective, "network"):
        return {"kind": kind, **objective.network(rows)}
    if labels := getattr(objective, "labels", ()):
        return {"kind": kind, "labels": labels, "problem": "regression" if len(labels) == 1 else "single"}
    return {"kind": kind}
