"""NPO: unlearn answers that the model must not give any more (Zhang et al. 2024, arXiv 2404.05868).

Rows are conversations whose answers are to be forgotten: private data, what was withdrawn, what is wrong. At the start its gradient
is that of making the answer less likely, and it fades as the answer goes, so that the model does not break as it does when likelihood is
simply pushed down. Use it together with rows that are to be kept, as two tasks: multitask with {forget: npo, keep: sft}. Its loss is of
whole answers, that of sft of tokens: where both answers are alike in form, give it a small weight (0.05). It makes answers unlikely; it
does not prove that nothing of them is left.

Formula: loss = mean over answers of 2/beta log(1 + r^beta), log r = log p(answer) - log p_reference(answer).

NPO: 모델이 더는 하지 말아야 할 답을 잊게 합니다. 처음에는 그 답의 가능도를 낮추는 기울기와 같고, 답이 사라질수록 약해져 모델을 망치지 않습니다.
지켜야 할 행과 함께 multitask로 쓰세요: {forget: npo, keep: sft}. 손실이 답 전체에 걸리므로, 두 답의 꼴이 비슷하면 가중치를 작게(0.05) 두세요.
답이 드물어질 뿐, 흔적이 남지 않았다는 증명은 아닙니다.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch.nn.functional as F

from tunesmith.core.errors import SettingError
from tunesmith.objectives._contract import Loss, of_units
from tunesmith.objectives.sft import Sft
from tunesmith.text.example import Unit


@dataclass(frozen=True)
class Npo:
    """Loss of each answer that is to be forgotten, averaged over the answers of a step."""

    shape: ClassVar[str] = "chat"
    per: ClassVar[Mapping[str, str]] = {"forget": "units"}
    helpers: ClassVar[tuple[str, ...]] = ("reference",)
    figures: ClassVar[Mapping[str, str]] = {
        "loss": "mean loss of an answer; 2/beta ln 2 at the start, towards 0 as it is forgotten\n\n"
        "답의 평균 손실. 처음에는 2/beta ln 2이고 잊을수록 0에 가까워집니다",
        "forgotten_logp": "mean log p of the answers, summed over their tokens\n\n답의 log p(토큰 합)의 평균",
        "moved": "mean log p of the answers less that at the start, in nats: how far they have gone\n\n"
        "답의 log p가 처음보다 줄어든 정도의 평균(냇)",
        "left": "share of answers that have lost less than one nat since the start\n\n처음보다 1냇도 줄지 않은 답의 비율",
    }

    beta: float = 0.1
    """How soon it lets go: larger stops earlier, towards 0 it pushes on for ever (gradient ascent).

    얼마나 일찍 놓아줄지 정합니다. 클수록 일찍 멈추고, 0에 가까울수록 끝없이 밀어냅니다(경사 상승)."""

    def __post_init__(self) -> None:
        if self.beta <= 0:
            raise SettingError(f"beta is {self.beta}.", wanted="More than 0.")

    def units(self, row: Mapping[str, Any], text: Any, draw: np.random.Generator) -> list[Unit]:
        """As sft: one Unit per Example of the conversation."""
        return Sft().units(row, text, draw)

    def loss(self, policy: Any, batch: Any, helpers: Any) -> Loss:
        """Sum over answers of 2/beta log(1 + r^beta)."""
        logp = policy.logprobs(batch)
        weight = batch.weight.to(logp.dtype)
        own, start = (batch.per_example(x * weight) for x in (logp, helpers.reference(batch).to(logp.dtype)))
        real = (batch.lengths > 0).to(logp.dtype)
        ratio = own - start
        losses = 2 / self.beta * F.softplus(self.beta * ratio)
        count = real.sum()
        stats = {
            "loss": ((losses.detach() * real).sum(), count),
            "forgotten_logp": ((own.detach() * real).sum(), count),
            "moved": ((ratio.detach() * real).sum(), count),
            "left": (((ratio.detach() > -1) * real).sum(), count),
        }
        return Loss({"forget": (losses * real).sum()}, stats, per_unit=of_units(losses, real))
