"""Score any answer to any prompt with a reward model: for methods that sample, as a judge, or by hand.

    judge = RewardModel.open("runs/reward-1")
    judge.score([{"messages": [{"role": "user", "content": "1+1?"}]}], ["2"])       # [0.83]
    evaluate_answers(judge, rows, folder=run / "evals", name="test")                # the answers that rows have, written down

Only differences between answers to one prompt mean something: the model learned from nothing else. A score does not depend on
what else is scored with it.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import torch

from tunesmith.core.errors import DataError, ModelError
from tunesmith.evals.files import write_evaluation
from tunesmith.evals.run import as_question, fingerprint, shown_prompt
from tunesmith.metrics import mean_summary
from tunesmith.objectives._pairs import Messages, encode
from tunesmith.objectives.reward import read_at_end
from tunesmith.step.step import passes_of
from tunesmith.text.encode import Text
from tunesmith.text.example import Example, Unit, together
from tunesmith.text.messages import words_of


@dataclass(eq=False)
class RewardModel:
    """A network with one score, and the text room its answers go through; `pass_tokens` only bounds memory."""

    model: Any
    text: Text
    pass_tokens: int = 16384

    @staticmethod
    def open(name: str | Path, *, device: str = "cpu") -> "RewardModel":
        """The reward model of a run or a model folder. A ModelError when what is there does not score answers."""
        from tunesmith.adapters.store import open_run

        return RewardModel.of(open_run(name, device=device))

    @staticmethod
    def of(model: Any) -> "RewardModel":
        """A loaded model as a reward model."""
        labels = tuple(getattr(model, "labels", ()))
        if getattr(model, "kind", "causal") != "classify" or len(labels) != 1:
            found = f"scores {', '.join(labels)}" if labels else "writes answers, it does not score them"
            raise ModelError(
                f"{model.name} is no reward model: it {found}.",
                wanted="A model with one score for an answer.",
                fix="Train one: tunesmith train method=reward data=PAIRS    or name such a run.",
            )
        model.net.eval()
        return RewardModel(model, Text(model.tokenizer, length=model.context))

    def score(self, rows: Sequence[Mapping[str, Any]], texts: Sequence[str]) -> list[float]:
        """The reward of each text as the answer to its row's messages; a reference answer at their end is not read."""
        asked = [as_question(row) for row in rows]
        answers = [[{"role": "assistant", "content": text}] for text in texts]
        return self.score_answers(asked, answers)

    def score_answers(self, rows: Sequence[Mapping[str, Any]], answers: Sequence[Messages]) -> list[float]:
        """The same for answers of one or more messages to prompts as they are, row["messages"]."""
        examples: list[Example] = []
        for row, answer in zip(rows, answers, strict=True):
            (example,), _ = encode(self.text, row["messages"], [answer], row.get("tools"))
            examples.append(read_at_end(example))
        # answers to one prompt lie over it together: it is read once
        groups = groupby(range(len(rows)), key=lambda i: (rows[i]["messages"], rows[i].get("tools")))
        units = [together([examples[i] for i in group]) for _, group in groups]
        return self._of_units(units)

    @torch.no_grad()
    def _of_units(self, units: Sequence[Unit]) -> list[float]:
        policy = self.model.policy
        found: dict[int, list[float]] = {}
        for chosen in passes_of(policy, units, self.pass_tokens):
            scores = policy.scores(policy.batch([units[i] for i in chosen]))[:, 0].tolist()
            for i in chosen:
                found[i], scores = scores[: len(units[i].examples)], scores[len(units[i].examples) :]
        return [score for i in range(len(units)) for score in found[i]]


def evaluate_answers(
    judge: RewardModel,
    rows: Sequence[Mapping[str, Any]],
    *,
    folder: str | Path,
    name: str,
    facts: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Score the answer that each row has, write folder/name.jsonl and folder/name.json; returns the latter.

    rows  chats and rated answers, which end with the answer; or prompts with their reference, {"messages", "answer"}
    Metric: reward, the mean score. Where answers are rated, `extra` has the means of good and of bad ones.
    Raises DataError for rows without an answer.
    """
    asked = [given_answer(row) for row in rows]
    if not asked:
        raise DataError("There are no answers to score.", wanted="A split with at least one row.")
    scores = judge.score_answers([question for question, _ in asked], [[answer] for _, answer in asked])
    rated: dict[bool, list[float]] = {True: [], False: []}
    lines: list[dict[str, Any]] = []
    for row, (question, answer), value in zip(rows, asked, scores, strict=True):
        label = {"label": row["label"]} if isinstance(row.get("label"), bool) else {}
        if label:
            rated[row["label"]].append(value)
        lines.append(
            {
                "id": row.get("id"), "origin": row.get("origin"), "prompt": shown_prompt(question["messages"]),
                "answer": "", "prediction": words_of(answer), **label, "metrics": {"reward": value},
            }
        )  # fmt: skip
    means = {
        name: {"mean": sum(values) / len(values), "n": len(values)}
        for name, values in (("good", rated[True]), ("bad", rated[False]))
        if values
    }
    summary = mean_summary(scores, bounds=None, extra={"unit": "reward", **means})
    return write_evaluation(
        Path(folder),
        name,
        lines,
        {
            "metrics": {"reward": {**summary.as_dict(), "spec": None, "mean_of_rows": True}},
            "model": {"name": str(judge.model.name), "hash": fingerprint(judge.model.net)},
            "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            **(facts or {}),
        },
    )


def given_answer(row: Mapping[str, Any]) -> tuple[dict[str, Any], Mapping[str, Any]]:
    """(the row with its prompt's messages alone, the answer as a message). A DataError for a row without one."""
    messages = row["messages"]
    if len(messages) > 1 and messages[-1].get("role") == "assistant" and messages[-1].get("train", True):
        return {**row, "messages": messages[:-1]}, messages[-1]
    if isinstance(row.get("answer"), str):
        return {**row, "messages": messages}, {"role": "assistant", "content": row["answer"]}
    raise DataError(
        f"{row.get('origin') or row.get('id') or 'A row'} has a prompt and no answer to score.",
        wanted="prompt and completion, messages that end with the assistant's, or a prompt with its reference answer.",
    )
