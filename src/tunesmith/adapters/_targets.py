"""Which layers an adapter goes into: names or patterns, matched against a network's modules. No match is an error.

targets(net, "all-linear")               every linear layer of the body; not the head
targets(net, ["q_proj", "layers.0.*"])   by last name, by glob over the whole name
"""

from collections.abc import Sequence
from fnmatch import fnmatchcase

from torch import nn

from tunesmith.core.errors import SettingError
from tunesmith.core.names import nearest

ALL_LINEAR = "all-linear"

# State-space mixers (Mamba, Jamba, Bamba, Zamba) read this layer's weight without calling it: an update would have no effect.
NEVER_CALLED = "dt_proj"


def is_linear(module: nn.Module) -> bool:
    """nn.Linear or transformers' Conv1D (a linear layer with its weight transposed, as in GPT-2)."""
    return type(module) is nn.Linear or type(module).__name__ == "Conv1D"


def targets(net: nn.Module, wanted: str | Sequence[str]) -> list[str]:
    """Full names of the linear layers that `wanted` means, in the network's order.

    A name matches as a whole, as the last parts of a name (`q_proj`, `mlp.down_proj`), or as a glob over the whole name.
    """
    head = net.get_output_embeddings() if hasattr(net, "get_output_embeddings") else None
    linear = {name: module for name, module in net.named_modules() if is_linear(module)}
    if wanted == ALL_LINEAR:
        # routers decide which expert reads a token; a low-rank change there is not what "all linear" means
        return [
            n for n, m in linear.items() if m is not head and not n.endswith((".router", ".gate", f".{NEVER_CALLED}"))
        ]
    patterns = [wanted] if isinstance(wanted, str) else list(wanted)
    found: list[str] = []
    for pattern in patterns:
        matched = [n for n in linear if n == pattern or n.endswith(f".{pattern}") or fnmatchcase(n, pattern)]
        if not matched and (experts := _experts(net, pattern)):
            raise SettingError(
                f"adapter target {pattern!r} means expert parameters such as {experts[0]}, which have no low-rank update here yet",
                wanted="Linear layers; the experts of this model are one parameter of three dimensions.",
                fix="Leave them out, or train everything: adapter: full",
            )
        if not matched:
            last = sorted({n.rsplit(".", 1)[-1] for n in linear})
            raise SettingError(
                f"adapter target {pattern!r} matches no linear layer of {type(net).__name__}",
                wanted=f"Nearest: {', '.join(nearest(pattern, last) or last[:8])}. Linear layers: {', '.join(last)}.",
                fix=f"Or leave `targets` out: {ALL_LINEAR}.",
            )
        if refused := [n for n in matched if n.endswith(f".{NEVER_CALLED}")]:
            raise SettingError(
                f"adapter target {pattern!r} means {refused[0]}, which {type(net).__name__} reads without calling it",
                wanted="Layers that are called: an update beside this one would train and change nothing.",
                fix=f"Leave {NEVER_CALLED} out, or leave `targets` out: {ALL_LINEAR}.",
            )
        found += matched
    return [name for name in linear if name in set(found)]


def _experts(net: nn.Module, pattern: str) -> list[str]:
    """Names of the experts' joined weights (experts, out, in) that a pattern means."""
    joined = [n for n, p in net.named_parameters() if p.ndim == 3]
    return [n for n in joined if n.endswith(f".{pattern}") or f".{pattern}." in f".{n}" or fnmatchcase(n, pattern)]
