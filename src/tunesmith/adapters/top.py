"""Top: the last layers train as they are, everything before them is frozen to the last bit.

The classic way to tune a small model on few rows: gradients stop where training stops, so a step is cheaper than a full
one, and what lies below is surely not forgotten. `modules` names others instead. PEFT reads the file (modules_to_save).

Use it for few rows and small models. Source: how transferable each layer is (Yosinski et al. 2014, arXiv 1411.1792);
gradual unfreezing (Howard and Ruder 2018, arXiv 1801.06146, section 3.3).

Formula: W' = W + what is learned in the last layers; W' = W below.

top: 마지막 몇 층만 그대로 학습하고, 그 앞은 한 비트도 바꾸지 않습니다. 행이 적고 모델이 작을 때의 고전적인 방법으로, 기울기가 학습하는
층에서 멈추므로 전체 학습보다 쌉니다. modules로 다른 부분을 지정할 수 있습니다. PEFT도 이 파일을 읽습니다.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from tunesmith.core.limits import at_least


@dataclass(frozen=True)
class Top:
    """The last layers of each stack."""

    layers: int = 2
    """How many of the last layers train (of an encoder-decoder: of each stack).

    학습할 마지막 층의 수(인코더-디코더는 각각)."""

    modules: tuple[str, ...] = ()
    """Modules that train instead: names, the ends of names, or globs, as model.layers.5.mlp or lm_head.

    대신 학습할 모듈: 이름, 이름의 끝, 또는 글롭."""

    lr: ClassVar[float] = 2e-5  # of a model 4,096 wide; see train/defaults.py
    lr_power: ClassVar[float] = 1.4  # as full fine-tuning
    file: ClassVar[str] = "adapter"

    def __post_init__(self) -> None:
        at_least("adapter.layers", self.layers, 1)

    def attach(self, net: Any, *, seed: int = 0) -> list[str]:
        """Freeze all but the chosen modules. Returns their names."""
        from tunesmith.adapters._whole import refuse_packed, untie

        names = self._chosen(net)
        refuse_packed(net, names)
        net.requires_grad_(False)
        untie(net, names)
        for name in names:
            net.get_submodule(name).requires_grad_(True)
        return names

    def _chosen(self, net: Any) -> list[str]:
        from tunesmith.adapters._targets import matches, stacks
        from tunesmith.core.errors import SettingError
        from tunesmith.core.names import nearest

        if not self.modules:
            found = stacks(net)
            if not found or min(map(len, found)) < self.layers:
                sizes = " and ".join(str(len(stack)) for stack in found) or "no"
                raise SettingError(f"adapter.layers is {self.layers}; {type(net).__name__} has {sizes} layers.")
            return [name for stack in found for name in stack[-self.layers :]]
        every = {
            name: module for name, module in net.named_modules() if name and any(True for _ in module.parameters())
        }
        chosen: list[str] = []
        for pattern in self.modules:
            matched = [name for name in every if matches(name, pattern)]
            if not matched:
                ends = sorted({name.rsplit(".", 1)[-1] for name in every})
                raise SettingError(
                    f"adapter.modules: {pattern!r} matches no module of {type(net).__name__}",
                    wanted=f"Nearest: {', '.join(nearest(pattern, ends) or ends[:8])}.",
                )
            chosen += matched
        # a module inside another chosen one is saved with it
        return [n for n in every if n in chosen and not any(n.startswith(f"{other}.") for other in chosen)]

    def merge(self, net: Any) -> None:
        """Nothing to add: the weights are the result."""

    def tensors(self, net: Any) -> dict[str, Any]:
        """All weights of the trained modules under PEFT's names."""
        from tunesmith.adapters._whole import whole_tensors

        return whole_tensors(net, self._chosen(net))

    def peft_config(self, net: Any, names: list[str], base: str) -> dict[str, Any]:
        """PEFT's modules_to_save beside a LoRA that goes into no layer."""
        from tunesmith.adapters._peft import peft_config
        from tunesmith.adapters._whole import NOTHING

        return peft_config("LORA", base, r=8, lora_alpha=8, target_modules=NOTHING, modules_to_save=names, bias="none")

    @staticmethod
    def reads(config: Mapping[str, Any]) -> bool:
        """Whether a saved adapter is of this kind: modules of the body, saved whole."""
        from tunesmith.adapters._whole import NOTHING

        saved = config.get("modules_to_save") or ()
        return (
            config["peft_type"] == "LORA" and config.get("target_modules") == NOTHING and any("." in n for n in saved)
        )

    @staticmethod
    def read(config: Mapping[str, Any], tensors: Mapping[str, Any], net: Any, source: Path) -> tuple["Top", list[str]]:
        """The saved modules stand in their places already (store.py puts all modules_to_save there)."""
        net.requires_grad_(False)
        names = list(config["modules_to_save"])
        return Top(modules=tuple(names)), names
