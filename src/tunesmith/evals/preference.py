"""How often the better of two answers gets the higher score: of a reward model, or of a language model's own likelihood.

    evaluate_pairs(RewardModel.open(run).score_answers, rows, folder=run / "evals", name="dev")
    evaluate_pairs(answer_logprobs(model), rows, ...)             # log p; per_token=True for the mean
    evaluate_ratings(scores, rows, answers, good)                 # answers rated alone: a good one above a bad one

A pair with equal scores counts one half. Pairs of one prompt belong together: where a row gives several, intervals know it.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tunesmith.core.errors import DataError
from tunesmith.evals.files import write_evaluation
from tunesmith.evals.run import fingerprint, shown_prompt
from tunesmith.metrics import mean_summary
from tunesmith.objectives._pairs import Messages, encode, pairs_of
from tunesmith.stats.intervals import bca
from tunesmith.stats.summary import Summary
from tunesmith.step.step import passes_of
from tunesmith.text.encode import Text
from tunesmith.text.example import Unit

Scores = Callable[[Sequence[Mapping[str, Any]], Sequence[Messages]], list[float]]


def evaluate_pairs(
    scores: Scores,
    rows: Sequence[Mapping[str, Any]],
    *,
    folder: str | Path,
    name: str,
    pairs: str = "all",
    model: Any = None,
    facts: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Score both answers of every pair, write folder/name.jsonl and folder/name.json; returns the latter.

    rows    preferences, or prompts with scored answers (`pairs`: all or best, see objectives/_pairs.py)
    Metrics: preferred, the share of pairs whose chosen answer has the higher score, and margin, the mean difference.
    Raises DataError when no row holds a pair.
    """
    found = [(row, pair) for row in rows for pair in pairs_of(row, pairs)[0]]
    if not found:
        raise DataError("There are no pairs to score.", wanted="Rows with two answers of which one is better.")
    sides = [side for _, pair in found for side in (pair.chosen, pair.rejected)]
    values = scores([row for row, _ in found for _ in range(2)], sides)
    lines: list[dict[str, Any]] = []
    for (row, pair), chosen, rejected in zip(found, values[::2], values[1::2], strict=True):
        better = pair.chosen if chosen >= rejected else pair.rejected
        lines.append(
            {
                "id": row.get("id"), "origin": row.get("origin"), "prompt": shown_prompt(row["messages"]),
                "answer": said(pair.chosen), "rejected": said(pair.rejected), "prediction": said(better),
                "chosen_score": chosen, "rejected_score": rejected,
                "metrics": {"preferred": (float(chosen > rejected) + float(chosen >= rejected)) / 2, "margin": chosen - rejected},
            }
        )  # fmt: skip
    ids = [str(line["id"] or line["origin"]) for line in lines]
    clusters = ids if len(set(ids)) < len(ids) else None
    summaries = {
        metric: {**mean_summary([line["metrics"][metric] for line in lines], bounds=bounds, clusters=clusters).as_dict(),
                 "spec": None, "mean_of_rows": True}
        for metric, bounds in (("preferred", (0.0, 1.0)), ("margin", None))
    }  # fmt: skip
    told = {} if model is None else {"model": {"name": str(model.name), "hash": fingerprint(model.net)}}
    return write_evaluation(
        Path(folder),
        name,
        lines,
        {
            "metrics": summaries,
            **told,
            "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            **(facts or {}),
        },
    )


def evaluate_ratings(
    scores: Scores, rows: Sequence[Mapping[str, Any]], answers: Sequence[Messages], good: Sequence[bool]
) -> Summary:
    """How often an answer that was rated good gets a higher score than one rated bad, over all such pairs of rows.

    That is the area under the ROC curve (Hanley and McNeil 1982); equal scores count one half. The interval is a bootstrap over
    the rows; a sample of one rating alone counts one half. Raises DataError when all are rated alike.
    """
    if len(set(good)) < 2:
        raise DataError(f"All {len(good)} answers are rated alike.", wanted="Good answers and bad ones to tell apart.")
    values = np.asarray(scores(rows, answers), dtype=np.float64)
    rated = np.asarray(good, dtype=bool)
    apart = values[rated][:, None] - values[~rated][None]  # (good, bad)
    above = (apart > 0) + 0.5 * (apart == 0)

    def share(counts: np.ndarray) -> np.ndarray:
        of_good, of_bad = counts[:, rated], counts[:, ~rated]
        pairs = of_good.sum(1) * of_bad.sum(1)
        return np.where(pairs > 0, ((of_good @ above) * of_bad).sum(1) / np.maximum(pairs, 1.0), 0.5)

    found = bca(share, len(values))
    return Summary(found.value, found.n, found.low, found.high)


def said(answer: Messages) -> str:
    """What the assistant says in an answer, for people."""
    return "\n".join(str(message.get("content") or "") for message in answer if message.get("role") == "assistant")


def answer_logprobs(model: Any, *, per_token: bool = False, pass_tokens: int = 16384) -> Scores:
    """A language model's own opinion of answers: log p of each, through its end of turn, summed or the mean per token."""
    text = Text(model.tokenizer, length=model.context)

    @torch.no_grad()
    def scores(rows: Sequence[Mapping[str, Any]], answers: Sequence[Messages]) -> list[float]:
        model.net.eval()
        policy = model.policy
        units = [
            Unit((encode(text, row["messages"], [answer], row.get("tools"))[0][0],))
            for row, answer in zip(rows, answers, strict=True)
        ]
        found: dict[int, float] = {}
        for chosen in passes_of(policy, units, pass_tokens):
            batch = policy.batch([units[i] for i in chosen])
            sums = batch.per_example(policy.logprobs(batch).double())
            found.update(zip(chosen, (sums / batch.lengths.double() if per_token else sums).tolist()))
        return [found[i] for i in range(len(units))]

    return scores
