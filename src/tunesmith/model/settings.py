"""Settings of generation: the section `generate` of a project file.

generate:
  max_tokens: 64
  temperature: 0
"""

from dataclasses import dataclass

from tunesmith.core.errors import SettingError
from tunesmith.core.limits import above, at_least, between


@dataclass(frozen=True)
class GenerateSettings:
    """How answers are sampled. The defaults are greedy and repeatable."""

    max_tokens: int = 128
    """Longest answer in tokens. Prompt and answer together must fit the model's context."""

    temperature: float = 0.0
    """0 = always the likeliest token, repeatable; 1 = as the model's probabilities say; higher = more varied."""

    top_p: float = 1.0
    """Sample only from the smallest set of tokens whose probabilities add up to this (Holtzman et al. 2020)."""

    stop: tuple[str, ...] = ()
    """Texts that end an answer, also when they span several tokens; they are not part of it."""

    frequency_penalty: float = 0.0
    """Taken from a token's logit once for each time it is already in the answer."""

    presence_penalty: float = 0.0
    """Taken from a token's logit once when it is already in the answer, however often."""

    seed: int | None = None
    """Start of the random numbers; each answer has its own from it. Null = the project's seed."""

    batch: int = 32
    """Most answers generated at the same time; it never changes them."""

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
