"""The cases, the pairs both sides get, and what TRL is allowed to try. Needs numpy only.

pairs(work, 480)      # [(prompt ids, chosen ids, rejected ids), ...], each side at most 256 tokens with its prompt
"""

from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path

from benchmarks.training_speed.rows import load

STEP_PAIRS = 16
CUT = 256
PROMPT_SHARE = 0.5


@dataclass(frozen=True)
class Case:
    """A method with an adapter, fp32, on a model of a size of training_speed. `options` are tried, the fastest is timed."""

    method: str
    adapter: str
    options: tuple[str, ...]
    size: str = "10M"

    @property
    def name(self) -> str:
        """As typed on the command line."""
        return f"{self.method}-{self.adapter}" + (f"-{self.size}" if self.size != "10M" else "")

    def as_dict(self) -> dict[str, object]:
        """For the workers and the results."""
        return asdict(self)


# What a peer is given beside its defaults: TRL, and under its own name LLaMA-Factory.
OPTIONS: dict[str, dict[str, object]] = {
    "live": {},
    "precomputed": {"precompute_ref_log_probs": True},
    "live_padding_free": {"padding_free": True},
    "precomputed_padding_free": {"precompute_ref_log_probs": True, "padding_free": True},
    "generate": {},
    "generate_32x4": {"per_device_train_batch_size": 32, "gradient_accumulation_steps": 4},
    "padded": {},
    "llamafactory": {},
    "llamafactory_8x2": {"per_device_train_batch_size": STEP_PAIRS // 2, "gradient_accumulation_steps": 2},
    "padded_8x2": {"per_device_train_batch_size": STEP_PAIRS // 2, "gradient_accumulation_steps": 2},
}
_DPO = ("live", "precomputed", "live_padding_free", "precomputed_padding_free", "llamafactory", "llamafactory_8x2")
_REWARD = ("padded", "padded_8x2")
_ROLLOUTS = ("generate", "generate_32x4")
CASES = tuple(
    Case(method, adapter, options)
    for method, options in (("dpo", _DPO), ("reward", _REWARD), ("grpo", _ROLLOUTS), ("gkd", _ROLLOUTS))
    for adapter in ("lora", "full")
) + tuple(Case("dpo", adapter, _DPO, size) for size in ("30M", "100M") for adapter in ("lora", "full"))

# Rollouts: prompts a step, answers to each, most tokens of a prompt and of an answer.
STEP_PROMPTS, ANSWERS, PROMPT_TOKENS, ANSWER_TOKENS = 16, 8, 48, 48
KL = 0.04  # weight of the KL term to the start: both sides run a reference


def paid(text: str) -> float:
    """The reward of both sides: the share of letters in an answer. Cheap, and different from answer to answer."""
    return sum(sign.isalpha() for sign in text) / max(1, len(text))


def prompts(work: Path, num: int) -> list[list[int]]:
    """The beginnings of `num` rows."""
    rows = [row for row in load(work, cut=CUT, num=2 * num + 64) if len(row) >= 8]
    return [row[:PROMPT_TOKENS] for row in rows[:num]]


def pairs(work: Path, num: int) -> list[tuple[list[int], list[int], list[int]]]:
    """The first `num` pairs: of each row its first half is the prompt, its second half one answer, the next row's end the other."""
    rows = [row for row in load(work, cut=CUT, num=2 * num + 64) if len(row) >= 8]
    found = []
    for row, other in pairwise(rows):
        half = max(2, int(len(row) * PROMPT_SHARE))
        room = CUT - half
        found.append((row[:half], row[half:], other[-min(room, max(2, len(other) // 2)) :]))
    return found[:num]
