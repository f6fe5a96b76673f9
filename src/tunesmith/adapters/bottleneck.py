"""Bottleneck: a small two-layer network behind attention and feed-forward of each layer (Houlsby et al. 2019, arXiv 1902.00751).

The first adapter there was. Unlike LoRA it computes something new between the layers, so it cannot be merged and costs time when
answering too; `up` starts at 0, so the first step begins at the base exactly. PEFT has no such adapter: the file is in PEFT's
layout, under names of our own, and only tunesmith reads it. Use it where LoRA cannot express what is new to the base.

Formula: h' = h + up f(down h), with up = 0 at the start.

bottleneck: 각 층의 어텐션과 피드포워드 뒤에 작은 두 층 신경망을 답니다(최초의 어댑터). LoRA와 달리 층 사이에서 새로운 계산을 하므로 합칠 수
없고 답할 때도 시간이 더 듭니다. up이 0에서 시작해 첫 출력은 기본 모델과 같습니다. PEFT에는 없는 방식이라 파일의 이름은 우리 것이고 tunesmith만
읽습니다.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from tunesmith.core.limits import at_least

# Last names of the layers that end attention and feed-forward, across architectures.
ENDS = ("o_proj", "down_proj", "out_proj", "c_proj", "output.dense", "o", "wo", "fc2", "dense_4h_to_h", "fc_out", "attention.dense", "w2")  # fmt: skip


@dataclass(frozen=True)
class Bottleneck:
    """Small networks between the layers."""

    size: int = 64
    """Width of the small network's inside.

    작은 신경망 안쪽의 폭."""

    activation: Literal["gelu", "relu", "silu", "tanh"] = "gelu"
    """What stands between its two layers.

    두 층 사이의 활성 함수."""

    targets: tuple[str, ...] = ()
    """Layers behind which one stands: names, the ends of names, or globs. Empty = the last layer of attention and of
    feed-forward.

    그 뒤에 달 층: 이름, 이름의 끝, 또는 글롭. 비우면 어텐션과 피드포워드의 마지막 층."""

    lr: ClassVar[float] = 6e-4  # of a model 4,096 wide; see train/defaults.py
    file: ClassVar[str] = "adapter"
    merges: ClassVar[bool] = False

    def __post_init__(self) -> None:
        at_least("adapter.size", self.size, 1)

    def attach(self, net: Any, *, seed: int = 0) -> list[str]:
        """Freeze the network and put the small networks behind the targets; down is drawn from `seed`. Returns their names."""
        import torch

        from tunesmith.adapters._bottleneck import BottleneckLinear
        from tunesmith.adapters._low_rank import start

        names = self._chosen(net)
        net.requires_grad_(False)
        draw = torch.Generator().manual_seed(seed)
        for name in names:
            base = net.get_submodule(name)
            layer = BottleneckLinear(base, self.size, self.activation)
            start(layer.down, layer.out_features, draw)
            net.set_submodule(name, layer.train(base.training))
        return names

    def _chosen(self, net: Any) -> list[str]:
        from tunesmith.adapters._targets import ALL_LINEAR, refuse_head, targets
        from tunesmith.core.errors import SettingError

        body = targets(net, ALL_LINEAR)
        if self.targets:
            names = targets(net, self.targets)
        else:
            names = [name for name in body if f".{name}".endswith(tuple(f".{end}" for end in ENDS))]
        if not names:
            last = ", ".join(sorted({name.rsplit(".", 1)[-1] for name in body}))
            raise SettingError(
                f"bottleneck does not know which layers of {type(net).__name__} end its attention and feed-forward",
                wanted=f"adapter.targets. Linear layers: {last}.",
            )
        refuse_head(net, names)
        return names

    def merge(self, net: Any) -> None:
        """Refused: what it computes between the layers is no matrix."""
        from tunesmith.core.errors import ModelError

        raise ModelError(
            "a bottleneck adapter cannot be merged: it computes something between the layers that no weight can",
            fix="Keep the adapter's folder; tunesmith reads it as it is. adapter: lora can be merged.",
        )

    def tensors(self, net: Any) -> dict[str, Any]:
        """The trained tensors, under names in PEFT's manner."""
        from tunesmith.adapters._bottleneck import BottleneckLinear
        from tunesmith.adapters._peft import tensors_of

        return tensors_of(net, BottleneckLinear)

    def peft_config(self, net: Any, names: list[str], base: str) -> dict[str, Any]:
        """A configuration in PEFT's manner; its peft_type is ours alone."""
        from tunesmith.adapters._peft import peft_config

        return peft_config(KIND, base, size=self.size, activation=self.activation, target_modules=sorted(names))

    @staticmethod
    def reads(config: Mapping[str, Any]) -> bool:
        """Whether a saved adapter is of this kind."""
        return config["peft_type"] == KIND

    @staticmethod
    def read(
        config: Mapping[str, Any], tensors: Mapping[str, Any], net: Any, source: Path
    ) -> tuple["Bottleneck", list[str]]:
        """Attach a saved adapter and take over its tensors."""
        from tunesmith.adapters._bottleneck import BottleneckLinear
        from tunesmith.adapters._peft import take_tensors

        adapter = Bottleneck(int(config["size"]), config["activation"], tuple(config["target_modules"]))
        names = adapter.attach(net)
        take_tensors(net, BottleneckLinear, config, tensors, source)
        return adapter, names


KIND = "TUNESMITH_BOTTLENECK"
