"""SimPO: preferences by the mean log p of an answer, without a reference model (Meng et al. 2024, arXiv 2405.14734).

Rows are preferences (prompt, chosen, rejected) or prompts with scored answers. A pair's loss is
-log sigmoid(beta (mean log p_chosen - mean log p_rejected) - gamma): the reward is what generation itself maximises, and the
chosen answer must win by a margin. Use it where DPO's reference costs too much memory or its answers grow long. With nothing
that holds the model to its start it can drift: small learning rates, and look at other tasks after.

Formula: loss = -log sigmoid(beta (log p_chosen / tokens - log p_rejected / tokens) - gamma), summed over the pairs and
divided by their number.

SimPO: 기준 모델 없이 답의 토큰당 평균 로그 확률을 보상으로 써서 선호를 배웁니다. 나은 답이 gamma만큼 더 이겨야 합니다. 기준 모델을
둘 메모리가 없거나 DPO의 답이 길어질 때 씁니다. 시작 상태에 붙드는 것이 없으니 학습률을 작게 하고 다른 과제 성능도 확인하세요.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from torch.nn import functional as F

from tunesmith.core.errors import SettingError
from tunesmith.objectives._contract import Loss, of_units
from tunesmith.objectives._pairs import LOGP_FIGURES, PAIR_FIGURES, Sides, mean_figures, pair_figures, pair_units
from tunesmith.text.example import Unit


@dataclass(frozen=True)
class Simpo:
    """Loss of each pair, averaged over the pairs of a step."""

    shape: ClassVar[tuple[str, ...]] = ("preference", "scored")
    per: ClassVar[Mapping[str, str]] = {"preference": "units", "answer": "chosen_tokens"}
    figures: ClassVar[Mapping[str, str]] = {
        **PAIR_FIGURES,
        **LOGP_FIGURES,
        "answer_loss": "mean cross-entropy of the chosen answers' tokens, in nats\n\n"
        "고른 답 토큰의 평균 교차 엔트로피(냇)",
    }

    beta: float = 2.0
    """What the difference of mean log p is multiplied by.

    평균 로그 확률의 차이에 곱하는 값입니다."""
    gamma: float = 1.0
    """By how much the chosen answer must win; the paper searches 0.3 to 1.6.

    선택된 답이 이겨야 하는 차이입니다."""
    sft_weight: float = 0.0
    """Weight of the chosen answers' cross-entropy, added so that they do not become less likely (CPO, arXiv 2401.08417).

    선택된 답의 교차 엔트로피를 더하는 가중치입니다. 좋은 답의 확률이 떨어지지 않게 합니다."""
    pairs: Literal["best", "all"] = "best"
    """Of scored answers: best = the best against each other one, all = every two of different score.

    점수가 붙은 답에서 쌍을 만드는 법입니다. best는 가장 좋은 답과 나머지, all은 점수가 다른 모든 쌍입니다."""

    def __post_init__(self) -> None:
        if self.beta <= 0:
            raise SettingError(f"beta is {self.beta}.", wanted="More than 0.")
        for name in ("gamma", "sft_weight"):
            if getattr(self, name) < 0:
                raise SettingError(f"{name} is {getattr(self, name)}.", wanted="0 or more.")

    def units(self, row: Mapping[str, Any], text: Any, draw: np.random.Generator) -> list[Unit]:
        """One Unit a pair: chosen and rejected answer over their prompt."""
        return pair_units(row, text, self.pairs)

    def loss(self, policy: Any, batch: Any, helpers: Any) -> Loss:
        """Sum over pairs of -log sigmoid(beta (difference of means) - gamma)."""
        sides = Sides.of(policy.logprobs(batch), batch)
        means = sides.means()
        losses = -F.logsigmoid(self.beta * (means.chosen - means.rejected) - self.gamma)
        terms = {"preference": (losses * means.real).sum()}
        stats = {
            **pair_figures(losses, self.beta * means.chosen, self.beta * means.rejected, means.real),
            **mean_figures(sides),
        }
        if self.sft_weight:
            terms["answer"] = -self.sft_weight * sides.chosen.sum()
            stats["answer_loss"] = (-sides.chosen.detach().sum(), sides.chosen_tokens.sum())
        return Loss(terms, stats, per_unit=of_units(losses, means.real))
