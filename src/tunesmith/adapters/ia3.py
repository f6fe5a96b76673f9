"""IA3: keys, values and the feed-forward's inner states are multiplied by trained numbers (Liu et al. 2022, arXiv 2205.05638).

All of them start at 1, so the first step begins at the base exactly. It trains less than LoRA of rank 1 and costs nothing
once merged: use it for few rows, or where thousands of adapters have to be kept. Files are in PEFT's format.

Formula: k' = l_k k, v' = l_v v, inner' = l_ff inner, each number times its own.

IA3: 키, 값, 그리고 피드포워드의 안쪽 상태에 학습한 수를 곱합니다. 모두 1에서 시작하므로 첫 출력은 기본 모델과 같습니다. rank 1의 LoRA보다
적게 학습하고 합치면 비용이 없어, 행이 적거나 어댑터를 수천 개 두어야 할 때 씁니다. PEFT 형식으로 저장합니다.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

# Last names of the projections to keys and values, and of the second layer of the feed-forward, across architectures.
KEYS_VALUES = (
    "k_proj",
    "v_proj",
    "key",
    "value",
    "k",
    "v",
    "c_attn",
    "query_key_value",
    "qkv_proj",
    "key_proj",
    "value_proj",
)
FEEDFORWARD = ("down_proj", "fc2", "wo", "fc_out", "dense_4h_to_h", "w2", "mlp.c_proj", "output.dense")


@dataclass(frozen=True)
class Ia3:
    """Trained factors on keys, values and feed-forward."""

    targets: tuple[str, ...] = ()
    """Layers whose outputs are scaled: names, the ends of names, or globs. Empty = projections to keys and values.

    출력에 곱할 층: 이름, 이름의 끝, 또는 글롭. 비우면 키와 값의 투영."""

    feedforward: tuple[str, ...] = ()
    """Layers whose inputs are scaled. Empty = the second layer of the feed-forward.

    입력에 곱할 층. 비우면 피드포워드의 둘째 층."""

    lr: ClassVar[float] = 3e-3  # of a model 4,096 wide; see train/defaults.py
    lr_power: ClassVar[float] = 1.4  # 3e-3 is the paper's at 3B parameters, 1.5e-1 is good on `mini`
    file: ClassVar[str] = "adapter"

    def attach(self, net: Any, *, seed: int = 0) -> list[str]:
        """Freeze the network and put factors of 1 on the targets. Returns their names."""
        from tunesmith.adapters._ia3 import Ia3Linear

        outputs, inputs = self._chosen(net)
        net.requires_grad_(False)
        for name in (*outputs, *inputs):
            base = net.get_submodule(name)
            net.set_submodule(name, Ia3Linear(base, name in inputs).train(base.training))
        return [*outputs, *inputs]

    def _chosen(self, net: Any) -> tuple[list[str], list[str]]:
        from tunesmith.adapters._targets import ALL_LINEAR, refuse_head, targets
        from tunesmith.core.errors import SettingError

        body = targets(net, ALL_LINEAR)

        def known(ends: tuple[str, ...]) -> list[str]:
            return [
                n
                for n in body
                if f".{n}".endswith(tuple(f".{end}" for end in ends)) and not n.endswith("attention.output.dense")
            ]

        inputs = targets(net, self.feedforward) if self.feedforward else known(FEEDFORWARD)
        outputs = targets(net, self.targets) if self.targets else [n for n in known(KEYS_VALUES) if n not in inputs]
        if not outputs or not inputs:
            last = ", ".join(sorted({name.rsplit(".", 1)[-1] for name in body}))
            raise SettingError(
                f"ia3 does not know which layers of {type(net).__name__} are {'keys and values' if not outputs else 'feed-forward'}",
                wanted=f"adapter.targets and adapter.feedforward. Linear layers: {last}.",
            )
        if both := sorted({*outputs} & {*inputs}):
            raise SettingError(f"ia3 cannot scale both inputs and outputs of {both[0]}", fix="Name it in one place.")
        refuse_head(net, [*outputs, *inputs])
        return outputs, inputs

    def merge(self, net: Any) -> None:
        """Multiply the weights and put the plain layers back."""
        from tunesmith.adapters._ia3 import Ia3Linear
        from tunesmith.adapters._stand_in import put_back, stand_ins

        for name, layer in stand_ins(net, Ia3Linear).items():
            put_back(net, name, layer, layer.merged().detach(), layer.merged_bias())

    def tensors(self, net: Any) -> dict[str, Any]:
        """The factors under PEFT's names."""
        from tunesmith.adapters._ia3 import Ia3Linear
        from tunesmith.adapters._peft import tensors_of

        return tensors_of(net, Ia3Linear)

    def peft_config(self, net: Any, names: list[str], base: str) -> dict[str, Any]:
        """What PEFT's adapter_config.json says of it."""
        from tunesmith.adapters._peft import peft_config

        layers = {name: net.get_submodule(name) for name in names}
        return peft_config(
            "IA3",
            base,
            target_modules=sorted(names),
            feedforward_modules=sorted(name for name, layer in layers.items() if layer.scales_input),
            fan_in_fan_out=any(layer.transposed for layer in layers.values()),
        )

    @staticmethod
    def reads(config: Mapping[str, Any]) -> bool:
        """Whether a saved adapter is of this kind."""
        return config["peft_type"] == "IA3"

    @staticmethod
    def read(config: Mapping[str, Any], tensors: Mapping[str, Any], net: Any, source: Path) -> tuple["Ia3", list[str]]:
        """Attach an adapter saved in PEFT's format and take over its factors: a row of them scales inputs, a column outputs."""
        from tunesmith.adapters._ia3 import Ia3Linear
        from tunesmith.adapters._peft import PREFIX, take_tensors

        found = {n.removeprefix(PREFIX).removesuffix(".ia3_l"): v for n, v in tensors.items() if n.endswith(".ia3_l")}
        inputs = tuple(sorted(name for name, value in found.items() if value.shape[0] == 1))
        adapter = Ia3(targets=tuple(sorted({*found} - {*inputs})), feedforward=inputs)
        names = adapter.attach(net)
        take_tensors(net, Ia3Linear, config, tensors, source)
        return adapter, names
