"""The table at the end of a chain: every variant on the same test rows of every stage.

A language model is measured on texts (bits per byte, perplexity), on reference answers (bits per byte), on pairs (how often
the better answer is the likelier), on blanks (bits per token of the middle), and by metrics of its own answers. A reward
model is measured on pairs, by its score. A blank cell is a measure that a variant cannot be put to.
"""

import json
import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

NOTHING = ""


@dataclass(frozen=True)
class Rows:
    """Test rows of a stage and how variants are measured on them: text, answers, pairs or blanks."""

    stage: str
    measure: str
    rows: list[Any]
    left_out: int = 0

    @property
    def name(self) -> str:
        unit = {
            "text": "bits/byte",
            "answers": "bits/byte of answers",
            "pairs": "pairs right",
            "blanks": "bits/token of blanks",
        }
        return f"{self.stage}: {unit[self.measure]}"


def compare_variants(plan: Any, runs: Mapping[str, str], *, quiet: bool = False) -> dict[str, Any]:
    """{"variants": [{"name", "from", ..., "measures": {...}}], "measures": [names]} of a finished chain, in comparison.json.

    Variants that were measured as they are, with these settings, are not measured again."""
    import sys

    from tunesmith.adapters.store import merge, open_run
    from tunesmith.api.build import resolve_model
    from tunesmith.core.files import hash_json, to_json, write_json
    from tunesmith.text.encode import Text

    place = plan.out / "comparison.json"
    results = [
        json.loads((Path(run) / "manifest.json").read_text("utf-8"))["outcome"]["result_hash"] for run in runs.values()
    ]
    key = hash_json([to_json(plan.compare), list(runs), results])
    if place.is_file() and (known := json.loads(place.read_text("utf-8"))).get("key") == key:
        return dict(known)
    base = merge(open_run(resolve_model(plan.model, plan.root)))
    projects = {name: _project_of(Path(run)) for name, run in runs.items()}
    kinds = {name: _network(project) for name, (project, _) in projects.items()}
    context = min([base.context, *(_context(Path(run)) or base.context for run in runs.values())])
    sets = _rows(runs, projects, plan.compare.rows, Text(base.tokenizer, length=context))
    answered = _to_answer(plan.compare, runs, projects)
    specs = plan.compare.metrics or (projects[answered][0].metrics if answered else ())
    judges = plan.compare.judge is not None or plan.compare.reference is not None
    asking = None
    if answered and (specs or judges):
        asking = _Asking.of(plan.compare, answered, projects, runs, _metrics(specs), context)
    variants: list[dict[str, Any]] = []
    for name in ["base", *runs]:
        if not quiet:
            print(f"Measuring {name} ...", file=sys.stderr, flush=True)
        evals = plan.out / "evals" / name
        model = base if name == "base" else merge(open_run(runs[name]))
        kind = "causal" if name == "base" else kinds[name]
        measures: dict[str, Any] = {}
        for one in sets:
            measures |= _measure(model, one, kind, evals, context)
        if kind == "causal" and asking is not None:
            measures |= asking(model, evals)
        if kind == "causal" and plan.compare.panel:
            from tunesmith.evals.panel import run_panel

            measures |= {f"other tasks: {task}": one for task, one in run_panel(model).summary["metrics"].items()}
        variants.append({**_facts(name, runs, plan), "measures": measures})
    names = list(dict.fromkeys(key for variant in variants for key in variant["measures"]))
    notes = {one.name: one.left_out for one in sets if one.left_out}
    seen = _seen(sets, runs)
    signs = _signs(variants, plan.compare, asking)
    facts = {"variants": variants, "measures": names, "left_out": notes, "seen": seen, "signs": signs}
    write_json(place, {"key": key, **facts})
    return dict(json.loads(place.read_text("utf-8")))


def told(found: Mapping[str, Any], *, markdown: bool = False) -> str:
    """The table for people: a line a variant, the best of each measure marked with *."""
    from tunesmith.report.terminal import table

    better = {"higher": max, "lower": min}
    best: dict[str, float] = {}
    for name in found["measures"]:
        given = [variant["measures"][name] for variant in found["variants"] if name in variant["measures"]]
        values = [one["value"] for one in given]
        if len(set(values)) > 1:
            best[name] = better[given[0]["better"]](values)
    head = ["variant", "from", "method", "adapter", "trained", "steps", "dev loss", *found["measures"]]
    rows = []
    for variant in found["variants"]:
        cells = [variant["name"], variant["from"], variant["method"], variant["adapter"]]
        share = variant["trainable_share"]
        cells += [
            NOTHING if share is None else f"{100 * share:.3g} %",
            NOTHING if variant["steps"] is None else str(variant["steps"]),
            NOTHING if variant["dev_loss"] is None else f"{variant['dev_loss']:.4f}",
        ]
        for name in found["measures"]:
            one = variant["measures"].get(name)
            cells.append(NOTHING if one is None else _cell(one) + (" *" if one["value"] == best.get(name) else ""))
        rows.append(cells)
    below = [
        "Measured on the same test rows; [95 % interval over rows]. * best of its column. Lower is better for bits and perplexity.",
        *(
            f"{one['seen']} of {one['of']} test rows of {one['rows'].partition(':')[0]} have a prompt that {one['stage']} trained on: for it and what stands on it they are not unseen."
            for one in found["seen"]
        ),
        *found["signs"],
        *(f"{number} rows of {name} do not fit the shortest context and were left out." for name, number in found["left_out"].items()),
    ]  # fmt: skip
    if markdown:
        lines = ["| " + " | ".join(row) + " |" for row in [head, ["---"] * len(head), *rows]]
        return "\n".join([*lines, "", *below]) + "\n"
    # A column a measure would be too wide for a terminal: variants first, then a table a measure.
    parts = [table([row[:7] for row in [head, *rows]], right=(4, 5, 6))]
    for place, name in enumerate(found["measures"], start=7):
        parts.append(f"{name}\n" + table([[f"  {row[0]}", row[place]] for row in rows if row[place]]))
    return "\n\n".join([*parts, "\n".join(below)])


def _cell(one: Mapping[str, Any]) -> str:
    low, high = one["low"], one["high"]
    span = "" if low is None or high is None else f" [{low:.3f}, {high:.3f}]"
    return f"{one['value']:.3f}{span}"


def _facts(name: str, runs: Mapping[str, str], plan: Any) -> dict[str, Any]:
    """What is known of a variant without measuring: where it comes from, how it was made, its own figures on its own dev rows."""
    stage = next((stage for stage in plan.stages if stage.name == name), None)
    if stage is None:
        return {
            "name": name, "run": plan.model, "from": NOTHING, "method": NOTHING, "adapter": NOTHING, "steps": None,
            "seconds": None, "dev_loss": None, "trainable_share": None, "figures": {}, "merged_base": None,
        }  # fmt: skip
    from tunesmith.report.read import word_of

    run = Path(runs[name])
    manifest = json.loads((run / "manifest.json").read_text("utf-8"))
    counts = json.loads((run / "parameters.json").read_text("utf-8"))
    outcome, used = manifest["outcome"], manifest["hyperparameters"]
    total = counts["trainable"] + counts["frozen"]
    return {
        "name": name, "run": runs[name], "from": stage.base or "base", "method": word_of(used["method"]),
        "adapter": word_of(used["adapter"]), "steps": outcome["steps"], "seconds": outcome["seconds"],
        "dev_loss": outcome["best_dev_loss"], "trainable_share": counts["trainable"] / total if total else None,
        "figures": _last_figures(run), "merged_base": (manifest.get("base") or {}).get("run"),
    }  # fmt: skip


def _last_figures(run: Path) -> dict[str, Any]:
    """The method's own figures at the evaluation whose weights were kept."""
    from tunesmith.core.files import Journal

    events = [event for event in Journal(run / "events.jsonl").read() if event.get("kind") == "eval"]
    kept = [event for event in events if event.get("improved")] or events
    return dict(kept[-1].get("figures", {})) if kept else {}


def _project_of(run: Path) -> tuple[Any, dict[str, Any]]:
    from tunesmith.api.config import resolve

    root = json.loads((run / "manifest.json").read_text("utf-8")).get("root") or "."
    project, filled, _ = resolve(str(run / "project.yaml"), root=Path(root))
    return project, filled


def _network(project: Any) -> str:
    from tunesmith.core.shelf import shelf

    return str(getattr(shelf("objectives").make(project.method, "method"), "kind", "causal"))


def _context(run: Path) -> int | None:
    """How many positions a run's model has, by its configuration; None where an adapter leaves its base's."""
    path = run / "model" / "config.json"
    if not path.is_file():
        return None
    config = json.loads(path.read_text("utf-8"))
    return next((int(config[name]) for name in ("max_position_embeddings", "n_positions") if config.get(name)), None)


def _rows(runs: Mapping[str, str], projects: Mapping[str, Any], most: int | None, text: Any) -> list[Rows]:
    """The test rows of each stage, once where two stages have the same."""
    from tunesmith.data.prepare import open_test
    from tunesmith.report.read import word_of

    sets: list[Rows] = []
    seen: set[tuple[str, str]] = set()
    for name, run in runs.items():
        card = json.loads((Path(run) / "data" / "card.json").read_text("utf-8"))
        measure = _measure_of(word_of(projects[name][1]["method"]), card["kind"])
        mark = (measure, card["hashes"]["test"])
        if not measure or not card["splits"]["test"]["rows"] or mark in seen:
            continue
        seen.add(mark)
        rows = list(open_test(run, by="chain"))
        if measure == "answers":
            rows = [row for row in map(_with_answer, rows) if row is not None]
        fitting = [row for row in rows if _room(row, measure, text)]
        chosen = fitting
        if most is not None and len(fitting) > most:
            chosen = [fitting[i] for i in sorted(random.Random(0).sample(range(len(fitting)), most))]
        if chosen:
            sets.append(Rows(name, measure, chosen, len(rows) - len(fitting)))
    return sets


def _seen(sets: Sequence[Rows], runs: Mapping[str, str]) -> list[dict[str, Any]]:
    """Test rows of one stage whose prompt (or text) another trained on: what stands on that stage has seen them."""
    from tunesmith.data.hashes import HashSet, content_hash
    from tunesmith.data.rows import RowFile

    asked = {one.name: [content_hash(row, "prompt") for row in one.rows] for one in sets}
    found = []
    for name, run in runs.items():
        trained = HashSet(content_hash(row, "prompt") for row in RowFile(Path(run) / "data" / "train.jsonl"))
        for one in sets:
            number = sum(value in trained for value in asked[one.name])
            if number:
                found.append({"rows": one.name, "stage": name, "seen": number, "of": len(one.rows)})
    return found


def _measure_of(method: str, kind: str) -> str:
    if method == "infill":
        return "blanks"
    return {"text": "text", "chat": "answers", "prompt": "answers", "preference": "pairs"}.get(kind, "")


def _with_answer(row: Mapping[str, Any]) -> dict[str, Any] | None:
    """A row as a question and its reference answer; None where it has none."""
    if isinstance(row.get("answer"), str):
        return {**row, "reference": [{"role": "assistant", "content": row["answer"]}]}
    turns = row["messages"]
    if turns[-1]["role"] != "assistant" or not turns[-1]["content"]:
        return None
    return {**row, "messages": turns[:-1], "reference": turns[-1:]}


def _room(row: Mapping[str, Any], measure: str, text: Any) -> bool:
    from tunesmith.objectives._pairs import encode
    from tunesmith.text.too_long import TooLong

    if measure not in ("answers", "pairs"):
        return True
    sides = [row["reference"]] if measure == "answers" else [row["chosen"], row["rejected"]]
    try:
        return bool(encode(text, row["messages"], sides, row.get("tools"))[0])
    except TooLong:
        return False


def _measure(model: Any, one: Rows, kind: str, evals: Path, context: int) -> dict[str, Any]:
    """One variant on one set of rows: {name: {"value", "n", "low", "high", "better", ...}}; {} where it cannot be measured."""
    from tunesmith.evals.preference import answer_logprobs, evaluate_pairs

    if kind == "classify":
        from tunesmith.core.errors import ModelError
        from tunesmith.evals.reward import RewardModel

        if one.measure != "pairs":
            return {}
        try:
            judge = RewardModel.of(model)
        except ModelError:
            return {}  # a classifier of something else
        found = evaluate_pairs(judge.score_answers, one.rows, folder=evals, name=one.stage)
        return {one.name: found["metrics"]["preferred"]}
    if kind != "causal":
        return {}
    if one.measure == "text":
        from tunesmith.evals.perplexity import perplexity

        summary = perplexity(model, (row["text"] for row in one.rows), context=context).summary().as_dict()
        return {one.name: summary, f"{one.stage}: perplexity": _as_perplexity(summary)}
    if one.measure == "pairs":
        found = evaluate_pairs(answer_logprobs(model), one.rows, folder=evals, name=one.stage)
        return {one.name: found["metrics"]["preferred"]}
    if one.measure == "answers":
        logps = answer_logprobs(model)(one.rows, [row["reference"] for row in one.rows])
        return {one.name: _bits(-np.array(logps), [len(row["reference"][0]["content"].encode()) for row in one.rows])}
    nats, tokens = _blanks(model, one.rows, context)
    return {one.name: _bits(nats, tokens)} if len(nats) else {}


def _as_perplexity(summary: Mapping[str, Any]) -> dict[str, Any]:
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


def _blanks(model: Any, rows: Sequence[Any], context: int) -> tuple[np.ndarray, list[float]]:
    """Nats and tokens of the middle of each blank; the blanks of a row are the same for every variant."""
    import torch

    from tunesmith.objectives.infill import Infill
    from tunesmith.step.step import passes_of
    from tunesmith.text.encode import Text

    text, asked = Text(model.tokenizer, length=context, too_long="split"), Infill(rate=1.0, learn="middle")
    units = [unit for n, row in enumerate(rows) for unit in asked.units(row, text, np.random.default_rng([0, n]))]
    nats, tokens = np.zeros(len(units)), [0.0] * len(units)
    model.net.eval()
    with torch.no_grad():
        for chosen in passes_of(model.policy, units, 16384):
            batch = model.policy.batch([units[i] for i in chosen])
            inside = batch.columns["middle"] * batch.weight
            sums = batch.per_example(-model.policy.logprobs(batch) * inside).tolist()
            counts = batch.per_example(inside).tolist()
            for i, total, count in zip(chosen, sums, counts, strict=True):
                nats[i], tokens[i] = total, count
    kept = [i for i, count in enumerate(tokens) if count]
    return nats[kept], [tokens[i] for i in kept]


def _bits(nats: np.ndarray, sizes: Sequence[float]) -> dict[str, Any]:
    """Bits per unit of size, with the interval of a bootstrap over rows."""
    from tunesmith.stats.intervals import bca
    from tunesmith.stats.summary import Summary

    size = np.asarray(sizes, float)
    interval = bca(lambda counts: counts @ nats / (counts @ size) / math.log(2), len(size))
    value = float(nats.sum() / size.sum() / math.log(2))
    return Summary(value, interval.n, interval.low, interval.high, "lower").as_dict()


def _to_answer(compare: Any, runs: Mapping[str, str], projects: Mapping[str, Any]) -> str | None:
    """The stage whose test rows are answered: as told, or the last one with metrics whose rows are questions."""
    from tunesmith.core.errors import ProjectError

    for word in ("answer", "judge", "reference"):
        asked = getattr(compare, word)
        if asked is not None and asked not in runs:
            raise ProjectError(f"compare.{word} is {asked}, which is no stage.", wanted=f"One of: {', '.join(runs)}.")
    if compare.answer is not None:
        return str(compare.answer)
    fitting = [
        name
        for name, run in runs.items()
        if json.loads((Path(run) / "data" / "card.json").read_text("utf-8"))["kind"] in ("chat", "prompt")
        and (projects[name][0].metrics or compare.metrics or compare.judge or compare.reference)
    ]
    return fitting[-1] if fitting else None


def _metrics(specs: Sequence[Any]) -> dict[str, Any]:
    from tunesmith.core.errors import SettingError
    from tunesmith.core.shelf import shelf

    made: dict[str, Any] = {}
    for spec in specs:
        name, _ = shelf("metrics").spec(spec, "metrics")
        metric = shelf("metrics").make(spec, "metrics")
        if needs := getattr(metric, "needs", ()):
            raise SettingError(
                f"The metric {name} needs {', '.join(needs)}, which the table of a chain does not provide.",
                fix="Name others for the table: compare.metrics=[token_f1]",
            )
        made[name if name not in made else f"{name}-{len(made) + 1}"] = metric
    return made


@dataclass(frozen=True, eq=False)
class _Asking:
    """What every variant is asked, and how its answers are judged: by metrics, a reward model, and how far they are from a reference."""

    stage: str
    rows: list[Any]
    metrics: Mapping[str, Any]
    asked: Any
    max_tokens: int
    judge: Any
    reference: Any
    names: tuple[str | None, str | None]

    @staticmethod
    def of(
        compare: Any,
        stage: str,
        projects: Mapping[str, Any],
        runs: Mapping[str, str],
        metrics: Mapping[str, Any],
        context: int,
    ) -> "_Asking | None":
        from tunesmith.adapters.store import merge, open_run
        from tunesmith.data.prepare import open_test
        from tunesmith.evals.reward import RewardModel
        from tunesmith.text.encode import Text

        rows = list(open_test(runs[stage], by="chain"))
        if compare.rows is not None and len(rows) > compare.rows:
            rows = [rows[i] for i in sorted(random.Random(0).sample(range(len(rows)), compare.rows))]
        asked = projects[stage][0].generate
        most = compare.max_tokens or asked.max_tokens
        text = Text(open_run(runs[stage]).tokenizer)
        rows = [row for row in rows if _asked_length(row, text) + most <= context]
        judge = RewardModel.open(runs[compare.judge]) if compare.judge else None
        reference = merge(open_run(runs[compare.reference])) if compare.reference else None
        names = (compare.judge, compare.reference)
        return _Asking(stage, rows, metrics, asked, most, judge, reference, names) if rows else None

    def __call__(self, model: Any, evals: Path) -> dict[str, Any]:
        """Scores of a variant's answers by the name of the measure; the answers lie in `evals`."""
        from tunesmith.evals.files import read_evaluation
        from tunesmith.evals.run import as_question, evaluate
        from tunesmith.text.encode import Text

        asked, sampled = self.asked, self.judge is not None or self.reference is not None
        found = evaluate(
            model, Text(model.tokenizer), self.rows, self.metrics, folder=evals, name=f"{self.stage}-answers",
            max_tokens=self.max_tokens, temperature=1.0 if sampled else asked.temperature, top_p=1.0 if sampled else asked.top_p,
            stop=asked.stop, seed=asked.seed or 0, batch=asked.batch,
        )  # fmt: skip
        measures = {f"{self.stage}: {name}": one for name, one in found["metrics"].items()}
        if not sampled:
            return measures
        said = [str(line["prediction"]) for line in read_evaluation(evals / f"{self.stage}-answers").rows]
        questions = [as_question(row) for row in self.rows]
        measures[f"{self.stage}: words of an answer"] = _mean([len(text.split()) for text in said], "lower")
        if self.judge is not None:
            measures[f"{self.stage}: score by {self.names[0]}"] = _mean(self.judge.score(questions, said), "higher")
        if self.reference is not None and any(text.strip() for text in said):
            far = self._distances(model, questions, said)
            measures[f"{self.stage}: KL to {self.names[1]}, nats"] = _mean(far, "lower")
        return measures

    def _distances(self, model: Any, rows: Sequence[Any], said: Sequence[str]) -> list[float]:
        """log p of each sampled answer, less what the reference gives it: their mean estimates the KL divergence of an answer."""
        from tunesmith.evals.preference import answer_logprobs

        kept = [i for i, text in enumerate(said) if text.strip()]
        answers = [[{"role": "assistant", "content": said[i]}] for i in kept]
        own, other = (answer_logprobs(one)([rows[i] for i in kept], answers) for one in (model, self.reference))
        return [one - two for one, two in zip(own, other, strict=True)]


def _mean(values: Sequence[float], better: str) -> dict[str, Any]:
    """A mean with its interval over rows; of one row or none there is no interval."""
    from tunesmith.stats.intervals import mean_interval

    found = mean_interval(np.asarray(values, float))
    ends = {name: value if math.isfinite(value) else None for name, value in (("low", found.low), ("high", found.high))}
    return {"value": float(found.value), "n": len(values), **ends, "better": better, "extra": {}}


def _signs(variants: Sequence[Mapping[str, Any]], compare: Any, asking: Any) -> list[str]:
    """Where the judge's score rose beyond chance while a metric it does not see fell beyond chance: reward hacking."""
    start = next((one for one in variants if one["name"] == compare.reference), None)
    if asking is None or compare.judge is None or start is None:
        return []
    judged = f"{asking.stage}: score by {compare.judge}"
    told = []
    for one in variants:
        if judged not in one["measures"] or one is start or judged not in start["measures"]:
            continue
        risen = _apart(one["measures"][judged], start["measures"][judged])
        for name in asking.metrics:
            metric = f"{asking.stage}: {name}"
            if risen > 0 and _apart(one["measures"][metric], start["measures"][metric]) < 0:
                before, after = start["measures"][metric]["value"], one["measures"][metric]["value"]
                told.append(
                    f"A sign of reward hacking in {one['name']}: the score by {compare.judge} rose over {compare.reference}'s "
                    f"by {risen:.3f} while {name} fell from {before:.3f} to {after:.3f}."
                )
    return told


def _apart(one: Mapping[str, Any], other: Mapping[str, Any]) -> float:
    """The difference of two measures whose intervals do not overlap, counted so that more is better; else 0."""
    if None in (one["low"], one["high"], other["low"], other["high"]):
        return 0.0
    overlap = one["low"] <= other["high"] and other["low"] <= one["high"]
    difference = float(one["value"] - other["value"])
    return 0.0 if overlap else difference if one["better"] == "higher" else -difference


def _asked_length(row: Mapping[str, Any], text: Any) -> int:
    turns = row["messages"][:-1] if row["messages"][-1]["role"] == "assistant" else row["messages"]
    return len(text.prompt(turns, row.get("tools")))
