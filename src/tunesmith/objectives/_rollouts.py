"""What the methods that sample share: prompts out of rows, answers as Examples, group advantages, looking without gradient.

A row is asked (`prompts`), the sampler answers, the reward scores (`answered`), each answer becomes an Example over its prompt
(`example`) whose columns carry what the loss needs later: the log p it was drawn with, reward, advantage. What an answer is
read with - the reference, the value head - is looked up once, when it is collected (`look`), not in every pass over it.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from tunesmith.core.errors import DataError, SettingError, TrainingError
from tunesmith.text.example import Example, Unit, spread
from tunesmith.text.too_long import TooLong

LOOK_TOKENS = 16384  # tokens of a pass without gradient: its memory is the hidden states of one layer
GRAM = 3  # tokens of the n-grams that are counted as repeated
NOTHING = 1e-6  # weight of what nothing is trained on: a step full of it still has something to be divided by

FIGURES = {
    "reward": "mean reward of the sampled answers\n\n뽑은 답의 평균 보상",
    "length": "mean tokens of an answer, its end included\n\n답의 평균 토큰 수(끝 토큰 포함)",
    "truncated": "share of answers that were cut at max_tokens before they ended\n\n"
    "끝나기 전에 max_tokens에서 잘린 답의 비율",
    "repetition": "mean share of an answer's tokens that stand in a three-token run it has said before\n\n"
    "이미 말한 세 토큰 연속에 든 토큰의 평균 비율",
}
HIDDEN = {
    "hidden": "mean of the metric nobody is paid for (setting `hidden`) over the same answers\n\n"
    "같은 답에 대한, 보상에 들지 않는 지표(`hidden` 설정)의 평균"
}


@dataclass(frozen=True, eq=False)
class Answered:
    """A prompt with its answers, the reward of each and, where a hidden metric is watched, its value of each."""

    prompt: Unit
    row: Mapping[str, Any]
    answers: Sequence[Any]  # of model/generate.py
    rewards: Sequence[float]
    hidden: Sequence[float] = ()

    @property
    def ids(self) -> list[int]:
        """The prompt."""
        return self.prompt.examples[0].ids.tolist()


def as_question(row: Mapping[str, Any]) -> dict[str, Any]:
    """The row as it is asked and scored: messages that end with the user's, "answer" = what the assistant said after them.

    >>> as_question({"messages": [{"role": "user", "content": "1+1?"}, {"role": "assistant", "content": "2"}]})
    {'messages': [{'role': 'user', 'content': '1+1?'}], 'answer': '2'}
    """
    messages = list(row["messages"])
    if not messages or messages[-1]["role"] != "assistant":
        return {**row, "messages": messages}
    if len(messages) < 2:
        raise DataError("The row has an answer and no question.", wanted="A user's message before the assistant's.")
    said = row.get("answer")
    return {**row, "messages": messages[:-1], "answer": messages[-1].get("content") or "" if said is None else said}


def prompts(row: Mapping[str, Any], text: Any, max_tokens: int) -> list[Unit]:
    """The row's prompt as a Unit on which nothing is trained, `row` in its columns; max_tokens are kept free for the answer.

    Under too_long: drop a prompt without that room gives no Unit, under trim_prompt its end is kept, else TooLong.
    """
    asked = as_question(row)
    ids = text.prompt(asked["messages"], asked.get("tools"))
    if text.length is not None and len(ids) + max_tokens > text.limit:
        room = text.limit - max_tokens
        if text.too_long == "drop":
            return []
        if text.too_long != "trim_prompt" or room < 2:
            kept = f"{max_tokens} of them are kept for the answer: max_tokens."
            raise TooLong(len(ids) + max_tokens + text.virtual, text.limit, kept)
        ids = text.shortened(ids, room)
    example = Example.of(ids, [0.0] * len(ids))
    return [Unit((example,), origin=row.get("origin", ""), columns={"row": asked})]


def answered(
    units: Sequence[Unit], sampler: Any, reward: Any, n: int, hidden: Callable[..., Sequence[float]] | None = None
) -> list[Answered]:
    """n sampled and scored answers for each prompt. A reward that is no finite number is a TrainingError with its row."""
    groups = sampler([unit.examples[0].ids.tolist() for unit in units], n)
    rows = [unit.columns["row"] for unit, group in zip(units, groups, strict=True) for _ in group]
    texts = [answer.text for group in groups for answer in group]
    rewards = [float(value) for value in reward(rows, texts)]
    for row, text, value in zip(rows, texts, rewards, strict=True):
        if not math.isfinite(value):
            raise TrainingError(
                f"the reward of an answer to {row.get('origin') or 'a row'} is {value}: {text[:80]!r}",
                wanted="A finite number for every answer.",
                fix="Correct the metric or the reward model.",
            )
    watched = [float(value) for value in hidden(rows, texts)] if hidden is not None else []
    out, start = [], 0
    for unit, group in zip(units, groups):
        span = slice(start, start + len(group))
        out.append(Answered(unit, unit.columns["row"], group, rewards[span], watched[span]))
        start += len(group)
    return out


def hidden_of(helpers: Any, spec: Any) -> Callable[..., Sequence[float]] | None:
    """helpers.hidden(rows, texts) where a hidden metric is asked for."""
    return None if spec is None else helpers.hidden


def weighted_reward(spec: Any, make: Callable[[Any], Callable[..., Sequence[float]]]) -> Callable[..., list[float]]:
    """One reward of the setting `reward`: a spec, or a list of specs and {of: spec, weight: w}, weighted and summed.

    make  spec -> reward(rows, texts)
    """
    specs = [part if isinstance(part, Mapping) and "of" in part else {"of": part} for part in _listed(spec)]
    for part in specs:
        if unknown := set(part) - {"of", "weight"}:
            raise SettingError(f"reward has {', '.join(sorted(unknown))}.", wanted="Of each: of (the reward), weight.")
    parts = [(float(part.get("weight", 1.0)), make(part["of"])) for part in specs]

    def total(rows: Sequence[Mapping[str, Any]], texts: Sequence[str]) -> list[float]:
        scored = [[weight * float(value) for value in part(rows, texts)] for weight, part in parts]
        return [sum(values) for values in zip(*scored, strict=True)]

    return total


def _listed(spec: Any) -> list[Any]:
    if isinstance(spec, (list, tuple)):
        if not spec:
            raise SettingError("reward is an empty list.", wanted="At least one metric or reward model.")
        return list(spec)
    return [spec]


def example(
    prompt: Sequence[int],
    answer: Any,
    per_token: Mapping[str, Sequence[float]],
    columns: Mapping[str, float],
    *,
    trained: bool = True,
) -> Example:
    """An answer after its prompt; the answer's tokens are trained on, its end included.

    per_token  {column: one value for each of the answer's tokens}
    columns    numbers of the Example; length, truncated and repetition are added
    """
    before = np.zeros(len(prompt), dtype=np.float32)
    given = {name: np.concatenate([before, np.asarray(v, dtype=np.float32)]) for name, v in per_token.items()}
    facts = {
        "length": float(len(answer.ids)),
        "truncated": float(answer.finish == "length"),
        "repetition": repetition(answer.ids),
    }
    weights = [0.0] * len(prompt) + [float(trained)] * len(answer.ids)
    return Example.of([*prompt, *answer.ids], weights, **given, **facts, **columns)


def repetition(ids: Sequence[int], gram: int = GRAM) -> float:
    """Share of the runs of `gram` tokens that were there before. [1, 2, 3, 1, 2, 3, 1] -> 0.4 (2 of 5)"""
    runs = [tuple(ids[i : i + gram]) for i in range(len(ids) - gram + 1)]
    return 1.0 - len(set(runs)) / len(runs) if runs else 0.0


def group_advantages(rewards: Sequence[float], scale: str) -> np.ndarray:
    """How much better than its group's mean each answer is: rewards minus their mean, over their standard deviation.

    scale  group, or none: not divided (Liu et al. 2025, Dr. GRPO)
    Equal rewards give exactly 0. The deviation is the unbiased one, plus 1e-4, as in TRL.
    """
    values = np.asarray(rewards, dtype=np.float64)
    if len(values) < 2 or values.max() == values.min():
        return np.zeros(len(values))
    away = values - values.mean()
    return away / (values.std(ddof=1) + 1e-4) if scale == "group" else away


# -- looking without gradient ---------------------------------------------------------------------------------------


@contextmanager
def looking(policy: Any) -> Iterator[None]:
    """No gradient, no dropout; every module's own mode is put back after."""
    training = [module for module in policy.net.modules() if module.training]
    policy.net.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module in training:
            module.training = True


def look(policy: Any, units: Sequence[Unit], *values: Callable[[Any], torch.Tensor]) -> list[list[np.ndarray]]:
    """For each of `values` (batch -> (targets,)) and each Example of `units` in order: its trained-on tokens' values."""
    found: list[list[np.ndarray]] = [[] for _ in values]
    with looking(policy):
        for some in _passes(units):
            batch = policy.batch(some)
            counts = [example.num_trained for unit in some for example in unit.examples]
            for kept, value in zip(found, values):
                flat = value(batch).float().cpu().numpy()
                kept.extend(np.split(flat, np.cumsum(counts)[:-1]))
    return found


def with_columns(units: Sequence[Unit], columns: Mapping[str, Sequence[Any]]) -> list[Unit]:
    """The Units with columns added: for each Example in order a number, or the values of its trained-on tokens."""
    out, number = [], 0
    for unit in units:
        examples = []
        for example in unit.examples:
            given = {
                name: spread(values[number], example) if np.ndim(values[number]) else float(values[number])
                for name, values in columns.items()
            }
            examples.append(replace(example, columns={**example.columns, **given}))
            number += 1
        out.append(replace(unit, examples=tuple(examples)))
    return out


def own_logprobs(policy: Any, temperature: float) -> list[Callable[[Any], torch.Tensor]]:
    """In low precision: batch -> the policy's log p, to stand for the sampler's. In full precision: nothing to look up.

    Sampling reads a token at a time, training all at once: in bf16 the two round differently by hundredths, which would
    look like a policy that has moved already.
    """
    precise = next(policy.net.parameters()).dtype in (torch.float32, torch.float64)
    return [] if precise else [lambda batch: policy.logprobs(batch, temperature)]


def reference(helpers: Any, temperature: float) -> Callable[[Any], torch.Tensor]:
    """batch -> log p of its trained-on tokens under the starting state, at the temperature of the answers."""
    if temperature == 1.0:
        return helpers.reference
    return lambda batch: helpers.reference(batch, temperature=temperature)


def _passes(units: Sequence[Unit]) -> Iterator[list[Unit]]:
    held: list[Unit] = []
    size = 0
    for unit in units:
        num = sum(map(len, unit.examples))
        if held and size + num > LOOK_TOKENS:
            yield held
            held, size = [], 0
        held.append(unit)
        size += num
    if held:
        yield held


# -- figures and settings -------------------------------------------------------------------------------------------


def common_stats(batch: Any) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Reward, length, truncated, repetition (and hidden) over the answers of the batch."""
    columns = batch.columns
    ones = torch.ones_like(columns["reward"])
    names = [*FIGURES, *(name for name in HIDDEN if name in columns)]
    return {name: (columns[name].sum(), ones.sum()) for name in names}


def k3(logp: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """Schulman's estimate of KL(p || other) at tokens drawn from p: other/p - log(other/p) - 1, never below 0."""
    gap = other - logp
    return torch.expm1(gap) - gap


def clipped_gain(
    ratio: torch.Tensor, advantage: torch.Tensor, low: float, high: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """(what is maximised, where it is cut): min(ratio A, clip(ratio, 1 - low, 1 + high) A) (Schulman et al. 2017, eq. 7)."""
    cut = ratio.clamp(1 - low, 1 + high)
    away = ((ratio < 1 - low) & (advantage < 0)) | ((ratio > 1 + high) & (advantage > 0))
    return torch.minimum(ratio * advantage, cut * advantage), away


def check_sampling(n: int, least: int, temperature: float, top_p: float, max_tokens: int, reuse: int) -> None:
    """Refuse sampling settings whose log-probabilities the trainer cannot reproduce."""
    if n < least:
        raise SettingError(f"n is {n}.", wanted=f"At least {least} answers to a prompt.")
    if not 0 < temperature < math.inf:
        raise SettingError(
            f"temperature is {temperature}.", wanted="More than 0: answers are drawn, or there is nothing to compare."
        )
    if top_p != 1.0:
        raise SettingError(
            f"top_p is {top_p}.",
            wanted="1: what a cut distribution draws has another probability than the trained model gives it, "
            "so ratios would be wrong.",
            fix="Lower the temperature instead; training follows it.",
        )
    if max_tokens < 1 or reuse < 1:
        raise SettingError(f"max_tokens is {max_tokens}, reuse is {reuse}.", wanted="1 or more.")
