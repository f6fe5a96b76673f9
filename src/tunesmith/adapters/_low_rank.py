"""What the adapters of low rank (lora, dora, pissa, qlora) share: putting updates into layers, merging, PEFT's LORA files.

Each gives its settings and the layer class it puts in: LoraLinear, DoraLinear. Experts of a mixture get ExpertsLora.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from tunesmith.adapters._experts import ExpertsLora, put_into_experts
from tunesmith.adapters._peft import PREFIX, peft_config, take_tensors
from tunesmith.adapters._stand_in import put_back, stand_ins
from tunesmith.adapters._targets import by_pattern, experts, is_linear, targets
from tunesmith.core.errors import ModelError, SettingError
from tunesmith.model.packed import dequantise_network

# Keys of PEFT's LoraConfig that change the forward pass in ways that are not read.
NOT_READ = (
    "layer_replication",
    "lora_bias",
    "alora_invocation_tokens",
    "arrow_config",
    "use_qalora",
    "velora_config",
    "kasa_config",
)


def check(adapter: Any) -> None:
    """Refuse settings without sense."""
    if adapter.rank < 1:
        raise SettingError(f"adapter rank is {adapter.rank}.", wanted="1 or more.")
    if not 0 <= adapter.dropout < 1:
        raise SettingError(f"adapter dropout is {adapter.dropout}.", wanted="0 or more and below 1.")


def alpha_of(adapter: Any) -> float:
    """Its alpha; where none is given its own share of the rank."""
    return adapter.alpha_per_rank * adapter.rank if adapter.alpha is None else adapter.alpha


def size(adapter: Any, name: str) -> tuple[int, float]:
    """(rank, what B A is multiplied by) of the layer `name`."""
    rank = int(by_pattern(dict(getattr(adapter, "rank_pattern", {})), name, adapter.rank))
    alpha = alpha_of(adapter)
    alpha = by_pattern(dict(getattr(adapter, "alpha_pattern", {})), name, alpha)
    return rank, alpha / (math.sqrt(rank) if adapter.rslora else rank)


def attach(net: Any, adapter: Any, layer_of: Any, seed: int, *, with_experts: bool = False) -> list[str]:
    """Freeze the network and put a `layer_of(base, rank, scale, dropout)` into each target. A is drawn from `seed`, B is 0."""
    names = targets(net, adapter.targets, with_experts=with_experts)
    joined = experts(net, adapter.targets) if with_experts else []
    if joined and adapter.dropout:
        raise SettingError(
            f"dropout cannot go into expert parameters such as {joined[0]}: their update is added to the weight",
            fix="dropout: 0, or leave the experts out of `targets`.",
        )
    net.requires_grad_(False)
    draw = torch.Generator().manual_seed(seed)
    for name in names:
        base = net.get_submodule(name)
        layer = layer_of(base, *size(adapter, name), adapter.dropout)
        start(layer.lora_A, layer.in_features, draw)
        net.set_submodule(name, layer.train(base.training))
    put_into_experts(net, joined, lambda name: size(adapter, name), lambda a, columns: start(a, columns, draw))
    return [*names, *joined]


@torch.no_grad()
def start(a: torch.Tensor, columns: int, draw: torch.Generator) -> None:
    """kaiming_uniform with a = sqrt(5), as PEFT and the paper's code draw A: uniform within 1 / sqrt(columns)."""
    bound = 1 / math.sqrt(columns)
    a.copy_(torch.empty(a.shape).uniform_(-bound, bound, generator=draw))


@torch.no_grad()
def merge(net: Any, kind: Any) -> None:
    """Add the updates into the weights and put the plain layers back; a base in four bits is dequantised as a whole."""
    for name, layer in stand_ins(net, kind).items():
        put_back(net, name, layer, layer.merged())
    for name, layer in stand_ins(net, ExpertsLora).items():
        net.set_submodule(name, layer.merged())
    dequantise_network(net)


def config(adapter: Any, net: Any, names: list[str], base: str, **more: Any) -> dict[str, Any]:
    """PEFT's LoraConfig."""
    joined = {name for name in names if name.rpartition(".")[0] in stand_ins(net, ExpertsLora)}
    linear = sorted({*names} - joined)
    conv = any(getattr(net.get_submodule(name), "transposed", False) for name in linear)
    settings: dict[str, Any] = {
        "r": adapter.rank,
        "lora_alpha": alpha_of(adapter),
        "lora_dropout": adapter.dropout,
        "use_rslora": adapter.rslora,
        "target_modules": linear or None,
        "fan_in_fan_out": conv,
        "bias": "none",
    }
    if joined:
        settings["target_parameters"] = sorted(joined)
    for key in ("rank_pattern", "alpha_pattern"):
        if getattr(adapter, key, None):
            settings[key] = dict(getattr(adapter, key))
    return peft_config("LORA", base, **settings, **more)


def settings_of(config: Mapping[str, Any], tensors: Mapping[str, Any], net: Any, source: Path) -> dict[str, Any]:
    """The settings that a LORA file means: its layers are those it holds tensors of."""
    endings = (".lora_A.weight",)
    found = {n.removeprefix(PREFIX).removesuffix(endings[0]) for n in tensors if n.endswith(endings)}
    if not found:
        raise ModelError(f"{source} holds no LoRA tensors")
    if refused := [key for key in NOT_READ if config.get(key)]:
        raise ModelError(
            f"{source} uses {', '.join(refused)}, which this version does not read",
            fix="Merge it with PEFT once (merge_and_unload) and give the merged folder.",
        )
    linear, joined = set(), set()
    for name in found:
        plain = name.replace(".base_layer", "")
        try:
            module = net.get_submodule(plain)
        except AttributeError:
            module = None
        if module is None or is_linear(module):
            linear.add(plain)
        else:
            joined |= {n for n in experts(net, config.get("target_parameters") or ()) if n.rpartition(".")[0] == plain}
    return {
        "rank": config["r"],
        "alpha": config["lora_alpha"],
        "targets": (*sorted(linear), *sorted(joined)),
        "dropout": 0.0 if joined else config.get("lora_dropout", 0.0),
        "rslora": config.get("use_rslora", False),
        "rank_pattern": dict(config.get("rank_pattern") or {}),
        "alpha_pattern": dict(config.get("alpha_pattern") or {}),
    }


def read(
    adapter: Any, kinds: Any, config: Mapping[str, Any], tensors: Mapping[str, Any], net: Any, source: Path
) -> list[str]:
    """Attach `adapter` and take over the saved tensors. Returns the names of what was adapted."""
    names: list[str] = adapter.attach(net)
    take_tensors(net, kinds, config, tensors, source)
    return names
