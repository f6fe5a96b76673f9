"""The loss as it is usually written: all logits at once, kept for the backward pass. What the chunked loss is compared with."""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch


@dataclass(frozen=True)
class WholeLogits:
    """SFT's loss over the whole matrix of logits."""

    per: ClassVar[dict[str, str]] = {"nll": "tokens"}

    def loss(self, policy: Any, batch: Any, helpers: Any) -> Any:
        """Sum of weight * -log p over the trained-on tokens."""
        from tunesmith.objectives._contract import Loss

        logits = policy.logits(policy.predicting(batch)).float()
        logp = -torch.nn.functional.cross_entropy(logits, batch.target, reduction="none")
        total = -(logp * batch.weight).sum()
        return Loss({"nll": total}, {"nll": (total.detach(), batch.weight.sum())}, -logp.detach())


def whole_logits() -> WholeLogits:
    """The objective."""
    return WholeLogits()
