"""Reward model: a number that says how good an answer to a prompt is, learned from pairs of answers.

Rows are preferences (prompt, chosen, rejected, perhaps a margin) or prompts with scored answers. A linear head reads the last
token's state; a pair's loss is -log sigmoid(r_chosen - r_rejected - margin) (Bradley-Terry; Ouyang et al. 2022, arXiv
2203.02155, equation 1; margins: Llama 2, arXiv 2307.09288). Use it to score answers for ppo, grpo and rejection, or as a judge
in evaluation. Its accuracy on held-out pairs is what it is worth; only differences of its scores to one prompt mean something.

Formula: loss = -log sigmoid(r_chosen - r_rejected - margin), summed over the pairs and divided by their number.

보상 모델: 질문과 답을 받아 답이 얼마나 좋은지를 수 하나로 매깁니다. 두 답의 비교에서 배우고(Bradley-Terry), 마지막 토큰의 상태를
선형 층이 읽습니다. ppo·grpo·rejection의 점수로, 또는 평가의 심판으로 씁니다. 보류한 쌍에서의 정확도가 이 모델의 값어치이며,
같은 질문에 대한 점수의 차이만 뜻이 있습니다.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch.nn import functional as F

from tunesmith.core.errors import SettingError
from tunesmith.objectives._contract import Loss, of_units
from tunesmith.objectives._pairs import PAIR_FIGURES, Kept, pair_figures, pair_units
from tunesmith.text.example import Example, Unit, together


def read_at_end(example: Example, **columns: Any) -> Example:
    """The Example with weight on its last token only: where its score is read."""
    weights = np.zeros(len(example), dtype=np.float32)
    weights[-1] = 1.0
    return replace(example, weights=weights, columns=columns)


@dataclass(frozen=True)
class Reward:
    """Bradley-Terry loss of each pair, averaged over the pairs of a step."""

    shape: ClassVar[tuple[str, ...]] = ("preference", "scored")
    kind: ClassVar[str] = "classify"
    labels: ClassVar[tuple[str, ...]] = ("reward",)
    problem: ClassVar[str] = "regression"
    per: ClassVar[Mapping[str, str]] = {"preference": "units", "centring": "units"}
    figures: ClassVar[Mapping[str, str]] = {
        **PAIR_FIGURES,
        "centring_loss": "mean square of a pair's summed rewards, before its weight\n\n"
        "가중치를 곱하기 전 쌍의 보상 합의 평균 제곱",
    }

    centring: float = 0.01
    """Weight of (r_chosen + r_rejected)^2, which keeps rewards around 0 (Eisenstein et al. 2023, arXiv 2312.09244, equation 2).

    (두 보상의 합)^2에 곱하는 가중치입니다. 보상이 0 근처에 머물게 합니다."""
    margin: float = 1.0
    """What the rows' margin column is multiplied with; 0 leaves margins out.

    자료의 margin 열에 곱하는 값입니다. 0이면 쓰지 않습니다."""
    pairs: Literal["best", "all"] = "all"
    """Of scored answers: best = the best against each other one, all = every two of different score.

    점수가 붙은 답에서 쌍을 만드는 법입니다. best는 가장 좋은 답과 나머지, all은 점수가 다른 모든 쌍입니다."""

    def __post_init__(self) -> None:
        for name in ("centring", "margin"):
            if getattr(self, name) < 0:
                raise SettingError(f"{name} is {getattr(self, name)}.", wanted="0 or more.")

    def units(self, row: Mapping[str, Any], text: Any, draw: np.random.Generator) -> list[Unit]:
        """One Unit a pair, each answer read at its end of turn."""
        kept = pair_units(row, text, self.pairs)
        units = [
            together([read_at_end(e, margin=e.columns["margin"]) for e in unit.examples], unit.origin) for unit in kept
        ]
        return Kept(units, kept.dropped)

    def loss(self, policy: Any, batch: Any, helpers: Any) -> Loss:
        """Sum over pairs of -log sigmoid(difference - margin), and of the squared sum of both rewards."""
        rewards = policy.scores(batch)[:, 0].view(-1, 2)
        real = (batch.lengths.view(-1, 2) > 0).all(1).to(rewards.dtype)
        chosen, rejected = rewards[:, 0], rewards[:, 1]
        margin = self.margin * batch.columns["margin"].view(-1, 2)[:, 0].to(rewards.dtype)
        losses = -F.logsigmoid(chosen - rejected - margin)
        centring = torch.square(chosen + rejected)
        terms = {"preference": (losses * real).sum()}
        stats = pair_figures(losses, chosen, rejected, real)
        if self.centring:
            terms["centring"] = self.centring * (centring * real).sum()
            stats["centring_loss"] = ((centring.detach() * real).sum(), real.sum())
        return Loss(terms, stats, per_unit=of_units(losses, real))
