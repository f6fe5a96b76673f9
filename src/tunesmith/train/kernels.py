"""On a GPU: norms and feed-forward layers by kernels that make one pass of what torch makes several of.

put_kernels(net, "compiled")     # each norm and feed-forward by torch.compile (inductor), once for all layers and all lengths
put_kernels(net, "liger")        # norms and gated feed-forwards by Liger's Triton kernels (arXiv 2410.10989)

Attention stays as it is (model/attention.py), and so does the loss, which never makes all logits. Both change the order of sums and
nothing else: a few tokens are run before and after, and a kernel that gives other numbers is refused. A CPU has kernels of its own
(model/kernels) and no use for either.
"""

import importlib
import sys
from typing import Any

import torch
from torch import nn

from tunesmith.core.errors import SettingError

KINDS = ("torch", "compiled", "liger")
NORMS = ("RMSNorm", "LayerNorm")  # how the names of norms end, in every architecture of transformers
FEEDS = ("mlp", "feed_forward", "ffn")  # how a layer calls its feed-forward
TOLERANCE = {torch.float32: 1e-3, torch.float64: 1e-6}  # beside the largest number; 16 bits lose more
TOKENS = 12


def put_kernels(net: nn.Module, kind: str, *, backend: str = "inductor") -> list[str]:
    """Replace the parts of a network; the names of those that were. Raises SettingError where numbers change or a package is missing."""
    if kind not in KINDS:
        raise SettingError(f"kernels {kind!r} is not known", wanted=f"One of {', '.join(KINDS)}.")
    if kind == "torch":
        return []
    if getattr(net.config, "is_encoder_decoder", False):
        raise SettingError(
            f"train.kernels is {kind}, and {type(net).__name__} is an encoder-decoder.", fix="Leave train.kernels out."
        )
    before = _states(net)
    names = _compile(net, backend) if kind == "compiled" else _liger(net)
    off = float((_states(net) - before).abs().max() / before.abs().max())
    if not off <= TOLERANCE.get(before.dtype, 6e-2):
        raise SettingError(
            f"train.kernels is {kind}, and on {type(net).__name__} its hidden states are {off:.2g} off.",
            fix="Leave train.kernels out.",
        )
    return names


def _compile(net: nn.Module, backend: str) -> list[str]:
    """Compile the norms and the feed-forwards in place; what lies within one that is compiled goes with it."""
    made: list[str] = []
    for name, module in net.named_modules():
        is_part = type(module).__name__.endswith(NORMS) or name.rpartition(".")[2] in FEEDS
        if is_part and not any(name.startswith(f"{outer}.") for outer in made):
            module.compile(dynamic=True, backend=backend)
            made.append(name)
    return made


def _liger(net: nn.Module) -> list[str]:
    """Let Liger bind its kernels to this network's own modules; the classes of transformers stay what they are."""
    try:
        patch: Any = importlib.import_module("liger_kernel.transformers")._apply_liger_kernel_to_instance
    except ImportError as error:
        raise SettingError(
            "train.kernels is liger, and the package liger-kernel is not installed.",
            fix="pip install 'tunesmith[liger]'",
        ) from error
    held = {name: getattr(module, "forward", None) for name, module in net.named_modules()}
    home = sys.modules[type(net).__module__]
    classes = dict(vars(home))
    patch(model=net, rope=False, cross_entropy=False, fused_linear_cross_entropy=False)
    for (
        name,
        value,
    ) in classes.items():  # it also replaces the architecture's classes, for every network that is made later
        setattr(home, name, value)
    made = [name for name, module in net.named_modules() if getattr(module, "forward", None) != held[name]]
    if not made:
        raise SettingError(
            f"Liger has no kernels for {type(net).__name__}.", fix="Set train.kernels=compiled, or leave it out."
        )
    return made


@torch.no_grad()
def _states(net: nn.Module) -> torch.Tensor:
    """Last hidden states of a few tokens, (1, TOKENS, width)."""
    training = net.training
    net.eval()
    device = next(net.parameters()).device
    ids = torch.arange(TOKENS, device=device)[None] % int(net.config.vocab_size)
    try:
        return net(input_ids=ids, output_hidden_states=True, use_cache=False).hidden_states[-1]
    finally:
        net.train(training)
