"""LoRA: two small matrices beside each frozen weight (Hu et al. 2021, arXiv 2106.09685).

W' = W + (alpha / rank) B A, with B = 0 at the start, so the first step begins at the base model exactly. Use it when the
base should stay as it is, when memory is short, or when many tasks share one base. Files are in PEFT's format.

Formula: W' = W + (alpha / rank) B A, with B = 0 at the start.

LoRA: 얼린 가중치 옆에 작은 행렬 두 개를 두고 그것만 학습합니다. 시작할 때 B가 0이라 첫 출력은 기본 모델과 같습니다. 메모리가
적거나, 기본 모델 하나로 여러 과제를 다룰 때 씁니다. PEFT 형식으로 저장합니다.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal


@dataclass(frozen=True)
class Lora:
    """Low-rank updates of linear layers."""

    rank: int = 8
    """Inner dimension r: parameters are the sum of r x (in + out) over the targets.

    안쪽 차원 r: 파라미터 수는 대상 층마다 r x (입력 + 출력)의 합."""

    alpha: float | None = None
    """The update is scaled by alpha / rank. Null = twice the rank.

    갱신에 곱하는 값은 alpha / rank. null이면 rank의 두 배."""

    targets: str | tuple[str, ...] = "all-linear"
    """Layers that get an update: names, the ends of names, or globs. all-linear = every linear layer but the head. Joined
    experts of a mixture are meant by their own names, as experts.gate_up_proj.

    갱신을 받을 층: 이름, 이름의 끝, 또는 글롭. all-linear은 출력층을 뺀 모든 선형 층. 묶인 전문가(MoE)는 experts.gate_up_proj처럼
    이름으로 적습니다."""

    dropout: float = 0.0
    """Share of the update's inputs set to 0 while training.

    학습 중 갱신의 입력에서 0으로 두는 비율."""

    rslora: bool = False
    """Scale by alpha / sqrt(rank) instead (Kalajdzievski 2023, arXiv 2312.03732): higher ranks keep learning.

    alpha / sqrt(rank)를 곱합니다. 높은 rank에서도 계속 배웁니다."""

    rank_pattern: Mapping[str, int] = field(default_factory=dict)
    """Other ranks for layers whose names end like this, as {down_proj: 16}. Regular expressions, as PEFT reads them.

    이름이 이렇게 끝나는 층의 다른 rank. 예: {down_proj: 16}. PEFT처럼 정규식으로 읽습니다."""

    alpha_pattern: Mapping[str, float] = field(default_factory=dict)
    """Other alphas for layers whose names end like this.

    이름이 이렇게 끝나는 층의 다른 alpha."""

    saved: Literal["base", "fp32"] = "base"
    """Number format of the saved matrices: that of the base's own file (bf16 beside a bf16 base), or fp32. Checkpoints are fp32 anyway.

    저장하는 행렬의 수 형식. base면 바탕 모델 파일과 같게(bf16이면 bf16으로), fp32면 그대로. 체크포인트는 늘 fp32입니다."""

    alpha_per_rank: ClassVar[int] = 2  # what null means
    lr: ClassVar[float] = 2e-4  # of a model 4,096 wide; see train/defaults.py
    file: ClassVar[str] = "adapter"

    def __post_init__(self) -> None:
        from tunesmith.adapters._low_rank import check

        check(self)

    @property
    def scale(self) -> float:
        """What B A is multiplied by, where no pattern says otherwise."""
        from tunesmith.adapters._low_rank import size

        return size(self, "")[1]

    def attach(self, net: Any, *, seed: int = 0) -> list[str]:
        """Freeze the network and put updates into the target layers; A is drawn from `seed`, B is 0. Returns their names."""
        from tunesmith.adapters._linear import LoraLinear
        from tunesmith.adapters._low_rank import attach

        return attach(net, self, LoraLinear, seed, with_experts=True)

    def merge(self, net: Any) -> None:
        """Add the updates into the weights and put the plain layers back."""
        from tunesmith.adapters._linear import LoraLinear
        from tunesmith.adapters._low_rank import merge

        merge(net, LoraLinear)

    def tensors(self, net: Any) -> dict[str, Any]:
        """The trained tensors under PEFT's names."""
        from tunesmith.adapters._experts import ExpertsLora
        from tunesmith.adapters._linear import LoraLinear
        from tunesmith.adapters._peft import tensors_of

        return tensors_of(net, (LoraLinear, ExpertsLora))

    def peft_config(self, net: Any, names: list[str], base: str) -> dict[str, Any]:
        """What PEFT's adapter_config.json says of it."""
        from tunesmith.adapters._low_rank import config

        return config(self, net, names, base)

    @staticmethod
    def reads(config: Mapping[str, Any]) -> bool:
        """Whether a saved adapter is of this kind."""
        from tunesmith.adapters._whole import NOTHING

        return config["peft_type"] == "LORA" and not config.get("use_dora") and config.get("target_modules") != NOTHING

    @staticmethod
    def read(config: Mapping[str, Any], tensors: Mapping[str, Any], net: Any, source: Path) -> tuple["Lora", list[str]]:
        """Attach an adapter saved in PEFT's format and take over its tensors."""
        from tunesmith.adapters._experts import ExpertsLora
        from tunesmith.adapters._linear import LoraLinear
        from tunesmith.adapters._low_rank import read, settings_of

        full = any(tensor.dtype.itemsize > 2 for name, tensor in tensors.items() if ".lora_" in name)
        adapter = Lora(**settings_of(config, tensors, net, source), saved="fp32" if full else "base")
        return adapter, read(adapter, (LoraLinear, ExpertsLora), config, tensors, net, source)
