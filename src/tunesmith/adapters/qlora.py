"""QLoRA: LoRA beside a base that is kept in four bits (Dettmers et al. 2023, arXiv 2305.14314).

The body's matrices become NormalFloat-4 with double quantisation, 0.52 bytes a weight instead of 4 or 2; they are dequantised
in each pass, forward and backward. Use it when the base does not fit: it is slower than LoRA, not better. It is `lora` over
`base: nf4`, and its file is LoRA's. Merged, it goes into the dequantised base it was trained on.

Formula: W' = dequantise(W as NF4) + (alpha / rank) B A.

QLoRA: 기본 모델을 4비트(NF4, 이중 양자화)로 두고 그 옆에 LoRA를 학습합니다. 가중치 하나가 4나 2바이트 대신 0.52바이트입니다. 지나갈 때마다
되돌려 계산하므로 LoRA보다 느리고, 더 좋아지지는 않습니다. 기본 모델이 메모리에 들어가지 않을 때 씁니다. 합칠 때는 학습할 때 쓴, 되돌린 기본
모델에 더합니다.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal


@dataclass(frozen=True)
class Qlora:
    """Low-rank updates over a four-bit base."""

    rank: int = 8
    """Inner dimension r: parameters are the sum of r x (in + out) over the targets.

    안쪽 차원 r: 파라미터 수는 대상 층마다 r x (입력 + 출력)의 합."""

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
    """Other ranks for layers whose names end like this, as {down_proj: 16}.

    이름이 이렇게 끝나는 층의 다른 rank."""

    alpha_pattern: Mapping[str, float] = field(default_factory=dict)
    """Other alphas for layers whose names end like this.

    이름이 이렇게 끝나는 층의 다른 alpha."""

    saved: Literal["base", "fp32"] = "base"
    """Number format of the saved matrices: that of the base's own file (bf16 beside a bf16 base), or fp32. Checkpoints are fp32 anyway.

    저장하는 행렬의 수 형식. base면 바탕 모델 파일과 같게(bf16이면 bf16으로), fp32면 그대로. 체크포인트는 늘 fp32입니다."""

    alpha_per_rank: ClassVar[int] = 2  # what null means
    lr: ClassVar[float] = 2e-4  # of a model 4,096 wide; see train/defaults.py
    file: ClassVar[str] = "adapter"
    base: ClassVar[str] = "nf4"  # what the base is put into as it is loaded
    start: ClassVar[str] = "elsewhere"  # at the quantised base, not at the one that was loaded

    def __post_init__(self) -> None:
        from tunesmith.adapters._low_rank import check

        check(self)

    def attach(self, net: Any, *, seed: int = 0) -> list[str]:
        """Put the body into four bits, unless it is already, and updates beside it. Returns the names of the adapted layers."""
        from tunesmith.adapters._linear import LoraLinear
        from tunesmith.adapters._low_rank import attach
        from tunesmith.core.errors import SettingError
        from tunesmith.model.packed import quantise_network
        from tunesmith.model.stream import is_streamed

        if is_streamed(net):
            raise SettingError(
                "adapter is qlora, a base in four bits, and base is streamed, which leaves it as it lies in its file.",
                fix="adapter=lora with base=streamed, or adapter=qlora alone.",
            )
        quantise_network(net)
        return attach(net, self, LoraLinear, seed, with_experts=True)

    def merge(self, net: Any) -> None:
        """Add the updates to the dequantised weights; the whole network is an ordinary one afterwards."""
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
        """What PEFT's adapter_config.json says of it: LoRA. That the base was in four bits stands in tunesmith.json."""
        from tunesmith.adapters._low_rank import config

        return config(self, net, names, base)
