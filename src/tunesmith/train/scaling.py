"""Loss scaling for fp16: gradients are made `scale` times larger, so that small ones are not rounded to 0, and smaller again after.

    scaler = Scaler()
    while True:
        backward(policy, objective, units, scale=scaler.scale)
        reduce_gradients(optimizer.gradients())
        if scaler.accept(optimizer):        # finite on every rank: gradients are unscaled and may be used
            break                           # else they are forgotten, the scale is halved, and the same step is made again

fp16 reaches from 6e-8 to 65504 (Micikevicius et al. 2018, arXiv 1710.03740, section 3.2). The scale doubles after 2,000 steps without
an overflow. As the same Units go through again after one, no data is skipped, and neither the learning rate's schedule nor the step
number moves: the run is the one that had the right scale from the start.
"""

from typing import Any

import torch
import torch.distributed as dist

from tunesmith.core.errors import TrainingError
from tunesmith.train.optim import total_norm

SMALLEST = 2.0**-14  # a gradient that overflows at this scale is no matter of scale


class Scaler:
    """The scale of the loss and when it changes. Powers of two, so that scaling itself rounds nothing."""

    def __init__(self, scale: float = 2.0**16, *, grow_after: int = 2000) -> None:
        self.scale, self.grow_after = float(scale), grow_after
        self.good = 0
        self.overflows = 0

    def accept(self, optimizer: Any) -> bool:
        """Unscale the gradients of a step and say True; or forget them when any rank has one that is no number.

        Raises TrainingError when a smaller scale does not help either.
        """
        gradients = [master.grad for master in optimizer.gradients() if master.grad is not None]
        finite = torch.isfinite(total_norm(gradients)).float()
        if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
            dist.all_reduce(finite, op=dist.ReduceOp.MIN)
        if not bool(finite):
            optimizer.clear()
            self.scale, self.good, self.overflows = self.scale / 2, 0, self.overflows + 1
            if self.scale < SMALLEST:
                raise TrainingError(
                    f"the gradients are no numbers, also with the loss scaled by {self.scale:g}: fp16 is not what overflows here",
                    fix="Train with train.precision=bf16 or fp32, or lower train.lr.",
                )
            return False
        torch._foreach_mul_(gradients, 1 / self.scale)
        self.good += 1
        if self.good >= self.grow_after:
            self.scale, self.good = self.scale * 2, 0
        return True

    def state(self) -> dict[str, float]:
        """What a resumed run needs."""
        return {"scale": self.scale, "good": float(self.good), "overflows": float(self.overflows)}

    def load_state(self, state: dict[str, float]) -> None:
        """Take over what `state` gave."""
        self.scale, self.good, self.overflows = state["scale"], int(state["good"]), int(state["overflows"])
