"""Weights kept in bf16 alone, without an fp32 master: stochastic rounding, or the digits that rounding cuts off kept apart.

    high, low = split(weights)           # bf16 and int16: together exactly the fp32 number, join(high, low)
    stochastic(weights, generator)       # bf16, up or down by chance, right in the mean

bf16 has 8 bits of precision: near 1 its steps are 1/128, so an update of 1e-6 rounded to the nearest is lost every time.

stochastic   rounds up with the probability of the part cut off, so the mean over weights and steps is right; nothing more to keep
             (Zamirai et al. 2020, arXiv 2010.06192). 2 bytes a weight
kahan        keeps what rounding lost and adds it to the next update (Kahan 1965; for bf16: Zamirai et al. 2020). Their rest is
             a bf16 number, which itself stalls once it is 256 updates large; ours is the 16 bits of the fp32 number that bf16 cuts
             off, so the sum is that of fp32, bit by bit, at the same 4 bytes a weight
"""

from typing import Literal

import torch
from torch import nn

KEEPS = ("fp32", "kahan", "stochastic")
Keep = Literal["fp32", "kahan", "stochastic"]


def split(exact: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """fp32 -> the nearest bf16 (of two equally near the larger) and the signed rest of its bits as int16; `join` undoes it exactly."""
    bits = exact.view(torch.int32)
    high = (bits + 0x8000) & -0x10000
    return high.view(torch.float32).to(torch.bfloat16), (bits - high).to(torch.int16)


def join(high: torch.Tensor, low: torch.Tensor) -> torch.Tensor:
    """bf16 and its rest -> fp32."""
    return (high.float().view(torch.int32) + low.to(torch.int32)).view(torch.float32)


def stochastic(exact: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """fp32 -> one of its two bf16 neighbours; the nearer one more often, so that the expectation is the number itself."""
    shape, device = exact.shape, exact.device
    chance = torch.randint(0, 1 << 16, shape, dtype=torch.int32, device=device, generator=generator)
    return ((exact.view(torch.int32) + chance) & -0x10000).view(torch.float32).to(torch.bfloat16)


class Low:
    """A bf16 parameter that has an fp32 value only while it is updated.

    master  what the optimiser knows: its shape, its fp32 gradient and its state; its own memory is there between open and close
    rest    int16, what bf16 cuts off; None under stochastic rounding
    """

    def __init__(self, parameter: nn.Parameter, keep: str, exact: torch.Tensor | None, number: int) -> None:
        self.parameter, self.number = parameter, number
        value = parameter.detach().float() if exact is None else exact.detach().float()
        self.master = nn.Parameter(torch.empty_like(value))
        self.rest: torch.Tensor | None = None
        if keep == "kahan":
            high, self.rest = split(value.contiguous())
            parameter.data.copy_(high)
        self._bytes = self.master.untyped_storage().nbytes()
        self._free()

    def exact(self) -> torch.Tensor:
        """The weight as fp32."""
        high = self.parameter.detach().contiguous()
        return high.float() if self.rest is None else join(high, self.rest)

    def take(self, exact: torch.Tensor) -> None:
        """Set the weight, without chance: under stochastic rounding to the nearest bf16, which is the number itself if it is one."""
        if self.rest is None:
            self.parameter.data.copy_(exact)
        else:
            high, rest = split(exact.detach().float().contiguous())
            self.parameter.data.copy_(high)
            self.rest.copy_(rest)

    def open(self) -> nn.Parameter:
        """The master with its memory and value."""
        self.master.untyped_storage().resize_(self._bytes)
        self.master.data.copy_(self.exact())
        return self.master

    def close(self, seed: int) -> None:
        """Round the updated master back into the parameter, by chance from `seed` if at all, and give its memory back."""
        updated = self.master.detach()
        if self.rest is not None:
            self.take(updated)
        else:
            generator = torch.Generator(updated.device).manual_seed((seed * 1_000_003 + self.number) % 2**63)
            self.parameter.data.copy_(stochastic(updated, generator))
        self._free()

    def _free(self) -> None:
        self.master.untyped_storage().resize_(0)
