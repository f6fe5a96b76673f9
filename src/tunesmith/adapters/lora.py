"""LoRA: two small matrices beside each frozen weight (Hu et al. 2021, arXiv 2106.09685).

W' = W + (alpha / rank) B A, with B = 0 at the start, so the first step begins at the base model exactly. Use it when the
base should stay as it is, when memory is short, or when many tasks share one base. Files are in PEFT's format.

LoRA: 얼린 가중치 옆에 작은 행렬 두 개를 두고 그것만 학습합니다. 시작할 때 B가 0이라 첫 출력은 기본 모델과 같습니다. 메모리가
적거나, 기본 모델 하나로 여러 과제를 다룰 때 씁니다. PEFT 형식으로 저장합니다.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from tunesmith.core.errors import ModelError, SettingError


@dataclass(frozen=True)
class Lora:
    """Low-rank updates of linear layers."""

    rank: int = 8
    """Inner dimension r: parameters are the sum of r x (in + out) over the targets."""

    alpha: float | None = None
    """The update is scaled by alpha / rank. Null = twice the rank."""

    targets: str | tuple[str, ...] = "all-linear"
    """Layers that get an update: names, the ends of names, or globs. all-linear = every linear layer but the head."""

    dropout: float = 0.0
    """Share of the update's inputs set to 0 while training."""

    rslora: bool = False
    """Scale by alpha / sqrt(rank) instead (Kalajdzievski 2023, arXiv 2312.03732): higher ranks keep learning."""

    lr: ClassVar[float] = 2e-4  # of a model 4,096 wide; see train/defaults.py
    file: ClassVar[str] = "adapter"

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise SettingError(f"adapter rank is {self.rank}.", wanted="1 or more.")
        if not 0 <= self.dropout < 1:
            raise SettingError(f"adapter dropout is {self.dropout}.", wanted="0 or more and below 1.")

    @property
    def scale(self) -> float:
        """What B A is multiplied by."""
        alpha = 2 * self.rank if self.alpha is None else self.alpha
        return alpha / (math.sqrt(self.rank) if self.rslora else self.rank)

    def attach(self, net: Any, *, seed: int = 0) -> list[str]:
        """Freeze the network and put updates into the target layers; A is drawn from `seed`, B is 0. Returns their names."""
        import torch

        from tunesmith.adapters._linear import LoraLinear
        from tunesmith.adapters._targets import targets

        names = targets(net, self.targets)
        net.requires_grad_(False)
        draw = torch.Generator().manual_seed(seed)
        for name in names:
            base = net.get_submodule(name)
            layer = LoraLinear(base, self.rank, self.scale, self.dropout, type(base).__name__ == "Conv1D")
            # kaiming_uniform with a = sqrt(5), as PEFT and the paper's code draw it
            bound = 1 / math.sqrt(layer.in_features)
            drawn = torch.empty(layer.lora_A.shape).uniform_(-bound, bound, generator=draw)
            layer.lora_A.data.copy_(drawn)
            net.set_submodule(name, layer.train(base.training))
        return names

    def merge(self, net: Any) -> None:
        """Add the updates into the weights and put the plain layers back."""
        import torch

        from tunesmith.adapters._linear import LoraLinear

        for name, layer in [(n, m) for n, m in net.named_modules() if isinstance(m, LoraLinear)]:
            with torch.no_grad():
                merged = (layer.weight.data.to(layer.lora_A.dtype) + layer.delta()).to(layer.weight.dtype)
            plain = layer.unwrap()
            if any(p is layer.weight for n, p in net.named_parameters(remove_duplicate=False) if n != f"{name}.weight"):
                # a head tied to the embeddings: only the head learned, so from here on they are two tensors
                plain.weight = torch.nn.Parameter(merged, requires_grad=layer.weight.requires_grad)
                net.config.tie_word_embeddings = False
            else:
                layer.weight.data = merged
            net.set_submodule(name, plain)

    def tensors(self, net: Any) -> dict[str, Any]:
        """The trained tensors under PEFT's names."""
        from tunesmith.adapters._linear import LoraLinear

        out = {}
        for name, layer in net.named_modules():
            if isinstance(layer, LoraLinear):
                out[f"base_model.model.{name}.lora_A.weight"] = layer.lora_A.detach()
                out[f"base_model.model.{name}.lora_B.weight"] = layer.lora_B.detach()
        return out

    def peft_config(self, net: Any, names: list[str], base: str) -> dict[str, Any]:
        """What PEFT's adapter_config.json says of it."""
        conv = any(getattr(net.get_submodule(name), "transposed", False) for name in names)
        return {
            "peft_type": "LORA",
            "task_type": "CAUSAL_LM",
            "base_model_name_or_path": base,
            "r": self.rank,
            "lora_alpha": 2 * self.rank if self.alpha is None else self.alpha,
            "lora_dropout": self.dropout,
            "use_rslora": self.rslora,
            "target_modules": sorted(names),
            "fan_in_fan_out": conv,
            "bias": "none",
            "inference_mode": True,
        }

    @staticmethod
    def read(config: Mapping[str, Any], tensors: Mapping[str, Any], net: Any, source: Path) -> tuple["Lora", list[str]]:
        """Attach an adapter saved in PEFT's format and take over its tensors."""
        found = {
            name.removeprefix("base_model.model.").removesuffix(".lora_A.weight")
            for name in tensors
            if name.endswith(".lora_A.weight")
        }
        if not found:
            raise ModelError(f"{source} holds no LoRA tensors")
        refused = [
            k
            for k in ("use_dora", "rank_pattern", "alpha_pattern", "modules_to_save", "layer_replication")
            if config.get(k)
        ]
        if refused:
            raise ModelError(
                f"{source} uses {', '.join(refused)}, which this version does not read",
                fix="Merge it with PEFT once (merge_and_unload) and give the merged folder.",
            )
        adapter = Lora(
            rank=config["r"],
            alpha=config["lora_alpha"],
            targets=tuple(sorted(found)),
            dropout=config.get("lora_dropout", 0.0),
            rslora=config.get("use_rslora", False),
        )
        names = adapter.attach(net)
        known = {f"base_model.model.{name}.{part}.weight" for name in names for part in ("lora_A", "lora_B")}
        if other := sorted(n for n in {*tensors} ^ known if not _belongs_elsewhere(n, tensors, net)):
            raise ModelError(
                f"{source} has or lacks {len(other)} tensors that a plain LoRA on this base has, such as {other[0]}",
                wanted="lora_A and lora_B of the same layers and nothing else.",
                fix="Merge it with PEFT once (merge_and_unload) and give the merged folder.",
            )
        for name in names:
            layer = net.get_submodule(name)
            for part in ("lora_A", "lora_B"):
                value = tensors[f"base_model.model.{name}.{part}.weight"]
                if value.shape != getattr(layer, part).shape:
                    raise ModelError(
                        f"{source}: {name}.{part} has shape {tuple(value.shape)}, the base wants {tuple(getattr(layer, part).shape)}",
                        wanted="The adapter's own base model.",
                    )
                getattr(layer, part).data.copy_(value)
        return adapter, names


def _belongs_elsewhere(name: str, tensors: Mapping[str, Any], net: Any) -> bool:
    """Trained rows of the embeddings (see _rows.py), or a copy of the base's own table, which PEFT writes beside its update."""
    if name.endswith(".token_adapter.trainable_tokens_delta"):
        return True
    own = dict(net.named_parameters(remove_duplicate=False))
    held = own.get(name.removeprefix("base_model.model.").replace(".base_layer.", "."))
    return (
        name in tensors
        and held is not None
        and held.shape == tensors[name].shape
        and bool((held == tensors[name]).all())
    )
