"""How a variant of a chain is measured on the test rows of one of its stages.

    rows = rows_of("sft", run, project, most=200, text=text)         # Rows, or None where there is no measure for them
    why_not(variant, rows)                                           # "", or why this variant cannot be put to them
    measure(variant, rows, evals, context)                           # {"sft: bits/byte of answers": {"value", "n", "low", ...}}

What tokens are hidden, blanked or drawn is the same for every variant: a measure compares them on one task.
"""

import json
import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

UNITS = {
    "text": "bits/byte", "answers": "bits/byte of answers", "pairs": "pairs right", "rated": "good answers above bad",
    "blanks": "bits/token of blanks", "hidden": "bits/token of hidden tokens", "written": "bits/token of what is written",
}  # fmt: skip
OF_LABELS = {"single": "accuracy", "multi": "label_f1", "regression": "number_error"}  # problem -> metric
_BY_METHOD = {"infill": "blanks", "masked": "hidden", "seq2seq": "written"}
_BY_KIND = {
    "text": "text", "chat": "answers", "prompt": "answers", "preference": "pairs", "scored": "pairs", "rated": "rated",
    "text+label": "labels",
}  # fmt: skip
_WANTED = {"hidden": "masked", "written": "seq2seq"}  # measure -> the kind of network; of the others a causal one


@dataclass(frozen=True)
class Rows:
    """Test rows of a stage and how variants are measured on them.

    measure    text, answers, pairs, rated, labels, blanks, hidden or written
    objective  the stage's method, which says what is hidden, what is written and which labels there are
    """

    stage: str
    measure: str
    rows: list[Any]
    left_out: int = 0
    objective: Any = None

    @property
    def unit(self) -> str:
        """What is measured, in words."""
        return UNITS.get(self.measure) or OF_LABELS[_problem(self.objective)]

    @property
    def name(self) -> str:
        """The measure's name in the table."""
        return f"{self.stage}: {self.unit}"


@dataclass(frozen=True, eq=False)
class Variant:
    """A model that is measured; `fitted` is the classifier over its vectors, where a stage fitted one (method: features)."""

    model: Any
    fitted: Any = None

    @property
    def kind(self) -> str:
        """What it does: causal, classify, masked, seq2seq or embed."""
        return "classify" if self.fitted is not None else str(self.model.kind)


def open_variant(run: str, *, seed: int = 0, device: str = "cpu") -> Variant:
    """A run as it answers: its adapter merged where it can be. `seed` is that of a base that is made on the spot."""
    from tunesmith.adapters.store import merged, open_run
    from tunesmith.model.load import load
    from tunesmith.objectives._fitted import NAME, Fitted

    place = Path(run) / NAME
    if (place / f"{NAME}.json").is_file():
        fitted = Fitted.read(place)
        return Variant(load(fitted.facts["base"], kind="embed", seed=seed, device=device), fitted)
    return Variant(merged(open_run(run, device=device)))


def context_of(run: Path, of_base: int) -> int:
    """How many tokens a run's model reads, by its files; `of_base` where they do not say. A soft prompt takes some of them."""
    place = run / "adapter" / "adapter_config.json"
    adapter = json.loads(place.read_text("utf-8")) if place.is_file() else {}
    path = Path(adapter.get("base_model_name_or_path") or run / "model") / "config.json"
    config = json.loads(path.read_text("utf-8")) if path.is_file() else {}
    places = next(
        (int(config[name]) for name in ("max_position_embeddings", "n_positions") if config.get(name)), of_base
    )
    return places - int(adapter.get("num_virtual_tokens") or 0)


def measure_of(method: str, kind: str) -> str:
    """How rows of a kind are measured that a method learned from; "" = there is no measure for them."""
    return _BY_METHOD.get(method) or _BY_KIND.get(kind, "")


def rows_of(stage: str, run: str, objective: Any, how: str, most: int | None, text: Any) -> Rows | None:
    """The test rows of a stage that `how` can measure, at most `most` of them; None where there are none.

    text  the room that they have to fit into
    """
    from tunesmith.data.prepare import open_test
    from tunesmith.data.rows import RowFile

    if how == "labels":
        objective = objective.learn_labels(RowFile(Path(run) / "data" / "train.jsonl"))
    rows = [row for row in (_usable(row, how) for row in open_test(run, by="chain")) if row is not None]
    fitting = [row for row in rows if _fits(row, how, text, objective)]
    if how == "rated" and len({row["good"] for row in fitting}) < 2:
        return None
    chosen = fitting
    if most is not None and len(fitting) > most:
        chosen = [fitting[i] for i in sorted(random.Random(0).sample(range(len(fitting)), most))]
    return Rows(stage, how, chosen, len(rows) - len(fitting), objective) if chosen else None


def _usable(row: Mapping[str, Any], how: str) -> dict[str, Any] | None:
    """A row as it is put to a variant: question and reference apart; None where it has nothing to compare with."""
    from tunesmith.objectives._pairs import has_words, pairs_of

    if how == "answers":
        return with_answer(row)
    if how == "pairs":
        return dict(row) if pairs_of(row, "all")[0] else None
    if how == "rated":
        turns = row["messages"]
        found = {**{key: value for key, value in row.items() if key != "label"}, "good": bool(row["label"])}
        return {**found, "messages": turns[:-1], "reference": turns[-1:]} if has_words(turns[-1:]) else None
    return dict(row)


def with_answer(row: Mapping[str, Any]) -> dict[str, Any] | None:
    """A row as a question and its reference answer; None where it has none."""
    if isinstance(row.get("answer"), str):
        return {**row, "reference": [{"role": "assistant", "content": row["answer"]}]}
    turns = row["messages"]
    if turns[-1]["role"] != "assistant" or not turns[-1]["content"]:
        return None
    return {**row, "messages": turns[:-1], "reference": turns[-1:]}


def _fits(row: Mapping[str, Any], how: str, text: Any, objective: Any) -> bool:
    from tunesmith.objectives._pairs import encode
    from tunesmith.text.encode import Text
    from tunesmith.text.too_long import TooLong

    if how == "written":
        room = Text(text.tokenizer, length=text.length, too_long="drop")
        return bool(objective.units(row, room, np.random.default_rng(0)))
    if how in ("answers", "rated"):
        sides = [row["reference"]]
    elif how != "pairs":
        return True  # raw text and what is read whole are cut
    elif "answers" in row:
        sides = [[{"role": "assistant", "content": answer["content"]}] for answer in row["answers"]]
    else:
        sides = [row["chosen"], row["rejected"]]
    try:
        return bool(encode(text, row["messages"], sides, row.get("tools"))[0])
    except TooLong:
        return False


def why_not(variant: Variant, one: Rows) -> str:
    """Why a variant cannot be measured on these rows, in words; "" where it can."""
    from tunesmith.evals.labels import problem_of
    from tunesmith.model.kinds import KINDS

    kind = variant.kind
    if one.measure == "labels":
        if kind != "classify":
            return f"it is {KINDS[kind][1]}, which has no labels"
        own = variant.model.labels if variant.fitted is None else variant.fitted.facts["labels"]
        problem = problem_of(variant.model) if variant.fitted is None else "single"
        same = set(own) == set(one.objective.labels) and problem == _problem(one.objective)
        return "" if same else "it tells other labels apart"
    if kind == "classify" and one.measure in ("pairs", "rated") and variant.fitted is None:
        return "" if len(variant.model.labels) == 1 else "it tells labels apart and scores no answers"
    return "" if kind == _WANTED.get(one.measure, "causal") else f"it is {KINDS[kind][1]}"


def measure(variant: Variant, one: Rows, evals: Path, context: int) -> dict[str, Any]:
    """A variant on a set of rows that it can be put to: {name: {"value", "n", "low", "high", "better", ...}}."""
    from tunesmith.evals.perplexity import perplexity
    from tunesmith.evals.preference import answer_logprobs, evaluate_pairs, evaluate_ratings

    model = variant.model
    if one.measure == "labels":
        return {one.name: _of_labels(variant, one, evals)}
    if one.measure == "text":
        summary = perplexity(model, (row["text"] for row in one.rows), context=context).summary().as_dict()
        return {one.name: summary, f"{one.stage}: perplexity": as_perplexity(summary)}
    if one.measure == "pairs":
        found = evaluate_pairs(_scores(model), one.rows, folder=evals, name=one.stage)
        return {one.name: found["metrics"]["preferred"]}
    if one.measure == "rated":
        scores = _scores(model, per_token=True)
        ratings = [row["good"] for row in one.rows]
        return {one.name: evaluate_ratings(scores, one.rows, [row["reference"] for row in one.rows], ratings).as_dict()}
    if one.measure == "answers":
        logps = answer_logprobs(model)(one.rows, [row["reference"] for row in one.rows])
        return {one.name: bits(-np.array(logps), [len(row["reference"][0]["content"].encode()) for row in one.rows])}
    nats, tokens = _guessed(model, one, context)
    return {one.name: bits(nats, tokens)} if len(nats) else {}


def _scores(model: Any, *, per_token: bool = False) -> Any:
    """What a variant thinks of answers: a reward model's score, a language model's log p."""
    from tunesmith.evals.preference import answer_logprobs
    from tunesmith.evals.reward import RewardModel

    return (
        RewardModel.of(model).score_answers if model.kind == "classify" else answer_logprobs(model, per_token=per_token)
    )


def _of_labels(variant: Variant, one: Rows, evals: Path) -> dict[str, Any]:
    from tunesmith.core.shelf import shelf
    from tunesmith.evals.labels import evaluate_labels

    metric = shelf("metrics").make(one.unit, "metrics")
    found = evaluate_labels(
        variant.model, one.rows, {one.unit: metric}, folder=evals, name=one.stage, fitted=variant.fitted
    )
    return dict(found["metrics"][one.unit])


def _problem(objective: Any) -> str:
    return str(getattr(objective, "problem", "single"))


def as_perplexity(summary: Mapping[str, Any]) -> dict[str, Any]:
    """The same measurement per token, which compares models of one tokenizer: exp of the mean nats."""
    nats = summary["extra"]["bytes"] / summary["extra"]["tokens"] * math.log(2)

    def of(bits: float | None) -> float | None:
        return None if bits is None else math.exp(bits * nats)

    return {
        **summary,
        "value": of(summary["value"]),
        "low": of(summary["low"]),
        "high": of(summary["high"]),
        "extra": {},
    }


def _guessed(model: Any, one: Rows, context: int) -> tuple[np.ndarray, list[float]]:
    """Nats and number of the tokens that are to be guessed of each example: the middle of a blank, what is hidden or written."""
    import torch

    from tunesmith.objectives.infill import Infill
    from tunesmith.step.step import passes_of
    from tunesmith.text.encode import Text

    text = Text(model.tokenizer, length=context, too_long="drop" if one.measure == "written" else "split")
    asked = Infill(rate=1.0, learn="middle") if one.measure == "blanks" else one.objective
    units = [unit for n, row in enumerate(one.rows) for unit in asked.units(row, text, np.random.default_rng([0, n]))]
    nats, tokens = np.zeros(len(units)), [0.0] * len(units)
    model.net.eval()
    with torch.no_grad():
        for chosen in passes_of(model.policy, units, 16384):
            batch = model.policy.batch([units[i] for i in chosen])
            inside = batch.columns.get("middle", 1.0) * batch.weight
            sums = batch.per_example(-model.policy.logprobs(batch) * inside).tolist()
            counts = batch.per_example(inside).tolist()
            for i, total, count in zip(chosen, sums, counts, strict=True):
                nats[i], tokens[i] = total, count
    kept = [i for i, count in enumerate(tokens) if count]
    return nats[kept], [tokens[i] for i in kept]


def bits(nats: np.ndarray, sizes: Sequence[float]) -> dict[str, Any]:
    """Bits per unit of size, with the interval of a bootstrap over rows."""
    from tunesmith.stats.intervals import bca
    from tunesmith.stats.summary import Summary

    size = np.asarray(sizes, float)
    interval = bca(lambda counts: counts @ nats / (counts @ size) / math.log(2), len(size))
    value = float(nats.sum() / size.sum() / math.log(2))
    return Summary(value, interval.n, interval.low, interval.high, "lower").as_dict()


def mean(values: Sequence[float], better: str) -> dict[str, Any]:
    """A mean with its interval over rows; of one row or none there is no interval."""
    from tunesmith.stats.intervals import mean_interval

    found = mean_interval(np.asarray(values, float))
    ends = {name: value if math.isfinite(value) else None for name, value in (("low", found.low), ("high", found.high))}
    return {"value": float(found.value), "n": len(values), **ends, "better": better, "extra": {}}
