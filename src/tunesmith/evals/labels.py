"""Evaluation of classifiers: each row's text gets a label, or several, or a number; written down like any evaluation.

    found = predict(model, [{"text": "..."}])           # [Label(names=("sport",), score=0.93, scores=[...])]
    evaluate_labels(model, rows, {"accuracy": Accuracy()}, folder=run.file("evals"), name="test")

A prediction is the label's name, so metrics that compare answers read it as it is. Texts longer than the model reads are
cut at their end, as transformers' pipelines do with truncation=True; how many were is in the summary.
"""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tunesmith.core.errors import DataError, ModelError
from tunesmith.evals.files import score_line, summarise, write_evaluation
from tunesmith.evals.run import check_rows, fingerprint
from tunesmith.objectives._fitted import Fitted
from tunesmith.objectives.features import Features
from tunesmith.text.encode import Text
from tunesmith.text.example import Unit


@dataclass(frozen=True)
class Label:
    """names: the likeliest label, or all above one half (several), or none; score: its probability, or the number itself."""

    names: tuple[str, ...]
    score: float
    scores: np.ndarray  # (labels,) probabilities; of a regression the number
    was_cut: bool = False

    @property
    def text(self) -> str:
        """As metrics read it: the name; a JSON list of names; the number."""
        return self.names[0] if len(self.names) == 1 else json.dumps(sorted(self.names), ensure_ascii=False)


def problem_of(model: Any) -> str:
    """single | multi | regression, as the network's configuration says."""
    name = str(getattr(model.net.config, "problem_type", None) or "single_label_classification")
    return name.removesuffix("_label_classification")


def predict(
    model: Any,
    rows: Sequence[Mapping[str, Any]],
    *,
    pass_tokens: int = 8192,
    length: int | None = None,
    shown: Callable[[int, int], None] | None = None,
) -> list[Label]:
    """The Label of each row ({"text", "text2"?}), in their order; texts of like length go through together."""
    import torch

    if model.kind != "classify":
        raise ModelError(
            f"{model.name} is loaded as {model.kind}: it has no scores for labels.",
            fix="Train one (method=classify), or load(name, kind='classify').",
        )
    problem, policy = problem_of(model), model.policy
    text = Text(model.tokenizer, length=min(length or model.context, model.context), too_long="trim_prompt")
    units, cut = _read(text, rows)
    order = sorted(range(len(units)), key=lambda i: -units[i].num_tokens)
    found: list[Label | None] = [None] * len(units)
    training, start = model.net.training, 0
    model.net.eval()
    try:
        while start < len(order):
            many = max(1, pass_tokens // units[order[start]].num_tokens)
            chosen = order[start : start + many]
            with torch.no_grad():
                scores = policy.scores(policy.batch([units[i] for i in chosen])).float()
            if problem == "single":
                scores = torch.softmax(scores, dim=1)
            elif problem == "multi":
                scores = torch.sigmoid(scores)
            for place, values in zip(chosen, scores.cpu().numpy()):
                found[place] = _label(values, model.labels, problem, cut[place])
            start += len(chosen)
            if shown is not None:
                shown(start, len(order))
    finally:
        model.net.train(training)
    return [label for label in found if label is not None]


def predict_fitted(
    model: Any, fitted: Fitted, rows: Sequence[Mapping[str, Any]], *, length: int | None = None
) -> list[Label]:
    """The Label of each row from the classifier that was fitted on the model's vectors."""
    text = Text(model.tokenizer, length=min(length or model.context, model.context), too_long="trim_prompt")
    units, cut = _read(text, rows)
    found = Features().extract(model.policy, units)
    labels = fitted.facts["labels"]
    return [_label(values, labels, "single", was_cut) for values, was_cut in zip(fitted.scores(found), cut)]


def _read(text: Text, rows: Sequence[Mapping[str, Any]]) -> tuple[list[Unit], list[bool]]:
    """(a Unit of each row, whether its text had to be cut)."""
    units, cut = [], []
    for row in rows:
        example = text.whole(row["text"], row.get("text2"))[0]
        units.append(Unit((example,)))
        full = len(example) == text.limit
        cut.append(full and len(text.tokenizer.around(row["text"], row.get("text2"))[0]) > text.limit)
    return units, cut


def _label(values: np.ndarray, labels: Sequence[str], problem: str, was_cut: bool) -> Label:
    if problem == "regression":
        return Label((f"{float(values[0]):.6g}",), float(values[0]), values, was_cut)
    if problem == "multi":
        names = tuple(label for label, value in zip(labels, values) if value > 0.5)
        return Label(names, float(values.max()), values, was_cut)
    best = int(values.argmax())
    return Label((labels[best],), float(values[best]), values, was_cut)


def gold_of(row: Mapping[str, Any], problem: str) -> str:
    """A row's own label as metrics read it."""
    label = row.get("label")
    if label is None:
        raise DataError(f"{row.get('origin') or row.get('id') or 'A row'} has no label to compare with.")
    if problem == "multi":
        names = sorted(map(str, label if isinstance(label, (list, tuple)) else [label]))
        return names[0] if len(names) == 1 else json.dumps(names, ensure_ascii=False)
    return str(label)


def evaluate_labels(
    model: Any,
    rows: Sequence[Mapping[str, Any]],
    metrics: Mapping[str, Any],
    *,
    folder: str | Path,
    name: str,
    length: int | None = None,
    fitted: Fitted | None = None,
    shown: Callable[[int, int], None] | None = None,
    facts: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Label every row, score with `metrics` and write folder/name.jsonl and .json. Returns the summary.

    length  where texts are cut in training; None = the model's own limit
    fitted  the classifier over the model's vectors, where that gives the labels (method: features)
    """
    problem = problem_of(model) if fitted is None else "single"
    asked = [{**row, "answer": gold_of(row, problem)} for row in rows]
    check_rows(asked, metrics)
    started = time.perf_counter()
    if fitted is None:
        labels, found = model.labels, predict(model, asked, length=length, shown=shown)
    else:
        labels, found = fitted.facts["labels"], predict_fitted(model, fitted, asked, length=length)
    seconds = time.perf_counter() - started
    lines = [
        {
            "id": row.get("id"),
            "origin": row.get("origin"),
            "prompt": row["text"] if row.get("text2") is None else f"{row['text']}\n{row['text2']}",
            "answer": row["answer"],
            "prediction": label.text,
            "probability": round(label.score, 6),
            "scores": [round(float(value), 6) for value in label.scores],
            **score_line(metrics, label.text, row),
        }
        for row, label in zip(asked, found)
    ]
    return write_evaluation(
        Path(folder),
        name,
        lines,
        {
            "metrics": summarise(metrics, lines),
            "labels": list(labels),
            "problem": problem,
            "cut": sum(label.was_cut for label in found),
            "model": {"name": str(model.name), "hash": fingerprint(model.net)},
            "seconds_per_text": seconds / max(1, len(lines)),
            "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            **(facts or {}),
        },
    )
