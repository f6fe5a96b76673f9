"""What the preference methods share: rows into pairs over one prompt, and the sums of a pair's two answers.

    kept = pair_units(row, text)                      # one Unit a pair: (chosen, rejected) over their shared prompt
    sides = Sides.of(policy.logprobs(batch), batch)   # sides.chosen, sides.rejected: sums of log p, (pairs,)

A pair keeps one prompt: too long, both of its sides lose the same tokens from the prompt's beginning, never from an answer.
"""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from tunesmith.core.errors import DataError
from tunesmith.text.example import Example, Unit, together
from tunesmith.text.too_long import TooLong

Messages = Sequence[Mapping[str, Any]]


class Kept(list[Unit]):
    """The Units of a row, and in `dropped` the reasons for what was left out of it."""

    def __init__(self, units: Sequence[Unit] = (), dropped: Sequence[str] = ()) -> None:
        super().__init__(units)
        self.dropped = tuple(dropped)


@dataclass(frozen=True)
class Pair:
    """Two answers to one prompt, each a list of messages; `margin` says by how much one is better (0 = not known)."""

    chosen: Messages
    rejected: Messages
    margin: float = 0.0


def pairs_of(row: Mapping[str, Any], pairs: str = "best") -> tuple[list[Pair], list[str]]:
    """(pairs of a preference row, or of scored answers; reasons for what was left out).

    pairs  of scored answers: best = the best against each other one, all = every two of different score
    """
    if "answers" in row:
        found = _of_scores(row["answers"], pairs)
        unusable = [] if found else ["no two answers have different scores"]
    else:
        found, unusable = [Pair(row["chosen"], row["rejected"], float(row.get("margin") or 0.0))], []
    kept = []
    for pair in found:
        if empty := [name for name in ("chosen", "rejected") if not has_words(getattr(pair, name))]:
            unusable.append(f"{' and '.join(empty)}: the answer is empty")
        elif list(pair.chosen) == list(pair.rejected):
            unusable.append("chosen and rejected are the same")
        else:
            kept.append(pair)
    return kept, unusable


def _of_scores(answers: Sequence[Mapping[str, Any]], pairs: str) -> list[Pair]:
    ranked = sorted(answers, key=lambda answer: -float(answer["score"]))
    said = [[{"role": "assistant", "content": answer["content"]}] for answer in ranked]
    score = [float(answer["score"]) for answer in ranked]
    better = range(len(ranked)) if pairs == "all" else range(min(1, len(ranked)))
    return [Pair(said[i], said[j]) for i in better for j in range(i + 1, len(ranked)) if score[i] > score[j]]


def has_words(answer: Messages) -> bool:
    """Whether an assistant says or calls anything in it."""
    spoken = [message for message in answer if message.get("role") == "assistant"]
    return any(str(message.get("content") or "").strip() or message.get("tool_calls") for message in spoken)


def pair_units(row: Mapping[str, Any], text: Any, pairs: str = "best") -> Kept:
    """One Unit a pair: its first Example is the chosen answer, the second the rejected one, trained on through the end of turn.

    Columns: margin, and chosen_tokens, the weight of the chosen answer's tokens (0 in the rejected Example).
    """
    found, dropped = pairs_of(row, pairs)
    units = []
    for pair in found:
        examples, reason = encode(text, row["messages"], [pair.chosen, pair.rejected], row.get("tools"))
        if reason:
            dropped.append(reason)
            continue
        weights = (float(examples[0].weights.sum()), 0.0)
        examples = [
            replace(example, columns={"margin": pair.margin, "chosen_tokens": weight})
            for example, weight in zip(examples, weights)
        ]
        units.append(together(examples, origin=row.get("origin", "")))
    return Kept(units, dropped)


def encode(text: Any, prompt: Messages, answers: Sequence[Messages], tools: Any = None) -> tuple[list[Example], str]:
    """(an Example for each answer to `prompt`, "") or ([], why not). Only the answers are trained on.

    What is too long is dropped together or loses the same tokens from the beginning of the prompt (too_long: trim_prompt).
    """
    examples = [encode_whole(text, prompt, answer, tools) for answer in answers]
    longest = max(map(len, examples))
    if text.length is None or longest <= text.limit:
        return examples, ""
    if text.too_long == "drop":
        return [], f"too long: {longest + text.virtual} tokens, length is {text.length}"
    if text.too_long != "trim_prompt":
        why = "too_long: split cuts raw text; an answer cut off would teach to stop there."
        raise TooLong(longest + text.virtual, text.limit, why if text.too_long == "split" else "")
    return _trimmed(examples, longest - text.limit, text), ""


def encode_whole(text: Any, prompt: Messages, answer: Messages, tools: Any = None) -> Example:
    """Prompt and answer as one Example, however long."""
    asked = [{**message, "train": False} if message.get("role") == "assistant" else message for message in prompt]
    whole = copy.copy(text)
    whole.length = None
    found = whole.chat([*asked, *answer], tools)
    if len(found) != 1:
        raise DataError(
            "The answer's turns do not lie in one sequence: the model's chat template rewrites earlier ones.",
            wanted="Answers that are compared have one sequence each.",
            fix="Say reasoning: drop, or end each answer with its first turn and move the earlier ones into the prompt.",
        )
    return found[0]


def _trimmed(examples: list[Example], over: int, text: Any) -> list[Example]:
    """The Examples with a prompt that is `over` tokens shorter: it stays one prompt, and keeps the start of its turn."""
    starts = [int(np.flatnonzero(example.weights)[0]) for example in examples]
    shared = together(examples).shared_prompt if len(examples) > 1 else starts[0]
    if shared - over < 1:
        longest = max(len(example) - shared for example in examples)
        raise TooLong(
            longest + shared + text.virtual,
            text.limit,
            f"The longer answer alone has {longest} tokens; trim_prompt never cuts an answer.",
        )
    prompt = np.asarray(text.shortened(examples[0].ids[:shared].tolist(), shared - over), dtype=np.int32)
    return [
        Example(
            np.concatenate([prompt, example.ids[shared:]]),
            np.concatenate([np.zeros(len(prompt), dtype=np.float32), example.weights[shared:]]),
            example.columns,
        )
        for example in examples
    ]


@dataclass(frozen=True, eq=False)
class Sides:
    """Sums over the tokens of each pair's answers, all (pairs,). `real` is 0 where a pair only fills a pass, else 1."""

    chosen: torch.Tensor
    rejected: torch.Tensor
    chosen_tokens: torch.Tensor
    rejected_tokens: torch.Tensor
    real: torch.Tensor

    @staticmethod
    def of(values: torch.Tensor, batch: Any) -> "Sides":
        """Weighted sums of `values` (targets,) over each Example of a batch of pairs."""
        weight = batch.weight.to(values.dtype)
        sums = batch.per_example(values * weight).view(-1, 2)
        tokens = batch.per_example(weight).view(-1, 2)
        real = (tokens.detach() > 0).all(1).to(values.dtype)
        return Sides(sums[:, 0], sums[:, 1], tokens[:, 0], tokens[:, 1], real)

    def means(self) -> "Sides":
        """The sums divided by their tokens."""
        chosen = self.chosen / self.chosen_tokens.clamp_min(1e-6)
        rejected = self.rejected / self.rejected_tokens.clamp_min(1e-6)
        return replace(self, chosen=chosen, rejected=rejected)


def pair_figures(
    losses: torch.Tensor, chosen: torch.Tensor, rejected: torch.Tensor, real: torch.Tensor
) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """{figure: (sum, pairs)} of the loss and rewards of each pair."""
    losses, chosen, rejected, pairs = losses.detach(), chosen.detach(), rejected.detach(), real.sum()
    return {
        "loss": ((losses * real).sum(), pairs),
        "accuracy": (((chosen > rejected) * real).sum(), pairs),
        "margin": (((chosen - rejected) * real).sum(), pairs),
        "chosen_reward": ((chosen * real).sum(), pairs),
        "rejected_reward": ((rejected * real).sum(), pairs),
    }


def mean_figures(sides: Sides) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """{figure: (sum, pairs)} of the log p of each answer."""
    pairs = sides.real.sum()
    return {
        "chosen_logp": ((sides.chosen.detach() * sides.real).sum(), pairs),
        "rejected_logp": ((sides.rejected.detach() * sides.real).sum(), pairs),
    }


PAIR_FIGURES = {
    "loss": "mean loss of a pair; of dev rows the whole training loss, with its other terms\n\n"
    "쌍의 평균 손실. 개발 행에서는 다른 항까지 든 학습 손실",
    "accuracy": "share of pairs whose chosen answer has the higher reward\n\n고른 답의 보상이 더 높은 쌍의 비율",
    "margin": "reward of the chosen answer minus that of the rejected one, mean over pairs\n\n"
    "고른 답의 보상에서 버린 답의 보상을 뺀 값의 평균",
    "chosen_reward": "mean reward of the chosen answers\n\n고른 답의 평균 보상",
    "rejected_reward": "mean reward of the rejected answers\n\n버린 답의 평균 보상",
}
LOGP_FIGURES = {
    "chosen_logp": "mean log p of the chosen answers, summed over their tokens; both falling together means that the model "
    "unlearns the good answers too\n\n"
    "고른 답의 log p(토큰 합)의 평균. 둘이 함께 내려가면 좋은 답도 잊는다는 뜻입니다",
    "rejected_logp": "mean log p of the rejected answers, summed over their tokens\n\n버린 답의 log p(토큰 합)의 평균",
}
