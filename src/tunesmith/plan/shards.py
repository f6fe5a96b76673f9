"""What each rank holds where the weights are cut over the ranks (train.shard: all), by the groups that step/fsdp.py makes of them.

    found = groups(net)                         # of the network that is planned: its blocks, and the root's rest
    cut(found, devices=8, width=2).weights      # bytes of them on a rank while it computes

A rank holds its rows of every weight, gradient and state. The root's group (embedding, head, norms) is whole from the forward pass to the
end of the backward pass, and so is its gradient. A block is whole while it computes, and lies in the buffer that it came in; so does the
next one, or the last one still does, as gloo lets go of it late: three times the largest. Its gradient is whole until it has been added over the ranks, from a copy in fp32. Where answers are sampled,
and where the result is put together, all weights are whole. tests/plan/test_shards.py holds this beside what ranks were seen to hold.
"""

from dataclasses import dataclass
from typing import Any

from tunesmith.step.fsdp import blocks


@dataclass(frozen=True)
class Groups:
    """Numbers of weights, and of those that train: of the network, of the root's group, of the largest block. tensor: of the largest one."""

    whole: int
    trained: int
    root: int
    root_trained: int
    block: int
    block_trained: int
    tensor: int


@dataclass(frozen=True)
class Cut:
    """Bytes of weights and gradients on a rank, the optimiser's states left out.

    held       weights between steps;  gradients  the rank's own part of the summed ones
    gather     weights before the first block: the root's are whole, and still lie in the buffer that they came in
    weights    of passes: the own rows, and what is whole;  moving  gradients that have not been added over the ranks yet, at most
    answers, result  weights while answers are sampled, with a buffer that a group came in, and while the first rank puts the result
                     together, a tensor at a time
    """

    held: int
    gradients: int
    gather: int
    weights: int
    moving: int
    answers: int
    result: int


def groups(net: Any) -> Groups:
    """The groups of a network."""
    parts = [_numbers(block) for block in blocks(net.base_model)]
    whole, trained = _numbers(net)
    inside, inside_trained = (sum(part[i] for part in parts) for i in (0, 1))
    block, block_trained = (max((part[i] for part in parts), default=0) for i in (0, 1))
    tensor = max((p.numel() for p in net.parameters()), default=0)
    return Groups(whole, trained, whole - inside, trained - inside_trained, block, block_trained, tensor)


def cut(of: Groups, *, devices: int, width: int, stored: int = 4) -> Cut:
    """The bytes of a rank of `devices`.

    width   bytes a weight while it computes;  stored  bytes of a frozen weight between: what trains is fp32
    """
    held = -(-(stored * (of.whole - of.trained) + 4 * of.trained) // devices)
    cast = width * of.block // devices if width < 4 else 0  # the own rows as they are sent
    passes = width * (of.root + 3 * of.block) + cast
    in_block = width * of.root_trained + (width + 4) * of.block_trained
    in_root = (width + 4) * of.root_trained - passes  # the last to be added, when nothing is whole any more
    return Cut(
        held=held, gradients=-(-4 * of.trained // devices), gather=held + width * (2 * of.root + of.block), weights=held + passes,
        moving=max(in_block, in_root), answers=held + width * (of.whole + max(of.root, of.block)), result=held + 4 * (of.whole + of.tensor),
    )  # fmt: skip


def _numbers(module: Any) -> tuple[int, int]:
    """(weights, those that train), shared ones once."""
    parameters = list(module.parameters())
    return sum(p.numel() for p in parameters), sum(p.numel() for p in parameters if p.requires_grad)
