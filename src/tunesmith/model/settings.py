"""Settings of generation: the section `generate` of a project file.

generate:
  max_tokens: 64
  temperature: 0
"""

from dataclasses import dataclass
from typing import Literal

from tunesmith.core.errors import SettingError
from tunesmith.core.limits import above, at_least, between


@dataclass(frozen=True)
class GenerateSettings:
    """How answers are sampled. The defaults are greedy and repeatable."""

    max_tokens: int = 128
    """Longest answer in tokens. Prompt and answer together must fit the model's context.

    답의 최대 토큰 수. 프롬프트와 답을 합해 모델의 문맥 길이 안에 들어야 합니다."""

    temperature: float = 0.0
    """0 = always the likeliest token, repeatable; 1 = as the model's probabilities say; higher = more varied
    (Ackley, Hinton & Sejnowski 1985).

    0이면 항상 가장 그럴듯한 토큰으로 매번 같고, 1이면 모델의 확률대로, 높을수록 다양합니다."""

    top_p: float = 1.0
    """Sample only from the smallest set of tokens whose probabilities add up to this (Holtzman et al. 2020).

    확률의 합이 이 값이 되는 가장 작은 토큰 집합에서만 뽑습니다."""

    stop: tuple[str, ...] = ()
    """Texts that end an answer, also when they span several tokens; they are not part of it.

    답을 끝내는 문자열. 여러 토큰에 걸쳐 있어도 찾으며, 답에는 들어가지 않습니다."""

    frequency_penalty: float = 0.0
    """Taken from a token's logit once for each time it is already in the answer (after Keskar et al. 2019, arXiv 1909.05858; as OpenAI's API).

    답에 이미 나온 횟수만큼 그 토큰의 로짓에서 뺍니다."""

    presence_penalty: float = 0.0
    """Taken from a token's logit once when it is already in the answer, however often (after Keskar et al. 2019, arXiv 1909.05858).

    답에 이미 나온 토큰이면 횟수와 상관없이 로짓에서 한 번 뺍니다."""

    seed: int | None = None
    """Start of the random numbers; each answer has its own from it. Null = the project's seed.

    난수의 시작. 답마다 여기서 만든 자기 난수를 씁니다. null이면 프로젝트의 seed."""

    batch: int = 32
    """Most answers generated at the same time; it never changes them.

    동시에 만드는 답의 최대 수. 답은 바뀌지 않습니다."""

    def __post_init__(self) -> None:
        at_least("generate.max_tokens", self.max_tokens, 1)
        at_least("generate.temperature", self.temperature, 0)
        above("generate.top_p", self.top_p, 0)
        between("generate.top_p", self.top_p, 0, 1)
        between("generate.frequency_penalty", self.frequency_penalty, -2, 2)
        between("generate.presence_penalty", self.presence_penalty, -2, 2)
        at_least("generate.batch", self.batch, 1)
        if "" in self.stop:
            raise SettingError("generate.stop has an empty text.", wanted="Texts of one letter or more.")


@dataclass(frozen=True)
class RopeSettings:
    """A longer context for a model with rotary positions; see model/rope.py."""

    kind: Literal["linear", "ntk", "yarn"] = "yarn"
    """How positions are made to reach farther: linear (Chen et al. 2023), ntk (NTK-aware), yarn (Peng et al. 2023,
    arXiv 2309.00071; needs least tuning).

    위치를 더 멀리 닿게 하는 방법: linear(모두 나누기), ntk(느린 진동수만 늦추기), yarn(가장 적게 다시 배우면 되는 방법)."""

    factor: float = 2.0
    """How many times as long the context becomes. Short texts may get a little worse: compare before and after.

    문맥이 몇 배로 길어지는지. 짧은 글의 점수가 조금 나빠질 수 있으니 전후를 비교하세요."""

    def __post_init__(self) -> None:
        at_least("rope.factor", self.factor, 1)
