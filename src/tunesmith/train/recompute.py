"""Activations that are computed again in the backward pass instead of being kept: all of a layer, or what costs little.

checkpoint_activations(net, True)            # of each layer only its input is kept (Chen et al. 2016, arXiv 1604.06174)
checkpoint_activations(net, "selective")     # and what its matrix products and its attention gave (Korthikanti et al. 2022,
                                             # arXiv 2205.05198): norms, rotations, gates and adapters' drops come again

Our own forward keeps less than that by making norms and gates again by itself (model/again.py): under "selective" it does, of whatever
width, unless adapters drop. Gradients are the same, bit by bit.
"""

from functools import partial
from typing import Any, Literal

import torch
from torch import nn
from torch.utils.checkpoint import CheckpointPolicy, create_selective_checkpoint_contexts

from tunesmith.model import compiled, products  # register our attention and products

Checkpointing = bool | Literal["selective"]

_ATEN = torch.ops.aten
_ATTENTION = ("flash_attention", "flash_attention_for_cpu", "efficient_attention", "cudnn_attention")
KEPT = {
    *(getattr(_ATEN, name).default for name in ("mm", "bmm", "baddbmm", "convolution")),
    *(getattr(_ATEN, f"_scaled_dot_product_{kind}").default for kind in _ATTENTION),
    compiled.attention,
    products.multiply,
}
VARLEN = "torch_attn::_varlen_attn"  # model/varlen.py; torch registers it when it is first used


def checkpoint_activations(net: nn.Module, what: Checkpointing) -> None:
    """Recompute activations in the backward pass: True = all of a layer, "selective" = all but its products, False = nothing."""
    if not what:
        return
    given: dict[str, Any] = {"use_reentrant": False}
    if what == "selective":
        given["context_fn"] = partial(create_selective_checkpoint_contexts, _policy)
        for module in net.modules():
            if hasattr(module, "in_place"):
                module.in_place = False
    net.makes_again = what == "selective" and not any(map(_drops, net.modules()))  # type: ignore[assignment]
    net.gradient_checkpointing_enable(gradient_checkpointing_kwargs=given)


def _drops(module: nn.Module) -> bool:
    share = getattr(module, "dropout", 0.0)
    return isinstance(share, float) and share > 0


def _policy(context: Any, operation: Any, *args: Any, **keywords: Any) -> CheckpointPolicy:
    # a product with a bias (1-D) is a layer's; one that is added to a matrix is LoRA's merged weight, as large as the base
    kept = (
        args[0].dim() == 1
        if operation is _ATEN.addmm.default
        else operation in KEPT or getattr(operation, "_name", "") == VARLEN
    )
    return CheckpointPolicy.MUST_SAVE if kept else CheckpointPolicy.PREFER_RECOMPUTE
