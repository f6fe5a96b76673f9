"""PPO: reinforcement learning from a reward, one step at a time, held near the model it started from.

Rows are prompts. Each answer's reward comes at its end, less a KL penalty at every token; a value head on the model foretells
it, generalised advantage estimation (Schulman et al. 2016, arXiv 1506.02438) says how much better each token was than foretold,
and a clipped step is taken (Schulman et al. 2017, arXiv 1707.06347; for language models Ziegler et al. 2019, arXiv 1909.08593,
and Ouyang et al. 2022, arXiv 2203.02155, step 3). Use it with a reward model where single tokens should be credited; grpo and
rejection are simpler and steadier.

Formula: loss = -min(ratio A, clip(ratio, 1 - clip, 1 + clip) A) + value_weight x (V - return)^2 / 2 per token, ratio =
p / p_when_sampled, and A the sum over later tokens of (gamma lambda)^k (reward + gamma V_next - V).

PPO: 보상으로 강화 학습하되 시작 모델에서 멀어지지 않게 합니다. 답 끝에 보상을, 토큰마다 KL 벌점을 주고, 가치 헤드의 예측보다 나았던 토큰을
조금씩 더 나오게 합니다. kl_target은 KL을 목표에 맞추고, kl_limit을 넘으면 되돌아오는 것만 배웁니다.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch

from tunesmith.core.errors import SettingError
from tunesmith.objectives import _rollouts as rollouts
from tunesmith.objectives._contract import Loss
from tunesmith.text.example import Unit, together


@dataclass(frozen=True)
class Ppo:
    """Clipped policy and value losses over generalised advantages, with a KL penalty that finds its own weight."""

    reward: Any = "exact_match"
    """What is paid for: a metric, {model: RUN} for a reward model, or a list of these, each perhaps {of: ..., weight: 2}.

    무엇에 보상을 줄지: 지표, 보상 모델 {model: 실행}, 또는 이들의 목록(각각 {of: ..., weight: 2}처럼 가중치 가능)."""

    hidden: Any = None
    """A metric that is measured on the same answers and never paid for: it shows when the reward is gamed.

    같은 답에서 재기만 하고 보상하지 않는 지표. 보상만 오르고 이것이 떨어지면 보상 해킹입니다."""

    n: int = 1
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

    truncated_penalty: float = 0.0
    """Taken from the reward of an answer that was cut at max_tokens.

    max_tokens에서 잘린 답의 보상에서 빼는 값."""

    kl: float = 0.05
    """Penalty for each nat of log p over the starting model's, taken at every token; where kl_target is set, its first value.

    시작 모델보다 log p가 커진 만큼(냇) 토큰마다 빼는 벌점. kl_target이 있으면 그 시작값."""

    kl_target: float | None = None
    """KL divergence of a whole answer, in nats, that the penalty is steered to. Null = the penalty stays as it is.

    답 하나의 KL(냇)이 이 값이 되도록 벌점을 조절합니다. null이면 벌점이 고정됩니다."""

    kl_gain: float = 0.1
    """How fast it is steered: the penalty changes by at most a fifth of this share a step (Ziegler et al. 2019, section 2.2).

    조절 속도. 한 스텝에 벌점이 이 값의 1/5 비율까지 변합니다."""

    kl_limit: float | None = None
    """KL of a whole answer, in nats, beyond which the reward is not followed: such a step only leads back to the start. Null = the
    run only warns, beyond 10.

    답 하나의 KL(냇) 한도. 넘으면 보상을 따르지 않고 시작 모델 쪽으로 돌아가는 것만 배웁니다. null이면 10을 넘을 때 경고만 합니다."""

    gamma: float = 1.0
    """Discount of later rewards, per token.

    토큰마다 나중 보상을 줄이는 비율."""

    lam: float = 0.95
    """Lambda of generalised advantage estimation: 0 trusts the value head, 1 the reward.

    GAE의 람다. 0이면 가치 헤드를, 1이면 보상을 믿습니다."""

    clip: float = 0.2
    """A token whose probability moved by more than this share since sampling no longer pulls in that direction.

    뽑을 때보다 확률이 이 비율 넘게 변한 토큰은 그 방향으로 더 당기지 않습니다."""

    value_clip: float | None = 0.2
    """Values may move this far from those at sampling before they stop pulling. Null = no limit.

    가치 예측이 뽑을 때보다 이만큼 넘게 변하면 더 당기지 않습니다. null이면 한도가 없습니다."""

    value_weight: float = 0.1
    """Weight of the value loss.

    가치 손실의 가중치."""

    whiten: bool = True
    """Advantages of a step are brought to mean 0 and deviation 1.

    스텝의 이득을 평균 0, 표준편차 1로 맞춥니다."""

    reuse: int = 4
    """Passes over the collected answers before new ones are drawn.

    모은 답을 몇 번 학습한 뒤 새로 뽑을지."""

    collect_size: int | None = None
    """Prompts answered in a round. Null = the batch size.

    한 번에 답을 뽑을 질문 수. null이면 배치 크기."""

    shape: ClassVar[tuple[str, ...]] = ("prompt", "chat")
    kl_warn: ClassVar[float] = 10.0  # what is watched where kl_limit is null: the far end of Ziegler et al.'s targets
    per: ClassVar[Mapping[str, str]] = {"policy": "tokens", "back": "tokens", "value": "tokens"}
    helpers: ClassVar[tuple[str, ...]] = ("reference", "sampler", "reward")
    heads: ClassVar[tuple[str, ...]] = ("lm", "value")
    figures: ClassVar[Mapping[str, str]] = {
        **rollouts.FIGURES,
        **rollouts.HIDDEN,
        "kl": "mean KL divergence of an answer from the starting model when it was drawn, k3 estimate over its tokens, in nats\n\n"
        "답을 뽑을 때 시작 모델과의 평균 KL(토큰에 대한 k3 추정, 냇)",
        "moved": "mean KL divergence of a token from the policy that drew it to the one that is trained, in nats\n\n"
        "뽑은 정책에서 학습 중인 정책까지 토큰의 평균 KL(냇)",
        "penalty": "weight of the KL penalty in the reward\n\n보상에서 빼는 KL 벌점의 가중치",
        "over": "1 when the step before was over kl_limit, so that this one only led back\n\n"
        "앞 스텝이 kl_limit을 넘어 이 스텝은 되돌아오기만 했으면 1",
        "ratio": "mean probability ratio of the sampled tokens, now over when sampled; 1 in the first pass\n\n"
        "뽑은 토큰의 확률이 뽑을 때보다 몇 배인지의 평균. 첫 학습에서는 1",
        "clipped": "share of tokens whose gradient is cut off by clip\n\nclip에 걸려 기울기가 끊긴 토큰의 비율",
        "value_loss": "half the mean squared error of the value head, clipped as it is trained\n\n"
        "가치 헤드의 평균 제곱 오차의 절반(학습할 때처럼 자른 값)",
        "entropy": "mean -log p of the sampled tokens: an estimate of the policy's entropy, in nats\n\n"
        "뽑은 토큰의 평균 -log p: 정책 엔트로피의 추정(냇)",
    }

    def __post_init__(self) -> None:
        rollouts.check_sampling(self.n, 1, self.temperature, self.top_p, self.max_tokens, self.reuse)
        if not (0 <= self.gamma <= 1 and 0 <= self.lam <= 1):
            raise SettingError(f"gamma is {self.gamma}, lam is {self.lam}.", wanted="Both between 0 and 1.")
        if self.kl < 0 or not 0 < self.clip < 1 or (self.value_clip is not None and self.value_clip <= 0):
            raise SettingError(
                f"kl is {self.kl}, clip is {self.clip}, value_clip is {self.value_clip}.",
                wanted="kl 0 or more, clip between 0 and 1, value_clip above 0 or null.",
            )
        for name, value in (("kl_target", self.kl_target), ("kl_limit", self.kl_limit), ("kl_gain", self.kl_gain)):
            if value is not None and value <= 0:
                raise SettingError(f"{name} is {value}.", wanted="More than 0, or null.")
        if self.kl_target is not None and self.kl == 0:
            raise SettingError(
                f"kl_target is {self.kl_target} and kl is 0, which no share of it can raise.",
                fix="Set kl to its first value: kl=0.05",
            )

    def units(self, row: Mapping[str, Any], text: Any, draw: np.random.Generator) -> list[Unit]:
        """The row's prompt."""
        return rollouts.prompts(row, text, self.max_tokens)

    def start(self) -> dict[str, float]:
        """penalty: the weight of KL in the reward; over: 1 after a step beyond kl_limit."""
        return {"penalty": self.kl, "over": 0.0}

    def after(self, state: Mapping[str, float], figures: Mapping[str, float]) -> dict[str, float]:
        """Steer the penalty towards kl_target; remember whether kl_limit was passed."""
        penalty = state["penalty"]
        if self.kl_target is not None:
            error = min(max(figures["kl"] / self.kl_target - 1.0, -0.2), 0.2)
            penalty *= 1.0 + self.kl_gain * error
        return {"penalty": penalty, "over": float(self.kl_limit is not None and figures["kl"] > self.kl_limit)}

    def collect(self, policy: Any, prompts: Sequence[Unit], sampler: Any, reward: Any, helpers: Any) -> list[Unit]:
        """One Unit for each prompt: its answers, with advantages, returns and what policy and value head said of them."""
        hidden = rollouts.hidden_of(helpers, self.hidden)
        groups = rollouts.answered(prompts, sampler, reward, self.n, hidden)
        units = []
        for group in groups:
            examples = []
            for i, answer in enumerate(group.answers):
                facts = {"reward": group.rewards[i], **({"hidden": group.hidden[i]} if group.hidden else {})}
                examples.append(rollouts.example(group.ids, answer, {"old": answer.sampled_logprobs}, facts))
            units.append(together(examples, group.prompt.origin))
        own = rollouts.own_logprobs(policy, self.temperature)
        reference = rollouts.reference(helpers, self.temperature)
        start, values, *drawn = rollouts.look(policy, units, reference, _values(policy), *own)
        units = rollouts.with_columns(
            units, {"reference": start, "value": values, **({"old": drawn[0]} if own else {})}
        )
        advantages, returns = [], []
        collected = [example for unit in units for example in unit.examples]
        for example, before, value in zip(collected, start, values):
            old = example.columns["old"][example.weights > 0]
            paid = -helpers.state["penalty"] * (old - before)
            paid[-1] += example.columns["reward"] - self.truncated_penalty * example.columns["truncated"]
            advantage = gae(paid, value, self.gamma, self.lam)
            advantages.append(advantage)
            returns.append(advantage + value)
        return rollouts.with_columns(units, {"advantage": advantages, "return": returns})

    def shared(self, policy: Any, batch: Any, helpers: Any) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
        """What whitening needs of the whole step: the mean of the advantages and of their squares."""
        advantage, count = batch.columns["advantage"].double(), batch.weight.double().sum()
        return {"advantage": (advantage.sum(), count), "squared": (advantage.square().sum(), count)}

    def loss(self, policy: Any, batch: Any, helpers: Any) -> Loss:
        """Clipped policy and value losses; after a step over kl_limit, the way back instead of the policy's."""
        columns, weight = batch.columns, batch.weight
        hidden = policy.predicting(batch)
        logp = policy.logprobs(batch, self.temperature, hidden=hidden)
        value = policy.values(hidden)
        ratio = (logp - columns["old"]).exp()
        gain, away = rollouts.clipped_gain(ratio, self._whitened(columns["advantage"], helpers), self.clip, self.clip)
        wrong = (value - columns["return"]).square()
        if self.value_clip is not None:
            near = columns["value"] + (value - columns["value"]).clamp(-self.value_clip, self.value_clip)
            wrong = torch.maximum(wrong, (near - columns["return"]).square())
        wrong = 0.5 * wrong
        over = helpers.state["over"]
        ones, answers = torch.ones_like(logp), torch.ones_like(columns["reward"])
        now = logp.detach()
        # the gradient of half the squared log-ratio is that of KL(policy || start) at the policy's own answers
        back = 0.5 * (logp - columns["reference"]).square()
        return Loss(
            {
                "policy": -(1.0 - over) * (gain * weight).sum(),
                "back": over * (back * weight).sum(),
                "value": self.value_weight * (wrong * weight).sum(),
            },
            {
                **rollouts.common_stats(batch),
                "kl": (rollouts.k3(columns["old"], columns["reference"]).sum(), answers.sum()),
                "moved": (rollouts.k3(columns["old"], now).sum(), ones.sum()),
                "penalty": (helpers.state["penalty"] * answers.sum(), answers.sum()),
                "over": (over * answers.sum(), answers.sum()),
                "ratio": (ratio.detach().sum(), ones.sum()),
                "clipped": (away.float().sum(), ones.sum()),
                "value_loss": (wrong.detach().sum(), ones.sum()),
                "entropy": (-now.sum(), ones.sum()),
            },
            now,
        )

    def _whitened(self, advantage: torch.Tensor, helpers: Any) -> torch.Tensor:
        if not self.whiten:
            return advantage
        mean = helpers.shared["advantage"]
        spread = (helpers.shared["squared"] - mean.square()).clamp_min(0.0)
        return (advantage - mean) * torch.rsqrt(spread + 1e-8)


def gae(rewards: np.ndarray, values: np.ndarray, gamma: float, lam: float) -> np.ndarray:
    """Advantage of each token: the discounted sum of reward + gamma V(next) - V, backwards; nothing is foretold after the end.

    >>> gae(np.array([0.0, 1.0]), np.array([0.5, 0.5]), 1.0, 1.0)
    array([0.5, 0.5])
    """
    out = np.zeros(len(rewards), dtype=np.float64)
    later = following = 0.0
    for i in range(len(rewards) - 1, -1, -1):
        later = rewards[i] + gamma * following - values[i] + gamma * lam * later
        following = values[i]
        out[i] = later
    return out


def _values(policy: Any) -> Any:
    """batch -> what the value head says before each trained-on token."""
    return lambda batch: policy.values(policy.predicting(batch))
