"""The weights cut over the ranks (train.shard: all; ZeRO-3), by torch's FSDP2: a block's weights are whole only while it computes.

    cut_weights(policy)               # from now on each rank holds its rows of every weight
    with whole(net): generate(...)    # all weights on every rank for a while, and no talk between ranks
    put_together(net, keep=True)      # the plain network again, where keep is true

Zhao et al. 2023, arXiv 2304.11277; torch.distributed.fsdp.fully_shard. Every block of the body is a group of its own; embedding, norm
and head are the root's group, whole from the forward pass to the end of the backward pass, so the chunked loss may read the head.
The lean forward reads weights past the modules, where they are not put together: it is left off. Gradients are added, never averaged.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from tunesmith.core.errors import SettingError
from tunesmith.model.packed import PackedLinear
from tunesmith.model.policy import Policy
from tunesmith.step.ranks import ranks


def cut_weights(policy: Any, *, low: torch.dtype | None = None, samples: bool = False) -> None:
    """Cut the network of a Policy, and let its door put the weights together.

    low  the 16-bit format passes are made in; the weights stay fp32, each rank's rows of them, and gradients are added in fp32
    samples  the method draws answers while it trains, which needs the weights whole
    Raises SettingError for what cannot be cut: those methods, other doors than Policy, a packed base, a body of which nothing trains.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard, register_fsdp_forward_method

    net = policy.net
    refuse(policy, samples=samples)
    device = next(net.parameters()).device.type
    mesh = init_device_mesh(device, (ranks(),))
    formats = MixedPrecisionPolicy(param_dtype=low, reduce_dtype=torch.float32) if low else MixedPrecisionPolicy()
    for block in blocks(net.base_model):
        fully_shard(block, mesh=mesh, mp_policy=formats)  # type: ignore[arg-type]
    fully_shard(net, mesh=mesh, mp_policy=formats, reshard_after_forward=False)
    for part in _parts(net):
        part.set_gradient_divide_factor(1.0)
        part.set_force_sum_reduction_for_comms(True)
    body = net.base_model
    net.states = lambda **given: body(**given)  # the root's weights come together around it, as around its own forward
    register_fsdp_forward_method(net, "states")
    policy.body, policy.lean = net.states, None


def refuse(policy: Any, *, samples: bool = False) -> None:
    """Raise what stands against cutting this network's weights."""
    fix = "Set train.shard=gradients: states and gradients are cut, the weights are whole on every rank."
    if not isinstance(policy, Policy):
        raise SettingError(
            f"train.shard is all, but the model is read through {type(policy).__name__}.",
            wanted="A model that reads from left to right.",
            fix=fix,
        )
    if samples:
        raise SettingError("train.shard is all, but the method draws answers, which needs whole weights.", fix=fix)
    packed = [name for name, module in policy.net.named_modules() if isinstance(module, PackedLinear)]
    if packed:
        raise SettingError(
            f"train.shard is all, but the base is packed or read from its file ({packed[0]}): it is held as it is.",
            fix=fix,
        )
    if not any(p.requires_grad for p in policy.net.base_model.parameters()):
        raise SettingError("train.shard is all, but nothing below the head trains.", fix=fix)


def blocks(body: nn.Module) -> list[nn.Module]:
    """The entries of the outermost lists of modules: a transformer's layers."""
    found: list[nn.Module] = []
    for child in body.children():
        found += list(child) if isinstance(child, nn.ModuleList) else blocks(child)
    return [block for block in found if any(True for _ in block.parameters())]


def _parts(net: nn.Module) -> list[Any]:
    from torch.distributed.fsdp import FSDPModule

    return [module for module in net.modules() if isinstance(module, FSDPModule)]


def local(parameter: torch.Tensor) -> torch.Tensor:
    """What this rank holds of a parameter."""
    from torch.distributed.tensor import DTensor

    return parameter.to_local() if isinstance(parameter, DTensor) else parameter


@contextmanager
def whole(net: nn.Module) -> Iterator[None]:
    """All weights on every rank until the block ends, without talk between ranks in it. A network that is not cut is left alone."""
    parts = _parts(net)
    for part in parts:
        part.set_reshard_after_forward(False, recurse=False)
        part.unshard()
    try:
        yield
    finally:
        for part in parts:
            part.set_reshard_after_forward(part is not net, recurse=False)
            part.reshard()


def put_together(net: Any, *, keep: bool) -> None:
    """The plain network with its whole weights, where `keep`; all ranks have to ask. One weight at a time is whole elsewhere."""
    from torch.distributed.tensor import DTensor

    parts = _parts(net)
    for part in parts:
        part.reshard()
    made: dict[int, nn.Parameter] = {}
    for parameter in net.parameters():
        if isinstance(parameter, DTensor):
            full = parameter.detach().full_tensor()
            if keep:
                made[id(parameter)] = nn.Parameter(full, requires_grad=parameter.requires_grad)
    if not keep:
        return
    for module in net.modules():
        for name, parameter in module._parameters.items():
            if id(parameter) in made:
                module._parameters[name] = made[id(parameter)]
    del net.states
    for part in parts:
        state = part._get_fsdp_state()
        state._pre_forward_hook_handle.remove()
        state._post_forward_hook_handle.remove()
        part.__class__ = type(part).__bases__[1]
