"""Direct preference optimisation: learn from pairs of a better and a worse answer, without a reward model.

Rows are preferences (prompt, chosen, rejected) or prompts with scored answers. A pair's loss looks at how much more than the
starting state (the reference) the model favours the chosen answer:  -log sigmoid(beta (log r_chosen - log r_rejected)), where
r = p / p_reference of an answer (Rafailov et al. 2023, arXiv 2305.18290, equation 7). Use it after sft, when people can say
which of two answers is better but not write the best one. Watch chosen_logp: if it falls with rejected_logp, lower the learning
rate, raise beta or add sft_weight.

Formula: loss = -log sigmoid(beta (log r_chosen - log r_rejected)), summed over the pairs and divided by their number.

DPO: 더 나은 답과 못한 답의 쌍에서 보상 모델 없이 바로 배웁니다. 시작 상태(기준 모델)보다 나은 답을 얼마나 더 선호하는지를
봅니다. 가장 좋은 답을 쓰기는 어려워도 둘 중 어느 것이 나은지는 말할 수 있을 때, 지도 미세 조정 다음에 씁니다. 두 답의 로그 확률이
함께 떨어지면 학습률을 낮추거나 beta를 올리거나 sft_weight를 더하세요.
"""

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


def sigmoid(delta: torch.Tensor, beta: float, smoothing: float) -> torch.Tensor:
    """-log sigmoid(beta delta), for differences of log ratios (pairs,)."""
    return -F.logsigmoid(beta * delta)


def cdpo(delta: torch.Tensor, beta: float, smoothing: float) -> torch.Tensor:
    """Conservative: a share `smoothing` of the labels is taken to be flipped (Mitchell 2023, "A note on DPO with noisy preferences")."""
    return -(1 - smoothing) * F.logsigmoid(beta * delta) - smoothing * F.logsigmoid(-beta * delta)


def robust(delta: torch.Tensor, beta: float, smoothing: float) -> torch.Tensor:
    """Unbiased under flipped labels (Chowdhury et al. 2024, arXiv 2403.00409)."""
    clean, flipped = F.logsigmoid(beta * delta), F.logsigmoid(-beta * delta)
    return -((1 - smoothing) * clean - smoothing * flipped) / (1 - 2 * smoothing)


def hinge(delta: torch.Tensor, beta: float, smoothing: float) -> torch.Tensor:
    """max(0, 1 - beta delta) (Zhao et al. 2023, SLiC, arXiv 2305.10425)."""
    return torch.relu(1 - beta * delta)


def ipo(delta: torch.Tensor, beta: float, smoothing: float) -> torch.Tensor:
    """(delta - 1 / (2 beta))^2 over log ratios per token: a margin to reach, not to exceed (Azar et al. 2023, arXiv 2310.12036)."""
    return (delta - 1 / (2 * beta)) ** 2


FORMS = {"sigmoid": sigmoid, "cdpo": cdpo, "robust": robust, "hinge": hinge, "ipo": ipo}


@dataclass(frozen=True)
class Dpo:
    """Loss of each pair, averaged over the pairs of a step."""

    shape: ClassVar[tuple[str, ...]] = ("preference", "scored")
    per: ClassVar[Mapping[str, str]] = {"preference": "units", "answer": "chosen_tokens"}
    helpers: ClassVar[tuple[str, ...]] = ("reference",)
    figures: ClassVar[Mapping[str, str]] = {
        **PAIR_FIGURES,
        **LOGP_FIGURES,
        "answer_loss": "mean cross-entropy of the chosen answers' tokens, in nats\n\n"
        "고른 답 토큰의 평균 교차 엔트로피(냇)",
    }

    beta: float = 0.1
    """How strongly the model is held to its starting state: higher stays nearer. For ipo, 1 / (2 beta) is the margin to reach.

    모델을 시작 상태에 얼마나 세게 붙들어 둘지 정합니다. 클수록 가까이 머뭅니다. ipo에서는 1 / (2 beta)가 목표 차이입니다."""
    form: Literal["sigmoid", "cdpo", "robust", "hinge", "ipo"] = "sigmoid"
    """The loss of a pair: sigmoid (DPO), cdpo and robust for labels that are partly wrong, hinge, ipo (a margin, per token).

    쌍의 손실입니다. sigmoid가 원래 DPO이고, cdpo와 robust는 라벨 일부가 틀렸을 때, ipo는 토큰당 차이를 목표로 씁니다."""
    label_smoothing: float = 0.0
    """Share of labels taken to be the wrong way round, for cdpo and robust; below one half.

    거꾸로 붙었다고 보는 라벨의 비율입니다. cdpo와 robust에서만 쓰며 0.5보다 작아야 합니다."""
    per_token: bool = False
    """Log ratios are divided by the answer's tokens, so that long answers do not count more. Always so for ipo.

    로그 비율을 답의 토큰 수로 나누어 긴 답이 더 크게 작용하지 않게 합니다. ipo에서는 늘 그렇습니다."""
    sft_weight: float = 0.0
    """Weight of the chosen answers' cross-entropy, added so that they do not become less likely (Pang et al. 2024, arXiv 2404.19733).

    선택된 답의 교차 엔트로피를 더하는 가중치입니다. 좋은 답의 확률이 떨어지지 않게 합니다."""
    pairs: Literal["best", "all"] = "best"
    """Of scored answers: best = the best against each other one, all = every two of different score.

    점수가 붙은 답에서 쌍을 만드는 법입니다. best는 가장 좋은 답과 나머지, all은 점수가 다른 모든 쌍입니다."""

    def __post_init__(self) -> None:
        if self.beta <= 0:
            raise SettingError(f"beta is {self.beta}.", wanted="More than 0.")
        if not 0 <= self.label_smoothing < 0.5:
            raise SettingError(f"label_smoothing is {self.label_smoothing}.", wanted="0 or more and below 0.5.")
        if self.label_smoothing and self.form not in ("cdpo", "robust"):
            raise SettingError(
                f"label_smoothing is {self.label_smoothing}, but form: {self.form} does not look at it.",
                fix="Say form: cdpo or form: robust.",
            )
        if self.sft_weight < 0:
            raise SettingError(f"sft_weight is {self.sft_weight}.", wanted="0 or more.")

    def units(self, row: Mapping[str, Any], text: Any, draw: np.random.Generator) -> list[Unit]:
        """One Unit a pair: chosen and rejected answer over their prompt."""
        return pair_units(row, text, self.pairs)

    def loss(self, policy: Any, batch: Any, helpers: Any) -> Loss:
        """Sum over pairs of the form's loss; with sft_weight, the sum of the chosen tokens' -log p beside it."""
        logp = policy.logprobs(batch)
        sides = Sides.of(logp, batch)
        ratios = Sides.of(logp - helpers.reference(batch), batch)
        if self.per_token or self.form == "ipo":
            ratios = ratios.means()
        losses = FORMS[self.form](ratios.chosen - ratios.rejected, self.beta, self.label_smoothing)
        terms = {"preference": (losses * ratios.real).sum()}
        stats = {
            **pair_figures(losses, self.beta * ratios.chosen, self.beta * ratios.rejected, ratios.real),
            **mean_figures(sides),
        }
        if self.sft_weight:
            terms["answer"] = -self.sft_weight * sides.chosen.sum()
            stats["answer_loss"] = (-sides.chosen.detach().sum(), sides.chosen_tokens.sum())
        return Loss(terms, stats, per_unit=of_units(losses, ratios.real))
