"""KTO: learn from single answers marked good or bad, no pairs needed (Ethayarajh et al. 2024, arXiv 2402.01306).

Rows are rated answers (prompt, answer, label true or false); preferences are read as one good and one bad answer each. With
log r = log p - log p_reference of an answer and z, how far the model has moved on answers that belong to other prompts, the loss
is w_good (1 - sigmoid(beta (log r - z))) or w_bad (1 - sigmoid(beta (z - log r))) (equations 7 and 8). Use it for thumbs up and
down from users. Keep w_good x good answers between 1 and 4/3 of w_bad x bad answers, as the paper advises.

Formula: loss = w_good (1 - sigmoid(beta (log r - z))) for a good answer, w_bad (1 - sigmoid(beta (z - log r))) for a
bad one.

KTO: 쌍 없이 좋다·나쁘다 표시만 있는 답에서 배웁니다. 사용자의 좋아요·싫어요를 그대로 쓸 때 알맞습니다. 다른 질문의 답에서 모델이
얼마나 움직였는지(z)를 기준점으로 삼습니다. 좋은 답과 나쁜 답의 수가 크게 다르면 두 가중치로 맞추세요.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch

from tunesmith.core.errors import SettingError
from tunesmith.objectives._contract import Loss, of_units
from tunesmith.objectives._pairs import Kept, Messages, encode, encode_whole, has_words
from tunesmith.text.example import Example, Unit, together


def rated(row: Mapping[str, Any]) -> list[tuple[Messages, Messages, bool]]:
    """(prompt, answer, whether it is good) of a rated row, or of both answers of a preference row."""
    if "chosen" in row:
        return [(row["messages"], row["chosen"], True), (row["messages"], row["rejected"], False)]
    messages: Sequence[Mapping[str, Any]] = row["messages"]
    return [(messages[:-1], messages[-1:], bool(row["label"]))]


@dataclass(frozen=True)
class Kto:
    """Loss of each answer, averaged over the answers of a step."""

    shape: ClassVar[tuple[str, ...]] = ("rated", "preference")
    per: ClassVar[Mapping[str, str]] = {"answer": "units"}
    helpers: ClassVar[tuple[str, ...]] = ("reference",)
    figures: ClassVar[Mapping[str, str]] = {
        "loss": "mean loss of an answer\n\n답의 평균 손실",
        "accuracy": "share of answers on their side of the reference point: good ones above it, bad ones below\n\n"
        "기준점에서 제 쪽에 있는 답의 비율: 좋은 답은 위, 나쁜 답은 아래",
        "kl": "how far the model has moved on answers of other prompts (z), in nats; 0 when it is negative\n\n"
        "다른 질문의 답에서 모델이 움직인 거리 z(냇). 음수면 0",
        "good_reward": "mean reward beta x log r of the good answers\n\n좋은 답의 평균 보상 beta x log r",
        "bad_reward": "mean reward beta x log r of the bad answers\n\n나쁜 답의 평균 보상 beta x log r",
        "good_logp": "mean log p of the good answers, summed over their tokens\n\n좋은 답의 log p(토큰 합)의 평균",
        "bad_logp": "mean log p of the bad answers, summed over their tokens\n\n나쁜 답의 log p(토큰 합)의 평균",
    }

    beta: float = 0.1
    """How strongly the model is held to its starting state: higher stays nearer.

    모델을 시작 상태에 얼마나 세게 붙들어 둘지 정합니다. 클수록 가까이 머뭅니다."""
    desirable_weight: float = 1.0
    """Weight of good answers; raise it when they are rare.

    좋은 답의 가중치입니다. 좋은 답이 드물면 올리세요."""
    undesirable_weight: float = 1.0
    """Weight of bad answers; raise it when they are rare.

    나쁜 답의 가중치입니다. 나쁜 답이 드물면 올리세요."""

    def __post_init__(self) -> None:
        if self.beta <= 0:
            raise SettingError(f"beta is {self.beta}.", wanted="More than 0.")
        for name in ("desirable_weight", "undesirable_weight"):
            if getattr(self, name) < 0:
                raise SettingError(f"{name} is {getattr(self, name)}.", wanted="0 or more.")

    def units(self, row: Mapping[str, Any], text: Any, draw: Any) -> list[Unit]:
        """One Unit an answer: the answer, and beside it, for z, the answer of another row to the same prompt."""
        units: list[Unit] = []
        dropped: list[str] = []
        for prompt, answer, good in rated(row):
            if not has_words(answer):
                dropped.append("the answer is empty")
                continue
            examples, reason = encode(text, prompt, [answer], row.get("tools"))
            if reason:
                dropped.append(reason)
                continue
            (own,) = examples
            other = rated(draw.other())[0 if good else -1][1]
            both = [own, mismatched(own, prompt, other, text, row.get("tools"))]
            units.append(
                together([replace(e, columns={"good": float(good)}) for e in both], origin=row.get("origin", ""))
            )
        return Kept(units, dropped)

    def shared(self, policy: Any, batch: Any, helpers: Any) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
        """z over the whole step: the mean log ratio of the answers that belong to other prompts; only they are read."""
        others = _one_of_each(policy, batch, 1)
        ratios, real = _sums(policy.logprobs(others) - helpers.reference(others), others)
        return {"kl": ((ratios * real).sum(), real.sum())}

    def loss(self, policy: Any, batch: Any, helpers: Any) -> Loss:
        """Sum over answers of weight x (1 - sigmoid(+-beta (log r - z))); what z is made of is not read again."""
        answers = _one_of_each(policy, batch, 0)
        logp = policy.logprobs(answers)
        logp_own, real = _sums(logp, answers)
        ratio, _ = _sums(logp - helpers.reference(answers), answers)
        good = answers.columns["good"].to(ratio.dtype)
        z = helpers.shared["kl"].to(ratio.dtype).clamp_min(0)
        sign = 2 * good - 1
        weight = good * self.desirable_weight + (1 - good) * self.undesirable_weight
        losses = weight * torch.sigmoid(-self.beta * sign * (ratio - z)) * real
        number, num_good, num_bad = real.sum(), (good * real).sum(), ((1 - good) * real).sum()
        reward, said = (self.beta * ratio.detach()) * real, logp_own.detach() * real
        right = (sign * (ratio.detach() - z) > 0) * real
        stats = {
            "loss": (losses.detach().sum(), number),
            "accuracy": (right.sum(), number),
            "kl": (z * number, number),
            "good_reward": ((reward * good).sum(), num_good),
            "bad_reward": ((reward * (1 - good)).sum(), num_bad),
            "good_logp": ((said * good).sum(), num_good),
            "bad_logp": ((said * (1 - good)).sum(), num_bad),
        }
        return Loss({"answer": losses.sum()}, stats, per_unit=of_units(losses, real))


def _one_of_each(policy: Any, batch: Any, which: int) -> Any:
    """A batch of one Example of each Unit: 0 = the answer, 1 = that of another prompt."""
    return policy.batch([replace(unit, examples=(unit.examples[which],), shared_prompt=0) for unit in batch.units])


def _sums(values: torch.Tensor, batch: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """(weighted sums of `values` (targets,) over each answer, 0 where one only fills a pass else 1), both (units,)."""
    return batch.per_example(values * batch.weight.to(values.dtype)), (batch.lengths > 0).to(values.dtype)


def mismatched(own: Example, prompt: Messages, other: Messages, text: Any, tools: Any) -> Example:
    """The prompt of `own` followed by another row's answer; what of it exceeds the limit is left off (z is an estimate)."""
    whole = encode_whole(text, prompt, other, tools)
    start, begin = (int(np.flatnonzero(example.weights)[0]) for example in (own, whole))
    ids = np.concatenate([own.ids[:start], whole.ids[begin:]])
    weights = np.concatenate([own.weights[:start], whole.weights[begin:]])
    room = len(ids) if text.length is None else max(text.limit, start + 1)
    return Example(ids[:room], weights[:room])
