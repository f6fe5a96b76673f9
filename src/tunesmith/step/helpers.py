"""What a loss may look at besides the policy: the starting state, a teacher, a reward, numbers kept between steps.

    helpers = Helpers(live=frozen(policy))
    helpers.reference(batch)        # (targets,) log p under the starting state

A reference is asked for in one of two ways. Methods that learn from fixed rows have it as a column of their Units, made once
before the first step (`with_reference`). Methods that sample keep a frozen copy, which holds only what trains a second time.
"""

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from tunesmith.step.fsdp import local
from tunesmith.text.example import Unit, spread


@dataclass(eq=False)
class Helpers:
    """live: a frozen policy of the starting state; teacher, hidden: what api built; state, shared: see house.md.

    judges networks that the reward asks, only counted here
    still  what a first pass found stays as it is (a checker that compares two losses wants that)
    place  of rows that a first pass put together, those of the Examples at hand; places: of each pass of the step
    """

    live: Any = None
    teacher: Any = None
    hidden: Callable[[Sequence[Mapping[str, Any]], Sequence[str]], list[float]] | None = None
    judges: tuple[torch.nn.Module, ...] = ()
    state: dict[str, float] = field(default_factory=dict)
    shared: dict[str, torch.Tensor] = field(default_factory=dict)
    still: bool = False
    place: slice | None = None
    places: list[slice] = field(default_factory=list)

    def reference(self, batch: Any, temperature: float = 1.0) -> torch.Tensor:
        """log p of each trained-on token under the starting state, (targets,) float32, without gradient."""
        if "reference" in batch.columns and temperature == 1.0:
            return batch.columns["reference"]
        if self.live is None:
            raise ValueError("the Units have no column 'reference' and no reference model was built")
        with torch.no_grad():
            return self.live.logprobs(batch, temperature).float()

    def num_bytes(self, net: torch.nn.Module) -> dict[str, int]:
        """Bytes of the frozen networks beside `net`, by what they are; what they share with it, or with each other, counts once."""
        seen = {_place(tensor) for tensor in _tensors(net)}
        found: dict[str, int] = {}
        doors = {"reference": self.live, "teacher": getattr(self.teacher, "policy", None)}
        nets = [
            *((name, door.net) for name, door in doors.items() if door is not None),
            *(("reward", one) for one in self.judges),
        ]
        for name, other in nets:
            own = {_place(tensor): tensor.untyped_storage().nbytes() for tensor in _tensors(other)}
            found[name] = found.get(name, 0) + sum(size for place, size in own.items() if place not in seen)
            seen |= set(own)
        return found


def _tensors(net: torch.nn.Module) -> list[torch.Tensor]:
    """This rank's parameters and buffers."""
    return [local(tensor) for tensor in (*net.parameters(), *net.buffers())]


def _place(tensor: torch.Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def frozen(policy: Any, low: torch.dtype | None = None) -> Any:
    """The policy as it is now, for good: evaluation mode, no gradients. What does not train is shared, not copied.

    low  what training casts the network to: the copy is cast as it will be, so that at the first step both say the same
    """
    kept = {name for name, p in policy.net.named_parameters() if getattr(p, "adapter", False)}  # a copy does not say so
    shared = {id(p): p for p in policy.net.parameters() if not p.requires_grad}
    shared |= {id(b): b for b in policy.net.buffers()}
    net = copy.deepcopy(policy.net, shared).eval()
    for name, parameter in net.named_parameters():
        parameter.requires_grad_(False)  # those that are shared had none
        if low is not None and id(parameter) not in shared and name not in kept and parameter.is_floating_point():
            parameter.data = parameter.data.to(low)
    return policy.of(net)


def with_reference(policy: Any, units: Sequence[Unit], *, pass_tokens: int = 8192) -> Iterator[Unit]:
    """The Units with column "reference": log p of each trained-on token under `policy` as it is now, 0 elsewhere.

    Units stream: a few passes' worth are held. Their order stays.
    """
    from tunesmith.step.step import passes_of

    training = policy.net.training
    policy.net.eval()
    try:
        for start in range(0, len(units), 256):
            some = [units[i] for i in range(start, min(start + 256, len(units)))]
            made: dict[int, Unit] = {}
            for chosen in passes_of(policy, some, pass_tokens):
                with torch.no_grad():
                    logp = policy.logprobs(policy.batch([some[i] for i in chosen])).float().cpu().numpy()
                at = 0
                for i in chosen:
                    examples = []
                    for example in some[i].examples:
                        values = spread(logp[at : at + example.num_trained], example)
                        examples.append(replace(example, columns={**example.columns, "reference": values}))
                        at += example.num_trained
                    made[i] = replace(some[i], examples=tuple(examples))
            yield from (made[i] for i in range(len(some)))
    finally:
        policy.net.train(training)
