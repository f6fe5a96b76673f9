"""DoRA: a weight's direction by low rank, its magnitude by one number an output (Liu et al. 2024, arXiv 2402.09353).

W' = m V / |V| with V = W + (alpha / rank) B A; m starts as the norms of W's rows, so the first step begins at the base
exactly. Use it where LoRA of a low rank falls short of full fine-tuning; a step costs more, for the norms. Files are in PEFT's
format (use_dora).

Formula: W' = m (W + (alpha / rank) B A) / |W + (alpha / rank) B A|, the norm taken over each output's weights.

DoRA: 가중치의 방향은 낮은 계수로, 크기는 출력마다 수 하나로 학습합니다. 처음 출력은 기본 모델과 같습니다. 낮은 rank의 LoRA가
전체 미세 조정에 못 미칠 때 쓰며, 노름을 계산하느라 스텝이 더 오래 걸립니다. PEFT 형식(use_dora)으로 저장합니다.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar


@dataclass(frozen=True)
class Dora:
    """Low-rank directions and trained magnitudes of linear layers."""

    rank: int = 8
    """Inner dimension r of the direction's update.

    방향 갱신의 안쪽 차원 r."""

    alpha: float | None = None
    """The update is scaled by alpha / rank. Null = twice the rank.

    갱신에 곱하는 값은 alpha / rank. null이면 rank의 두 배."""

    targets: str | tuple[str, ...] = "all-linear"
    """Layers that get an update: names, the ends of names, or globs. all-linear = every linear layer but the head.

    갱신을 받을 층: 이름, 이름의 끝, 또는 글롭. all-linear은 출력층을 뺀 모든 선형 층."""

    dropout: float = 0.0
    """Share of the update's inputs set to 0 while training.

    학습 중 갱신의 입력에서 0으로 두는 비율."""

    rslora: bool = False
    """Scale by alpha / sqrt(rank) instead.

    alpha / sqrt(rank)를 곱합니다."""

    rank_pattern: Mapping[str, int] = field(default_factory=dict)
    """Other ranks for layers whose names end like this, as {down_proj: 16}. Regular expressions, as PEFT reads them.

    이름이 이렇게 끝나는 층의 다른 rank. PEFT처럼 정규식으로 읽습니다."""

    alpha_pattern: Mapping[str, float] = field(default_factory=dict)
    """Other alphas for layers whose names end like this.

    이름이 이렇게 끝나는 층의 다른 alpha."""

    alpha_per_rank: ClassVar[int] = 2  # what null means
    lr: ClassVar[float] = 2e-4  # of a model 4,096 wide; see train/defaults.py
    file: ClassVar[str] = "adapter"

    def __post_init__(self) -> None:
        from tunesmith.adapters._low_rank import check

        check(self)

    def attach(self, net: Any, *, seed: int = 0) -> list[str]:
        """Freeze the network and put directions and magnitudes into the target layers. Returns their names."""
        from tunesmith.adapters._dora import DoraLinear
        from tunesmith.adapters._low_rank import attach

        return attach(net, self, DoraLinear, seed)

    def merge(self, net: Any) -> None:
        """Put the new weights in and the plain layers back: their rows have the norms m."""
        from tunesmith.adapters._dora import DoraLinear
        from tunesmith.adapters._low_rank import merge

        merge(net, DoraLinear)

    def tensors(self, net: Any) -> dict[str, Any]:
        """The trained tensors under PEFT's names."""
        from tunesmith.adapters._dora import DoraLinear
        from tunesmith.adapters._peft import tensors_of

        return tensors_of(net, DoraLinear)

    def peft_config(self, net: Any, names: list[str], base: str) -> dict[str, Any]:
        """What PEFT's adapter_config.json says of it."""
        from tunesmith.adapters._low_rank import config

        return config(self, net, names, base, use_dora=True)

    @staticmethod
    def reads(config: Mapping[str, Any]) -> bool:
        """Whether a saved adapter is of this kind."""
        return config["peft_type"] == "LORA" and bool(config.get("use_dora"))

    @staticmethod
    def read(config: Mapping[str, Any], tensors: Mapping[str, Any], net: Any, source: Path) -> tuple["Dora", list[str]]:
        """Attach an adapter saved in PEFT's format and take over its tensors."""
        from tunesmith.adapters._dora import DoraLinear
        from tunesmith.adapters._low_rank import read, settings_of

        adapter = Dora(**settings_of(config, tensors, net, source))
        return adapter, read(adapter, DoraLinear, config, tensors, net, source)
