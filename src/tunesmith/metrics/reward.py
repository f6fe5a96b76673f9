"""reward: what a reward model thinks of the answer, alone or against the reference answer.

Use it where no reference can be compared word for word: tone, helpfulness.

Formula: mean of r(prompt, answer); or the share of rows with r(answer) > r(reference).

Source: Ouyang et al. 2022, arXiv 2203.02155, section 3.5.

    metrics: [{reward: {model: runs/reward-1}}]                         mean reward; compare runs by it, not prompts
    metrics: [{reward: {model: runs/reward-1, against: reference}}]     share of answers it prefers to the reference

A judge is as good as its accuracy on held-out pairs, and a model trained on a reward learns to please that reward model: look at
another metric, or at the answers, too.

reward: 보상 모델이 답을 어떻게 보는지 잽니다. 평균 보상, 또는 기준 답보다 낫다고 본 비율입니다. 심판의 값어치는 보류한 쌍에서의 정확도만큼이고,
그 보상으로 학습한 모델은 그 심판의 마음에 들도록 배우므로 다른 지표나 답 자체도 함께 보세요.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from tunesmith.metrics._values import Summary, mean_summary, references


@dataclass(frozen=True)
class Reward:
    """Mean of a reward model's scores, or the share of answers it prefers to the reference (a tie counts one half)."""

    needs: ClassVar[tuple[str, ...]] = ("reward",)

    model: str
    """The run or folder of a reward model (method: reward).

    보상 모델의 실행 폴더입니다(method: reward)."""
    against: Literal["nothing", "reference"] = "nothing"
    """nothing = the reward itself; reference = whether it is higher than that of the reference answer.

    nothing은 보상 그대로, reference는 기준 답의 보상보다 높은지를 봅니다."""

    def check(self, row: Mapping[str, Any]) -> None:
        """A row without a reference cannot be compared with one."""
        if self.against == "reference":
            references(row)

    def score(
        self,
        prediction: str,
        row: Mapping[str, Any],
        reward: Callable[[Sequence[Mapping[str, Any]], Sequence[str]], list[float]],
    ) -> dict[str, float]:
        """reward  (rows, texts) -> a number each, as evals/reward.py gives it"""
        if self.against == "nothing":
            return {"score": reward([row], [prediction])[0]}
        others = references(row)
        # each once: an answer that is the reference ties, to the last bit
        texts = list(dict.fromkeys([prediction, *others]))
        found = dict(zip(texts, reward([row] * len(texts), texts), strict=True))
        own, best = found[prediction], max(found[text] for text in others)
        return {"score": (float(own > best) + float(own >= best)) / 2, "reward": own, "reference_reward": best}

    def summary(self, values: Sequence[Any]) -> Summary:
        """Mean with its interval."""
        return mean_summary(values, bounds=(0.0, 1.0) if self.against == "reference" else None)
