"""A fixed panel of other tasks: did the model forget its general language while it was tuned?

    before, after = run_panel(base), run_panel(tuned)        # seconds for a model of some millions of parameters
    compare_panels(before, after)[0]["verdict"]
    -> "after is not worse than before by more than 0.040 bits per byte (difference +0.002, 95 % -0.003 to 0.007), n = 20"

Four tasks, the same for every run and every version: bits per byte on 20 short English and 20 Korean texts, and 56 + 56 pairs of
which one continuation is right by grammar or sense (which one is likelier?). All were written for this package by hand, are under
its licence, and lie in panel_data/. They are small: a panel finds what is lost in plenty, not a loss of half a point.

Not worse is a claim of its own: the interval of the paired difference must lie above a margin declared beforehand (2 % of the
bits per byte before, 5 points of the pairs). "Not told apart" alone would be no proof.
"""

import json
import time
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from tunesmith.core.errors import DataError
from tunesmith.core.files import hash_json, write_json
from tunesmith.evals.files import Evaluation, read_evaluation, write_evaluation
from tunesmith.evals.perplexity import perplexity
from tunesmith.metrics import mean_summary
from tunesmith.stats.intervals import OverCounts, bca
from tunesmith.stats.paired import Paired, mcnemar, paired_statistic
from tunesmith.stats.summary import Summary
from tunesmith.stats.words import Lang, no_worse, verdict
from tunesmith.text.example import Example, Unit

FOLDER = Path(__file__).parent / "panel_data"
TEXT_MARGIN = 0.02  # of the bits per byte before
CHOICE_MARGIN = 0.05  # of all pairs
UNITS_AT_ONCE = 28
TASKS = ("text en", "text ko", "choice en", "choice ko")
NAMES = {
    "en": {
        "text en": "English text",
        "text ko": "Korean text",
        "choice en": "English pairs",
        "choice ko": "Korean pairs",
    },
    "ko": {
        "text en": "영어 글",
        "text ko": "한국어 글",
        "choice en": "영어 문장 고르기",
        "choice ko": "한국어 문장 고르기",
    },
}


@cache
def items(kind: str) -> tuple[dict[str, str], ...]:
    """The panel's "text" or "choices", as they lie in panel_data/."""
    path = FOLDER / f"{kind}.jsonl"
    return tuple(json.loads(line) for line in path.read_text(encoding="utf-8").splitlines())


def run_panel(model: Any, folder: str | Path | None = None, name: str = "panel-scores") -> Evaluation:
    """Measure a model on the panel. With a folder also written there as name.json and name.jsonl, like any evaluation."""
    lines = [*_texts(model), *_choices(model)]
    summaries = {
        NAMES["en"][task]: _summary(task, [line for line in lines if line["task"] == task]).as_dict() for task in TASKS
    }
    summary = {
        "metrics": summaries,
        "panel_hash": hash_json([items("text"), items("choices")]),
        "model": {"name": str(getattr(model, "name", ""))},
        "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
    if folder is None:
        return Evaluation(Path(name), {"name": name, "n": len(lines), **summary}, lines)
    write_evaluation(Path(folder), name, lines, summary)
    return read_evaluation(Path(folder) / name)


def _texts(model: Any) -> list[dict[str, Any]]:
    rows = items("text")
    found = perplexity(model, [row["text"] for row in rows])
    if len(found.texts) != len(rows):
        raise DataError("The model's tokenizer makes a panel text a single token.", wanted="A tokenizer for text.")
    return [
        {
            "id": row["id"], "task": f"text {row['language']}", "prompt": row["topic"], "answer": row["text"],
            "metrics": {}, "nats": float(nats), "bytes": int(size), "bits_per_byte": float(nats / size / np.log(2)),
        }
        for row, (nats, size) in zip(rows, found.texts)
    ]  # fmt: skip


def _choices(model: Any) -> list[dict[str, Any]]:
    """Both sentences of each pair, log p summed from where they begin to differ: what stands before cancels out."""
    import torch

    rows, policy, start = items("choices"), model.policy, list(model.tokenizer.prefix_ids)
    units = []
    for row in rows:
        right, wrong = ([*start, *model.tokenizer.encode(row["context"] + row[key])] for key in ("right", "wrong"))
        shared = 0
        while shared < min(len(right), len(wrong)) and right[shared] == wrong[shared]:
            shared += 1
        shared = max(
            1, min(shared, len(right) - 1, len(wrong) - 1)
        )  # something must stand before, and something follow
        weights = [[0.0] * shared + [1.0] * (len(ids) - shared) for ids in (right, wrong)]
        units.append(Unit((Example.of(right, weights[0]), Example.of(wrong, weights[1])), shared_prompt=shared))
    margins: list[float] = []
    training = [module for module in model.net.modules() if module.training]
    model.net.eval()
    try:
        with torch.no_grad():
            for at in range(0, len(units), UNITS_AT_ONCE):
                batch = policy.batch(units[at : at + UNITS_AT_ONCE])
                logp = policy.logprobs(batch).detach().double().cpu().numpy()
                sums = np.bincount(batch.example.cpu().numpy(), weights=logp, minlength=batch.num_examples)
                margins += (sums[0::2] - sums[1::2]).tolist()
    finally:
        for module in training:
            module.training = True
    return [
        {
            "id": row["id"], "task": f"choice {row['language']}", "prompt": row["context"], "answer": row["right"].strip(),
            "prediction": row["right" if margin > 0 else "wrong"].strip(), "metrics": {}, "kind": row["kind"],
            "right": float(margin > 0), "margin": margin,
        }
        for row, margin in zip(rows, margins)
    ]  # fmt: skip


def _summary(task: str, lines: Sequence[Mapping[str, Any]]) -> Summary:
    if task.startswith("choice"):
        margin = float(np.mean([line["margin"] for line in lines]))
        return mean_summary([line["right"] for line in lines], extra={"mean_margin_nats": margin})
    ratio = _bits([line["nats"] for line in lines], [line["bytes"] for line in lines])
    interval = bca(ratio, len(lines))
    return Summary(interval.value, len(lines), interval.low, interval.high, "lower", {"unit": "bits per byte"})


def _bits(nats: Sequence[float], sizes: Sequence[float]) -> OverCounts:
    """Bits per byte of many resamples of texts at once: summed bits over summed bytes."""
    bits, size = np.array(nats) / np.log(2), np.array(sizes, dtype=np.float64)
    return lambda counts: counts @ bits / (counts @ size)


def compare_panels(
    before: Evaluation,
    after: Evaluation,
    *,
    folder: str | Path | None = None,
    names: tuple[str, str] | None = None,
    lang: Lang = "en",
    text_margin: float = TEXT_MARGIN,
    choice_margin: float = CHOICE_MARGIN,
) -> list[dict[str, Any]]:
    """The four tasks before and after, paired; with `folder` also written there as panel.json, where the report looks.

    Each is {"task", "metric", "better", "unit", "before", "after": {"value", "low", "high", "n"}, "difference", "low", "high", "p", "n",
    "margin", "outcome": worse | better | not_told_apart, "kept": whether the whole interval lies within the margin, "verdict": of
    non-inferiority, "told_apart": of the test, in words}.

    Raises DataError when one of the two is no panel, or of another version of it.
    """
    for each in (before, after):
        if "panel_hash" not in each.summary:
            raise DataError(f"{each.path} is no panel.", wanted="What run_panel measured.")
    if before.summary["panel_hash"] != after.summary["panel_hash"]:
        raise DataError(
            "The two panels are of different versions: their items are not the same.",
            fix="Measure both with this version.",
        )
    names = names or (("before", "after") if lang == "en" else ("이전", "이후"))
    changes = [
        _change(task, before, after, names, lang, text_margin if task.startswith("text") else choice_margin)
        for task in TASKS
    ]
    if folder is not None:
        write_json(
            Path(folder) / "panel.json",
            {
                "format": 1,
                "before": str(before.path),
                "after": str(after.path),
                "panel": changes,
            },
        )
    return changes


def _change(
    task: str, before: Evaluation, after: Evaluation, names: tuple[str, str], lang: Lang, margin: float
) -> dict[str, Any]:
    lines = [[line for line in each.rows if line["task"] == task] for each in (before, after)]
    is_text = task.startswith("text")
    summaries = [each.summary["metrics"][NAMES["en"][task]] for each in (before, after)]
    outcome: Paired
    if is_text:
        both = [*lines[0], *lines[1]]
        ratio = _bits([line["nats"] for line in both], [line["bytes"] for line in both])
        outcome = paired_statistic(ratio, len(lines[0]))
        margin *= summaries[0]["value"]
    else:
        outcome = mcnemar(*([line["right"] for line in some] for some in lines))
    worst = -outcome.high if is_text else outcome.low
    apart = outcome.told_apart()
    good = (outcome.difference < 0) == is_text
    better: Any = "lower" if is_text else "higher"
    unit = "bits per byte" if is_text else "points"
    return {
        "task": NAMES[lang][task],
        "name": task,
        "metric": "bits per byte" if is_text else "right choice",
        "better": better,
        "unit": "number" if is_text else "share",
        "before": {key: summaries[0][key] for key in ("value", "low", "high", "n")},
        "after": {key: summaries[1][key] for key in ("value", "low", "high", "n")},
        "difference": outcome.difference,
        "low": outcome.low,
        "high": outcome.high,
        "p": outcome.p,
        "n": outcome.n,
        "margin": margin,
        "outcome": "not_told_apart" if not apart else "better" if good else "worse",
        "kept": worst > -margin,
        "verdict": no_worse(outcome, margin=margin, a=names[0], b=names[1], better=better, unit=unit, lang=lang),
        "told_apart": verdict(outcome, a=names[0], b=names[1], better=better, unit=unit, lang=lang),
    }
