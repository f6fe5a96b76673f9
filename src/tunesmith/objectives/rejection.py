"""Rejection sampling: draw n answers to each prompt, keep the best by a reward or a check, fine-tune on those, again.

Rows are prompts. The loss is that of sft on the answers kept: no policy gradient, no value head, no reference model, so it is
the steadiest of the methods that sample (Nakano et al. 2021, arXiv 2112.09332; Touvron et al. 2023, arXiv 2307.09288, section
3.2.3; with a check in place of a reward model: STaR, Zelikman et al. 2022, arXiv 2203.14465). Use it first when answers can
be scored; it can only spread what the model already says now and then.

Formula: keep argmax of reward over the n answers y; loss = -sum over the tokens of the kept ones of log p(token | those
before it) / their number.

거절 샘플링: 질문마다 답을 n개 뽑아 보상(또는 확인)에서 가장 좋은 것만 남기고, 그것으로 지도 미세 조정을 되풀이합니다. 강화 학습보다
안정적입니다. 모델이 이미 가끔 내는 좋은 답을 늘 내게 만듭니다.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from tunesmith.core.errors import SettingError
from tunesmith.objectives import _rollouts as rollouts
from tunesmith.objectives._contract import Loss
from tunesmith.objectives.sft import Sft
from tunesmith.text.example import Unit, together


@dataclass(frozen=True)
class Rejection:
    """Cross-entropy of the best of n sampled answers, averaged over the tokens of a step."""

    reward: Any = "exact_match"
    """What decides: a metric, {model: RUN} for a reward model, or a list of these, each perhaps {of: ..., weight: 2}.

    무엇으로 고를지: 지표, 보상 모델 {model: 실행}, 또는 이들의 목록(각각 {of: ..., weight: 2}처럼 가중치 가능)."""

    hidden: Any = None
    """A metric that is measured on the same answers and decides nothing: it shows when the reward is gamed.

    같은 답에서 재기만 하는 지표. 보상만 오르고 이것이 떨어지면 보상 해킹입니다."""

    n: int = 8
    """Answers to each prompt.

    질문마다 뽑는 답의 수."""

    keep: int = 1
    """How many of them are learned, at most; equal texts count once.

    그중 학습할 답의 최대 수. 같은 글은 한 번만 셉니다."""

    threshold: float | None = None
    """Least reward of an answer that is learned: 1 with a metric of 0 and 1 is a check. Null = the best, however bad.

    학습할 답의 최소 보상. 0과 1인 지표에 1을 주면 정답 확인이 됩니다. null이면 아무리 나빠도 가장 좋은 답을 씁니다."""

    temperature: float = 1.0
    """Answers are drawn at it.

    답을 뽑는 온도."""

    max_tokens: int = 128
    """Most tokens of an answer; one that was cut there is not learned.

    답의 최대 토큰 수. 여기서 잘린 답은 배우지 않습니다."""

    reuse: int = 1
    """Passes over the answers kept before new ones are drawn.

    남긴 답을 몇 번 학습한 뒤 새로 뽑을지."""

    collect_size: int | None = None
    """Prompts answered in a round. Null = the batch size.

    한 번에 답을 뽑을 질문 수. null이면 배치 크기."""

    shape: ClassVar[tuple[str, ...]] = ("prompt", "chat")
    per: ClassVar[Mapping[str, str]] = {"answer": "whole"}
    helpers: ClassVar[tuple[str, ...]] = ("sampler", "reward")
    figures: ClassVar[Mapping[str, str]] = {
        **Sft.figures,
        "reward": "mean reward of all sampled answers\n\n뽑은 모든 답의 평균 보상",
        "reward_kept": "mean reward of the answers kept\n\n남긴 답의 평균 보상",
        "kept": "share of sampled answers that are learned\n\n뽑은 답 가운데 배우는 답의 비율",
        "without": "share of prompts to which no answer was good enough\n\n충분히 좋은 답이 없던 질문의 비율",
        "length": "mean tokens of all sampled answers, their ends included\n\n"
        "뽑은 모든 답의 평균 토큰 수(끝 토큰 포함)",
        "truncated": "share of sampled answers that were cut at max_tokens before they ended\n\n"
        "끝나기 전에 max_tokens에서 잘린 답의 비율",
        "repetition": rollouts.FIGURES["repetition"],
        **rollouts.HIDDEN,
    }

    def __post_init__(self) -> None:
        rollouts.check_sampling(self.n, 1, self.temperature, 1.0, self.max_tokens, self.reuse)
        if not 1 <= self.keep <= self.n:
            raise SettingError(f"keep is {self.keep}, n is {self.n}.", wanted="keep between 1 and n.")

    def units(self, row: Mapping[str, Any], text: Any, draw: np.random.Generator) -> list[Unit]:
        """The row's prompt."""
        return rollouts.prompts(row, text, self.max_tokens)

    def collect(self, policy: Any, prompts: Sequence[Unit], sampler: Any, reward: Any, helpers: Any) -> list[Unit]:
        """One Unit for each prompt: its best answers; where none is good enough, one on which nothing is trained."""
        hidden = rollouts.hidden_of(helpers, self.hidden)
        return [self._best(group) for group in rollouts.answered(prompts, sampler, reward, self.n, hidden)]

    def _best(self, group: rollouts.Answered) -> Unit:
        chosen: list[int] = []
        for i in sorted(range(len(group.answers)), key=lambda i: -group.rewards[i]):  # equal rewards: the first drawn
            good = self.threshold is None or group.rewards[i] >= self.threshold
            new = all(group.answers[i].text != group.answers[j].text for j in chosen)
            if good and new and group.answers[i].finish != "length" and len(chosen) < self.keep:
                chosen.append(i)
        lengths = [len(answer.ids) for answer in group.answers]
        facts = {
            "all_reward": float(np.mean(group.rewards)),
            "all_length": float(np.mean(lengths)),
            "all_truncated": float(np.mean([answer.finish == "length" for answer in group.answers])),
            "all_repetition": float(np.mean([rollouts.repetition(answer.ids) for answer in group.answers])),
            "kept": len(chosen) / len(group.answers),
            "part": 1.0 / max(1, len(chosen)),  # what is said of a prompt counts once, however many Examples it has
        }
        if group.hidden:
            facts["all_hidden"] = float(np.mean(group.hidden))
        examples = []
        for i in chosen or [0]:
            whole = float(lengths[i]) if chosen else rollouts.NOTHING
            own = {"reward": group.rewards[i], "good": float(bool(chosen)), "whole": whole}
            examples.append(rollouts.example(group.ids, group.answers[i], {}, {**own, **facts}, trained=bool(chosen)))
        return together(examples, group.prompt.origin)

    def loss(self, policy: Any, batch: Any, helpers: Any) -> Loss:
        """That of sft, and what was sampled."""
        learned = Sft().loss(policy, batch, helpers)
        columns = batch.columns
        part, good = columns["part"], columns["good"]
        names = [name.removeprefix("all_") for name in columns if name.startswith("all_")]
        every = {name: ((columns[f"all_{name}"] * part).sum(), part.sum()) for name in sorted(names)}
        return Loss(
            learned.terms,
            {
                **learned.stats,
                **every,
                "reward_kept": ((columns["reward"] * good).sum(), good.sum()),
                "kept": ((columns["kept"] * part).sum(), part.sum()),
                "without": (((1.0 - good) * part).sum(), part.sum()),
            },
            learned.per_target,
        )
