"""Which layers an adapter goes into: names or patterns, matched against a network's modules. No match is an error.

targets(net, "all-linear")               every linear layer of the body; not the head
targets(net, ["q_proj", "layers.0.*"])   by last name, by glob over the whole name
experts(net, ["experts"])                joined weights of a mixture's experts, which are parameters and no layers
"""

import re
from collections.abc import Sequence
from fnmatch import fnmatchcase

from torch import nn

from tunesmith.core.errors import SettingError
from tunesmith.core.names import nearest
from tunesmith.model.packed import PackedLinear

ALL_LINEAR = "all-linear"

# State-space mixers (Mamba, Jamba, Bamba, Zamba) read this layer's weight without calling it: an update would have no effect.
NEVER_CALLED = "dt_proj"


def is_linear(module: nn.Module) -> bool:
    """nn.Linear, the same in few bits, or transformers' Conv1D (its weight transposed, as in GPT-2)."""
    return type(module) in (nn.Linear, PackedLinear) or type(module).__name__ == "Conv1D"


def matches(name: str, pattern: str) -> bool:
    """Whether a full name is meant: as a whole, by its last parts, or as a glob over all of it."""
    return name == pattern or name.endswith(f".{pattern}") or fnmatchcase(name, pattern)


def body_prefix(net: nn.Module) -> str:
    """What names inside the body start with: "model." of a Llama, "bert." of a BERT classifier, "" where all is body."""
    body = getattr(net, "base_model", net)
    return next((f"{name}." for name, module in net.named_modules() if module is body and name), "")


def targets(net: nn.Module, wanted: str | Sequence[str], *, with_experts: bool = False) -> list[str]:
    """Full names of the linear layers that `wanted` means, in the network's order.

    A name matches as a whole, as the last parts of a name (`q_proj`, `mlp.down_proj`), or as a glob over the whole name.
    with_experts   a pattern may also mean parameters of experts, which `experts` lists
    """
    head = net.get_output_embeddings() if hasattr(net, "get_output_embeddings") else None
    linear = {name: module for name, module in net.named_modules() if is_linear(module)}
    if wanted == ALL_LINEAR:
        # routers decide which expert reads a token; a low-rank change there is not what "all linear" means. Heads of
        # tasks lie outside the body, and what is new of them trains as a whole.
        body, new = body_prefix(net), tuple(getattr(net, "new_heads", ()))
        return [
            n
            for n, m in linear.items()
            if m is not head
            and n.startswith(body)
            and not n.endswith((".router", ".gate", f".{NEVER_CALLED}"))
            and n not in new
        ]
    patterns = [wanted] if isinstance(wanted, str) else list(wanted)
    found: list[str] = []
    for pattern in patterns:
        matched = [n for n in linear if matches(n, pattern)]
        joined = experts(net, [pattern])
        if not matched and joined and not with_experts:
            raise SettingError(
                f"adapter target {pattern!r} means expert parameters such as {joined[0]}, for which this adapter has no update",
                wanted="Linear layers; the experts of this model are one parameter of three dimensions.",
                fix="Leave them out, or use adapter: lora, which can",
            )
        if not matched and not joined:
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


def experts(net: nn.Module, wanted: str | Sequence[str]) -> list[str]:
    """Full names of the experts' joined weights (experts, ., .) that `wanted` means; none for all-linear."""
    if wanted == ALL_LINEAR:
        return []
    patterns = [wanted] if isinstance(wanted, str) else list(wanted)
    joined = [n for n, p in net.named_parameters() if p.ndim == 3]
    return [n for n in joined if any(matches(n, p) or f".{p}." in f".{n}" for p in patterns)]


def stacks(net: nn.Module) -> list[list[str]]:
    """Names of the layers of each stack, in order: one list for a decoder or an encoder, two for an encoder-decoder."""
    found: list[str] = []
    for name, module in net.named_modules():
        inside = any(name.startswith(f"{outer}.") for outer in found)
        alike = isinstance(module, nn.ModuleList) and len({type(layer) for layer in module}) == 1
        if alike and not inside and any(len(p.shape) > 1 for p in module.parameters()):
            found.append(name)
    return [[f"{name}.{number}" for number in range(len(net.get_submodule(name)))] for name in found]


def by_pattern(patterns: dict[str, float] | None, name: str, default: float) -> float:
    """The value of the first pattern that the end of a name matches, as PEFT reads rank_pattern and alpha_pattern."""
    for pattern, value in (patterns or {}).items():
        if re.match(rf"(.*\.)?({pattern})$", name):
            return value
    return default


def refuse_head(net: nn.Module, names: Sequence[str]) -> None:
    """For adapters that have no weight to show: logits are made in chunks, from the head's weight."""
    head = net.get_output_embeddings() if hasattr(net, "get_output_embeddings") else None
    if head is not None and any(net.get_submodule(name) is head for name in names):
        raise SettingError(
            "this adapter cannot go into the output head",
            fix="Leave the head out of `targets`; adapter: lora can adapt it, adapter: head trains it whole.",
        )
