"""ORPO: sft and preferences in one run, by the odds of the two answers (Hong et al. 2024, arXiv 2403.07691).

Rows are preferences (prompt, chosen, rejected) or prompts with scored answers. The loss is the chosen answer's cross-entropy plus
weight x -log sigmoid(log odds_chosen - log odds_rejected), where odds = p / (1 - p) of the mean log p per token (equations 4 to
7). Use it straight on a base model: it needs no sft before it and no reference model, so half of DPO's memory.

Formula: loss = -log p_chosen per token - weight x log sigmoid(log odds_chosen - log odds_rejected), odds = p / (1 - p).

ORPO: 선택된 답의 지도 학습과 선호 학습을 한 번에 합니다. 두 답의 승산비(토큰당 평균 확률의 odds)를 봅니다. 기준 모델도, 먼저 하는
지도 미세 조정도 필요 없어서 기본 모델에서 바로 시작할 때 씁니다.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch.nn import functional as F

from tunesmith.core.errors import SettingError
from tunesmith.objectives._contract import Loss, of_units
from tunesmith.objectives._pairs import LOGP_FIGURES, PAIR_FIGURES, Sides, mean_figures, pair_figures, pair_units
from tunesmith.text.example import Unit


def log_odds(logp: torch.Tensor) -> torch.Tensor:
    """log(p / (1 - p)) of log p, finite also where p is 1 in floating point."""
    logp = logp.clamp_max(-torch.finfo(logp.dtype).eps)
    near = logp > -math.log(
        2
    )  # which form of log(1 - exp(x)) loses no digits; each gets arguments the other cannot spoil
    log_not = torch.where(
        near,
        torch.log(-torch.expm1(torch.where(near, logp, -1.0))),
        torch.log1p(-torch.exp(torch.where(near, -1.0, logp))),
    )
    return logp - log_not


@dataclass(frozen=True)
class Orpo:
    """Cross-entropy of the chosen answers' tokens plus the odds-ratio loss of the pairs, each with its own mean."""

    shape: ClassVar[tuple[str, ...]] = ("preference", "scored")
    per: ClassVar[Mapping[str, str]] = {"answer": "chosen_tokens", "preference": "units"}
    figures: ClassVar[Mapping[str, str]] = {
        **PAIR_FIGURES,
        "loss": "mean over pairs of the chosen answer's cross-entropy per token plus the weighted odds-ratio loss; of dev rows the "
        "training loss: there all chosen tokens count alike\n\n"
        "쌍마다 고른 답의 토큰당 교차 엔트로피와 가중 승산비 손실의 합의 평균. 개발 행에서는 모든 고른 토큰을 같게 세는 학습 손실",
        **LOGP_FIGURES,
        "answer_loss": "mean cross-entropy of the chosen answers' tokens, in nats\n\n"
        "고른 답 토큰의 평균 교차 엔트로피(냇)",
        "odds_loss": "mean odds-ratio loss of a pair, before its weight\n\n가중치를 곱하기 전 쌍의 평균 승산비 손실",
    }

    weight: float = 0.1
    """Weight of the odds-ratio loss beside the cross-entropy (lambda in the paper, beta in TRL).

    교차 엔트로피 옆에 더하는 승산비 손실의 가중치입니다(논문의 람다)."""
    pairs: Literal["best", "all"] = "best"
    """Of scored answers: best = the best against each other one, all = every two of different score.

    점수가 붙은 답에서 쌍을 만드는 법입니다. best는 가장 좋은 답과 나머지, all은 점수가 다른 모든 쌍입니다."""

    def __post_init__(self) -> None:
        if self.weight < 0:
            raise SettingError(f"weight is {self.weight}.", wanted="0 or more.")

    def units(self, row: Mapping[str, Any], text: Any, draw: np.random.Generator) -> list[Unit]:
        """One Unit a pair: chosen and rejected answer over their prompt."""
        return pair_units(row, text, self.pairs)

    def loss(self, policy: Any, batch: Any, helpers: Any) -> Loss:
        """Sum of -log p over the chosen tokens, and over pairs of -log sigmoid of the log odds ratio."""
        sides = Sides.of(policy.logprobs(batch), batch)
        means = sides.means()
        odds = -F.logsigmoid(log_odds(means.chosen) - log_odds(means.rejected))
        losses = self.weight * odds - means.chosen
        stats = {
            **pair_figures(losses, self.weight * means.chosen, self.weight * means.rejected, means.real),
            **mean_figures(sides),
            "answer_loss": (-sides.chosen.detach().sum(), sides.chosen_tokens.sum()),
            "odds_loss": ((odds.detach() * means.real).sum(), means.real.sum()),
        }
        terms = {"answer": -sides.chosen.sum(), "preference": self.weight * (odds * means.real).sum()}
        return Loss(terms, stats, per_unit=of_units(losses, means.real))
