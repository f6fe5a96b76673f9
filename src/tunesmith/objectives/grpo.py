"""GRPO: sample a group of answers to each prompt, raise those that score above their group's mean.

Rows are prompts, or chats whose last answer is the reference for the metric. The reward is any metric or a reward model; no
value head is needed, the group is its own baseline (Shao et al. 2024, arXiv 2402.03300). With them the corrections found
since: `dapo` and clip_high (Yu et al. 2025, arXiv 2503.14476), `dr_grpo` (Liu et al. 2025, arXiv 2503.20783), ratios of whole
answers (Zheng et al. 2025, GSPO, arXiv 2507.18071). Use it where an answer can be checked or scored and good ones already
come up among a few tries.

Formula: loss = -min(ratio A, clip(ratio, 1 - clip, 1 + clip_high) A) + kl x KL to the start, per token, with A =
(reward - mean of its group) / its spread and ratio = p / p_when_sampled.

GRPO: 한 질문에 답을 여러 개 뽑고, 그 묶음의 평균보다 점수가 높은 답은 더, 낮은 답은 덜 나오게 합니다. 보상은 지표나 보상 모델 무엇이든
됩니다. 가치 모델이 필요 없습니다. 정답을 확인하거나 점수를 매길 수 있고, 몇 번 뽑으면 좋은 답이 나올 때 씁니다.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import torch

from tunesmith.core.errors import SettingError
from tunesmith.objectives import _rollouts as rollouts
from tunesmith.objectives._contract import Loss
from tunesmith.text.example import Unit, together


@dataclass(frozen=True)
class Grpo:
    """Clipped policy gradient with advantages within each prompt's group of answers, and a KL term to the start."""

    reward: Any = "exact_match"
    """What is paid for: a metric, {model: RUN} for a reward model, or a list of these, each perhaps {of: ..., weight: 2}.

    무엇에 보상을 줄지: 지표, 보상 모델 {model: 실행}, 또는 이들의 목록(각각 {of: ..., weight: 2}처럼 가중치 가능)."""

    hidden: Any = None
    """A metric that is measured on the same answers and never paid for: it shows when the reward is gamed.

    같은 답에서 재기만 하고 보상하지 않는 지표. 보상만 오르고 이것이 떨어지면 보상 해킹입니다."""

    n: int = 8
    """Answers to each prompt.

    질문마다 뽑는 답의 수."""

    temperature: float = 1.0
    """Answers are drawn at it, and their probabilities are taken at it in training.

    답을 뽑는 온도. 학습할 때의 확률도 같은 온도로 계산합니다."""

    top_p: float = 1.0
    """Stays 1: what a cut distribution draws would be weighed wrongly.

    1이어야 합니다. 잘라 낸 분포에서 뽑으면 확률비가 틀어집니다."""

    max_tokens: int = 128
    """Most tokens of an answer.

    답의 최대 토큰 수."""

    kl: float = 0.04
    """Weight of the KL divergence to the starting model in the loss; 0 = it is only measured.

    처음 모델과의 KL을 손실에 더하는 가중치. 0이면 재기만 합니다."""

    kl_limit: float | None = 0.2
    """KL per token, in nats, beyond which the run warns that it is far from its start; nothing else changes. Null = it never does.

    토큰마다의 KL(냇)이 이 값을 넘으면 시작 모델에서 멀어졌다고 경고합니다. 학습은 그대로입니다. null이면 경고하지 않습니다."""

    clip: float = 0.2
    """A token whose probability moved by more than this share since sampling no longer pulls in that direction.

    뽑을 때보다 확률이 이 비율 넘게 변한 토큰은 그 방향으로 더 당기지 않습니다."""

    clip_high: float | None = None
    """The same limit upwards, where it differs (DAPO: 0.28). Null = clip.

    위쪽 한도를 따로 둘 때(DAPO는 0.28). null이면 clip과 같습니다."""

    normalise: Literal["grpo", "bnpo", "dapo", "dr_grpo"] = "dapo"
    """What a token counts: dapo and bnpo: every token of the step the same; grpo: every answer the same, whatever its length;
    dr_grpo: as dapo, over answers x max_tokens. A step is never divided by its passes, which is all that bnpo adds in TRL.

    손실을 나누는 방법. dapo·bnpo: 스텝의 모든 토큰이 같은 무게, grpo: 답마다 같은 무게, dr_grpo: 답 수 x max_tokens로 나눔."""

    scale: Literal["group", "none"] = "group"
    """Advantages are divided by the standard deviation of their group's rewards, or not at all (Dr. GRPO).

    이득을 묶음 보상의 표준편차로 나누거나(group), 나누지 않습니다(none, Dr. GRPO)."""

    ratio: Literal["token", "sequence"] = "token"
    """Probability ratios of each token, or of whole answers (geometric mean, GSPO).

    확률비를 토큰마다, 또는 답 전체(기하평균, GSPO)로 계산합니다."""

    mask_truncated: bool = False
    """Answers cut at max_tokens teach nothing (DAPO's overlong filter); they still count in their group's mean.

    max_tokens에서 잘린 답은 학습하지 않습니다. 묶음 평균에는 들어갑니다."""

    reuse: int = 1
    """Passes over the collected answers before new ones are drawn.

    모은 답을 몇 번 학습한 뒤 새로 뽑을지."""

    collect_size: int | None = None
    """Prompts answered in a round. Null = the batch size.

    한 번에 답을 뽑을 질문 수. null이면 배치 크기."""

    shape: ClassVar[tuple[str, ...]] = ("prompt", "chat")
    per: ClassVar[Mapping[str, str]] = {"policy": "whole", "kl": "whole"}
    helpers: ClassVar[tuple[str, ...]] = ("reference", "sampler", "reward")
    figures: ClassVar[Mapping[str, str]] = {
        **rollouts.FIGURES,
        **rollouts.HIDDEN,
        "spread": "standard deviation of the rewards within a group, averaged; at 0 there is nothing to learn\n\n"
        "묶음 안 보상의 표준편차 평균. 0이면 배울 것이 없습니다",
        "flat": "share of answers whose whole group got one reward: they have no gradient\n\n"
        "묶음 전체가 같은 보상을 받아 기울기가 없는 답의 비율",
        "kl": "mean KL divergence to the starting model per token, k3 estimate, in nats\n\n"
        "시작 모델과의 토큰당 평균 KL(k3 추정, 냇)",
        "ratio": "mean probability ratio of the sampled tokens, now over when sampled; 1 in the first pass\n\n"
        "뽑은 토큰의 확률이 뽑을 때보다 몇 배인지의 평균. 첫 학습에서는 1",
        "clipped": "share of tokens whose gradient is cut off by clip\n\nclip에 걸려 기울기가 끊긴 토큰의 비율",
        "entropy": "mean -log p of the sampled tokens: an estimate of the policy's entropy, in nats\n\n"
        "뽑은 토큰의 평균 -log p: 정책 엔트로피의 추정(냇)",
    }

    def __post_init__(self) -> None:
        rollouts.check_sampling(self.n, 2, self.temperature, self.top_p, self.max_tokens, self.reuse)
        if self.kl < 0 or not 0 < self.clip < 1 or (self.clip_high is not None and self.clip_high <= 0):
            raise SettingError(
                f"kl is {self.kl}, clip is {self.clip}, clip_high is {self.clip_high}.",
                wanted="kl 0 or more, clip between 0 and 1, clip_high above 0.",
            )
        if self.kl_limit is not None and self.kl_limit <= 0:
            raise SettingError(f"kl_limit is {self.kl_limit}.", wanted="More than 0, or null.")

    def units(self, row: Mapping[str, Any], text: Any, draw: np.random.Generator) -> list[Unit]:
        """The row's prompt."""
        return rollouts.prompts(row, text, self.max_tokens)

    def collect(self, policy: Any, prompts: Sequence[Unit], sampler: Any, reward: Any, helpers: Any) -> list[Unit]:
        """One Unit for each prompt: its n answers, with advantages and the log p they were drawn with."""
        hidden = rollouts.hidden_of(helpers, self.hidden)
        groups = rollouts.answered(prompts, sampler, reward, self.n, hidden)
        units = []
        for group in groups:
            advantage = rollouts.group_advantages(group.rewards, self.scale)
            facts = {
                "spread": float(np.std(group.rewards, ddof=1)),
                "flat": float(max(group.rewards) == min(group.rewards)),
            }
            examples = []
            for i, answer in enumerate(group.answers):
                trained = not (self.mask_truncated and answer.finish == "length")
                share, whole = self._weights(len(answer.ids), trained)
                columns = {"reward": group.rewards[i], "advantage": float(advantage[i]), "share": share, "whole": whole}
                if group.hidden:
                    columns["hidden"] = group.hidden[i]
                old = {"old": answer.sampled_logprobs}
                examples.append(rollouts.example(group.ids, answer, old, {**columns, **facts}, trained=trained))
            units.append(together(examples, group.prompt.origin))
        own = rollouts.own_logprobs(policy, self.temperature)
        found = rollouts.look(policy, units, rollouts.reference(helpers, self.temperature), *own)
        return rollouts.with_columns(units, dict(zip(("reference", "old"), found)))

    def _weights(self, length: int, trained: bool) -> tuple[float, float]:
        """(what each token of an answer counts, what the answer adds to the divisor)."""
        if self.normalise == "grpo":
            return 1.0 / length, 1.0
        if self.normalise == "dr_grpo":
            return 1.0, float(self.max_tokens)
        return 1.0, float(length) if trained else rollouts.NOTHING

    def loss(self, policy: Any, batch: Any, helpers: Any) -> Loss:
        """-min(ratio A, clipped ratio A) and the KL to the start, each token weighed as `normalise` says."""
        columns, high = batch.columns, self.clip if self.clip_high is None else self.clip_high
        logp = policy.logprobs(batch, self.temperature)
        moved = logp - columns["old"]
        if self.ratio == "sequence":
            moved = (batch.per_example(moved) / batch.lengths.clamp_min(1.0))[batch.example]
        ratio = moved.exp()
        share = columns["share"][batch.example]
        gain, away = rollouts.clipped_gain(ratio, columns["advantage"][batch.example], self.clip, high)
        kl = rollouts.k3(logp, columns["reference"])
        terms = {"policy": -(gain * share).sum()}
        if self.kl:
            terms["kl"] = self.kl * (kl * share).sum()
        ones = torch.ones_like(logp)
        answers = torch.ones_like(columns["reward"])
        return Loss(
            terms,
            {
                **rollouts.common_stats(batch),
                "spread": (columns["spread"].sum(), answers.sum()),
                "flat": (columns["flat"].sum(), answers.sum()),
                "kl": (kl.detach().sum(), ones.sum()),
                "ratio": (ratio.detach().sum(), ones.sum()),
                "clipped": (away.float().sum(), ones.sum()),
                "entropy": (-logp.detach().sum(), ones.sum()),
            },
            logp.detach(),
        )
