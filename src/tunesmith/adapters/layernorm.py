"""LayerNorm tuning: only the gains (and biases) of the norms train (Zhao et al. 2023, arXiv 2312.11420).

A few thousand numbers in a model of millions. It is the smallest change that reaches every layer: use it for style, format
or domain shifts, or as the first thing to try when memory is shortest. PEFT's LN_TUNING reads the file.

Formula: y = g' norm(x) (+ b'), with g' and b' learned.

layernorm: 정규화 층의 이득(과 편향)만 학습합니다. 수백만 개 중 수천 개뿐이지만 모든 층에 닿는 가장 작은 변화입니다. 말투, 형식, 분야를
바꾸거나 메모리가 가장 적을 때 먼저 해 볼 만합니다. PEFT의 LN_TUNING 형식으로 저장합니다.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar


@dataclass(frozen=True)
class Layernorm:
    """The norms of the body."""

    targets: tuple[str, ...] = ()
    """Norms that train: names, the ends of names, or globs. Empty = all of them.

    학습할 정규화 층: 이름, 이름의 끝, 또는 글롭. 비우면 전부."""

    lr: ClassVar[float] = 2e-3  # of a model 4,096 wide; see train/defaults.py
    lr_power: ClassVar[float] = 1.4  # 1e-1 is good on `mini`
    file: ClassVar[str] = "adapter"

    def attach(self, net: Any, *, seed: int = 0) -> list[str]:
        """Freeze all but the norms. Returns their names."""
        names = self._chosen(net)
        net.requires_grad_(False)
        for name in names:
            net.get_submodule(name).requires_grad_(True)
        return names

    def _chosen(self, net: Any) -> list[str]:
        from tunesmith.adapters._targets import matches
        from tunesmith.core.errors import SettingError

        norms = [name for name, module in net.named_modules() if is_norm(module)]
        for pattern in self.targets:
            if not any(matches(name, pattern) for name in norms):
                ends = ", ".join(sorted({name.rsplit(".", 1)[-1] for name in norms}))
                raise SettingError(
                    f"adapter target {pattern!r} matches no norm of {type(net).__name__}", wanted=f"Norms: {ends}."
                )
        found = [name for name in norms if not self.targets or any(matches(name, p) for p in self.targets)]
        if not found:
            raise SettingError(
                f"{type(net).__name__} has no norm with weights that could train", fix="Use adapter: lora."
            )
        return found

    def merge(self, net: Any) -> None:
        """Nothing to add: the norms' weights are the result."""

    def tensors(self, net: Any) -> dict[str, Any]:
        """Gains and biases under PEFT's names."""
        from tunesmith.adapters._peft import PREFIX

        return {
            f"{PREFIX}{name}.ln_tuning_layers.{ending}": value.detach()
            for name in self._chosen(net)
            for ending, value in net.get_submodule(name).named_parameters()
        }

    def peft_config(self, net: Any, names: list[str], base: str) -> dict[str, Any]:
        """What PEFT's adapter_config.json says of it."""
        from tunesmith.adapters._peft import peft_config

        return peft_config("LN_TUNING", base, target_modules=sorted(names))

    @staticmethod
    def reads(config: Mapping[str, Any]) -> bool:
        """Whether a saved adapter is of this kind."""
        return config["peft_type"] == "LN_TUNING"

    @staticmethod
    def read(
        config: Mapping[str, Any], tensors: Mapping[str, Any], net: Any, source: Path
    ) -> tuple["Layernorm", list[str]]:
        """Put copies of the norms with the saved weights in their places; the base's own keep their bytes."""
        import copy

        from tunesmith.adapters._peft import PREFIX, take_named

        found = {
            name.removeprefix(PREFIX).partition(".ln_tuning_layers.")[0]
            for name in tensors
            if ".ln_tuning_layers." in name
        }
        adapter = Layernorm(targets=tuple(sorted(found)))
        names = adapter.attach(net)
        for name in names:
            net.set_submodule(name, copy.deepcopy(net.get_submodule(name)))
        take_named(adapter.tensors(net), config, tensors, net, source)
        return adapter, names


def is_norm(module: Any) -> bool:
    """LayerNorm, RMSNorm and their kin: a class called so, whose own weights are vectors."""
    own = list(module.parameters(recurse=False))
    return type(module).__name__.endswith("Norm") and bool(own) and all(p.ndim == 1 for p in own)
