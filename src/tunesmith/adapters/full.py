"""Full fine-tuning: every parameter of the base is trained.

The most a model can change, at the highest cost: gradients and optimiser state for all of it, and a whole model to keep.
Use it for tasks far from what the base was trained on, or for small models, where it is also the fastest road.

Source: what fine-tuning meant before adapters (Devlin et al. 2018, arXiv 1810.04805, section 3.2).

Formula: W' = W + what is learned, all of it.

전체 미세 조정: 기본 모델의 모든 파라미터를 학습합니다. 가장 많이 바꿀 수 있지만 기울기와 옵티마이저 상태가 전부 필요하고
결과도 모델 전체입니다. 사전 학습과 먼 과제, 또는 작은 모델에 알맞습니다.
"""

from dataclasses import dataclass
from typing import Any, ClassVar


@dataclass(frozen=True)
class Full:
    """All parameters train."""

    lr: ClassVar[float] = 2e-5  # of a model 4,096 wide; see train/defaults.py
    lr_power: ClassVar[float] = 1.4  # 2e-5 is usual at 7B parameters, 1e-3 is good on `mini`
    file: ClassVar[str] = "model"

    def attach(self, net: Any, *, seed: int = 0) -> list[str]:
        """Mark every parameter as trained. Returns nothing: no layer is replaced."""
        net.requires_grad_(True)
        return []

    def merge(self, net: Any) -> None:
        """Nothing to add: the weights are the result."""
