"""The table at the end of a chain: every variant on the same test rows of every stage.

A language model is measured on texts (bits per byte, perplexity), on reference answers (bits per byte), on pairs and scored
answers (how often the better answer is the likelier), on rated ones (how often a good answer is likelier than a bad one), on
blanks (bits per token of the middle), and by metrics of its own answers. A reward model is measured on pairs and ratings, by
its score; a classifier on labels, an encoder on hidden tokens, an encoder-decoder on what it writes. A blank cell is a measure
that a variant cannot be put to, and the lines below the table say why.
"""

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunesmith.api.measures import Rows, context_of, mean, measure, measure_of, open_variant, rows_of, why_not

NOTHING = ""


def compare_variants(plan: Any, runs: Mapping[str, str], *, quiet: bool = False) -> dict[str, Any]:
    """{"variants": [{"name", "from", ..., "measures": {...}}], "measures": [names]} of a finished chain, in comparison.json.

    Variants that were measured as they are, with these settings, are not measured again."""
    import sys

    from tunesmith.api.build import resolve_model
    from tunesmith.api.device import take
    from tunesmith.core.files import hash_json, to_json, write_json
    from tunesmith.ladder.stages import with_runs
    from tunesmith.text.encode import Text

    place = plan.out / "comparison.json"
    results = [
        json.loads((Path(run) / "manifest.json").read_text("utf-8"))["outcome"]["result_hash"] for run in runs.values()
    ]
    key = hash_json([to_json(plan.compare), list(runs), results])
    if place.is_file() and (known := json.loads(place.read_text("utf-8"))).get("key") == key:
        return dict(known)
    device = take(plan.device)
    base = open_variant(resolve_model(plan.model, plan.root), device=device)
    projects = {name: _project_of(Path(run)) for name, run in runs.items()}
    objectives = {name: _objective(project) for name, (project, _) in projects.items()}
    own = base.model.context
    context = min([own, *(context_of(Path(run), own) for run in runs.values())])
    sets, without = _rows(runs, projects, objectives, plan.compare.rows, Text(base.model.tokenizer, length=context))
    writing = {name: run for name, run in runs.items() if getattr(objectives[name], "kind", "causal") == "causal"}
    answered = _to_answer(plan.compare, writing, projects)
    specs = plan.compare.metrics or (projects[answered][0].metrics if answered else ())
    judges = plan.compare.judge is not None or plan.compare.reference is not None
    asking = None
    if answered and (specs or judges):
        specs = with_runs(specs, {name: str(Path(run).resolve()) for name, run in runs.items()})
        metrics = metrics_of(specs, plan.root, device)
        asking = _Asking.of(plan.compare, answered, projects, runs, metrics, context, device)
    variants: list[dict[str, Any]] = []
    blank: list[dict[str, str]] = []
    for name in ["base", *runs]:
        if not quiet:
            print(f"Measuring {name} ...", file=sys.stderr, flush=True)
        evals = plan.out / "evals" / name
        variant = base if name == "base" else open_variant(runs[name], seed=projects[name][0].seed, device=device)
        measures: dict[str, Any] = {}
        for one in sets:
            if why := why_not(variant, one):
                blank.append({"variant": name, "measure": one.name, "why": why})
            else:
                measures |= measure(variant, one, evals, context)
        if variant.kind == "causal" and asking is not None:
            measures |= asking(variant.model, evals)
        if variant.kind == "causal" and plan.compare.panel:
            from tunesmith.evals.panel import run_panel

            measures |= {
                f"other tasks: {task}": one for task, one in run_panel(variant.model).summary["metrics"].items()
            }
        variants.append({**_facts(name, runs, plan), "measures": measures})
    names = list(dict.fromkeys(key for variant in variants for key in variant["measures"]))
    notes = {one.name: one.left_out for one in sets if one.left_out}
    seen = _seen(sets, runs)
    signs = _signs(variants, plan.compare, asking)
    facts = {"variants": variants, "measures": names, "left_out": notes, "seen": seen, "signs": signs}
    facts |= {"blank": blank, "without": without}
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
        *_blank(found.get("blank", ())),
        *(f"The test rows of {name} have no measure that variants share: tunesmith eval scores that run alone." for name in found.get("without", ())),
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


def _blank(found: Sequence[Mapping[str, str]]) -> list[str]:
    """Why cells are blank: a line a variant and reason."""
    told: dict[tuple[str, str], list[str]] = {}
    for one in found:
        told.setdefault((one["variant"], one["why"]), []).append(one["measure"])
    return [f"{name} has no {', '.join(measures)}: {why}." for (name, why), measures in told.items()]


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
        "dev_loss": outcome.get("best_dev_loss"), "trainable_share": counts["trainable"] / total if total else None,
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


def _objective(project: Any) -> Any:
    from tunesmith.core.shelf import shelf

    return shelf("objectives").make(project.method, "method")


def _rows(
    runs: Mapping[str, str], projects: Mapping[str, Any], objectives: Mapping[str, Any], most: int | None, text: Any
) -> tuple[list[Rows], list[str]]:
    """(the test rows of each stage, once where two stages have the same; stages whose rows no measure reads)."""
    from tunesmith.report.read import word_of

    sets: list[Rows] = []
    without: list[str] = []
    seen: set[tuple[str, str]] = set()
    for name, run in runs.items():
        card = json.loads((Path(run) / "data" / "card.json").read_text("utf-8"))
        how = measure_of(word_of(projects[name][1]["method"]), card["kind"])
        mark = (how, card["hashes"]["test"])
        if not card["splits"]["test"]["rows"] or mark in seen:
            continue
        seen.add(mark)
        found = rows_of(name, run, objectives[name], how, most, text) if how else None
        if found is None:
            without.append(name)
        else:
            sets.append(found)
    return sets, without


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


def _to_answer(compare: Any, runs: Mapping[str, str], projects: Mapping[str, Any]) -> str | None:
    """The stage whose test rows are answered: as told, or the last one with metrics whose rows are questions."""
    if compare.answer is not None:
        return str(compare.answer)
    fitting = [
        name
        for name, run in runs.items()
        if json.loads((Path(run) / "data" / "card.json").read_text("utf-8"))["kind"] in ("chat", "prompt")
        and (projects[name][0].metrics or compare.metrics or compare.judge or compare.reference)
    ]
    return fitting[-1] if fitting else None


def metrics_of(specs: Sequence[Any], root: Path, device: str = "cpu", *, where: str = "metrics") -> dict[str, Any]:
    """The metrics of the table by name, the second of a kind as `format-2`, each with the reward model that it needs."""
    from tunesmith.api.rewards import given, score_later
    from tunesmith.core.shelf import shelf

    made: dict[str, Any] = {}
    for spec in specs:
        name, _ = shelf("metrics").spec(spec, where)
        metric = given(
            shelf("metrics").make(spec, where), name, lambda model: score_later(model, root, device), root, device
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
        device: str,
    ) -> "_Asking | None":
        from tunesmith.adapters.store import merged, open_run
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
        judge = RewardModel.open(runs[compare.judge], device=device) if compare.judge else None
        reference = merged(open_run(runs[compare.reference], device=device)) if compare.reference else None
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
        measures[f"{self.stage}: words of an answer"] = mean([len(text.split()) for text in said], "lower")
        if self.judge is not None:
            measures[f"{self.stage}: score by {self.names[0]}"] = mean(self.judge.score(questions, said), "higher")
        if self.reference is not None and any(text.strip() for text in said):
            far = self._distances(model, questions, said)
            measures[f"{self.stage}: KL to {self.names[1]}, nats"] = mean(far, "lower")
        return measures

    def _distances(self, model: Any, rows: Sequence[Any], said: Sequence[str]) -> list[float]:
        """log p of each sampled answer, less what the reference gives it: their mean estimates the KL divergence of an answer."""
        from tunesmith.evals.preference import answer_logprobs

        kept = [i for i, text in enumerate(said) if text.strip()]
        answers = [[{"role": "assistant", "content": said[i]}] for i in kept]
        own, other = (answer_logprobs(one)([rows[i] for i in kept], answers) for one in (model, self.reference))
        return [one - two for one, two in zip(own, other, strict=True)]


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
