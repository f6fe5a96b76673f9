"""A run folder, read for showing: every file is optional, nothing in it can make a page crash.

    run = read_run("runs/lora")
    run.steps[-1]["loss"], run.missing        # what is not there or cannot be read is named

Files: project.yaml, manifest.json, events.jsonl, data/card.json, data/train.jsonl, data/dropped.jsonl,
data/lengths.json, data/examples.json, evals/NAME.json and .jsonl, memory.json, plan.json, seeds.json,
parameters.json, chosen.json, explanation.json, loss_per_row.jsonl. The events read are start, step, eval, sample,
warning, stopped, error and end; others are skipped.
"""

import heapq
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tunesmith.report.formats import finite
from tunesmith.report.rows import RowLosses, read_rows

EXPECTED = ("project.yaml", "manifest.json", "events.jsonl", "data/card.json", "memory.json", "parameters.json")
WORST = 10  # rows shown
HARDEST, EASIEST = 8, 5  # rows shown by their loss
AT_ONCE = 1 << 16
SCANNED = 20_000  # rows of data/train.jsonl whose length is looked at when lengths.json is not there


@dataclass(frozen=True)
class Evaluation:
    """One evaluation: its name, what evals/NAME.json says, and the worst rows of evals/NAME.jsonl."""

    name: str
    summary: Mapping[str, Any]
    worst: list[dict[str, Any]] = field(default_factory=list)
    num_rows: int = 0
    tokens_read: float | None = None
    tokens_written: float | None = None
    seconds_per_answer: float | None = None

    @property
    def is_panel(self) -> bool:
        """Is it of the other-task panel, not of the task itself?"""
        return "panel_hash" in self.summary or "panel" in self.summary


@dataclass(frozen=True)
class Run:
    """What the files of one run folder say. Lists and dicts are empty where a file is missing."""

    folder: Path
    project: Mapping[str, Any]
    manifest: Mapping[str, Any]
    events: Mapping[str, list[dict[str, Any]]]
    card: Mapping[str, Any]
    lengths: Mapping[str, Any]
    examples: list[Any]
    texts: Mapping[str, dict[str, str]]
    dropped: Mapping[str, int]
    evaluations: list[Evaluation]
    memory: Mapping[str, Any]
    plan: Mapping[str, Any]
    seeds: Mapping[str, Any]
    parameters: Any
    chosen: Mapping[str, Any]
    explanation: Any
    rows: RowLosses
    missing: list[str]

    @property
    def name(self) -> str:
        return self.folder.resolve().name

    @property
    def steps(self) -> list[dict[str, Any]]:
        """The step events in order of step. After a resume the later telling of a step counts."""
        return in_order(self.events.get("step", []))

    @property
    def evals(self) -> list[dict[str, Any]]:
        """The eval events in order of step."""
        return in_order(self.events.get("eval", []))

    def last(self, kind: str) -> dict[str, Any]:
        """The last event of a kind, or an empty dict."""
        return self.events.get(kind, [{}])[-1]


def in_order(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Events by their step, one per step: the last told wins (a resumed run tells some steps twice)."""
    by_step = {event["step"]: event for event in events if finite(event.get("step"))}
    return [by_step[step] for step in sorted(by_step)]


def read_run(folder: str | Path) -> Run:
    """Read a run folder. What is missing or unreadable is named in `.missing`; a folder that is none gives an empty
    Run."""
    folder = Path(folder)
    missing: list[str] = [name for name in EXPECTED if not (folder / name).is_file()]
    events: dict[str, list[dict[str, Any]]] = {}
    for event in lines(folder / "events.jsonl", missing):
        if isinstance(event.get("kind"), str):
            events.setdefault(event["kind"], []).append(event)
    reasons: Counter[str] = Counter()
    for drop in lines(folder / "data" / "dropped.jsonl", missing):
        reasons[str(drop.get("reason", "?"))] += 1
    rows = read_rows(lines(folder / "loss_per_row.jsonl", missing), hardest=HARDEST, easiest=EASIEST)
    texts, lengths, examples = _look_at_rows(
        folder / "data" / "train.jsonl", {str(row.get("origin")) for row in [*rows.hardest, *rows.easiest]}, missing
    )
    told_examples = read_json(folder / "data" / "examples.json", missing)
    return Run(
        folder=folder,
        project=as_dict(read_yaml(folder / "project.yaml", missing)),
        manifest=as_dict(read_json(folder / "manifest.json", missing)),
        events=events,
        card=as_dict(read_json(folder / "data" / "card.json", missing)),
        lengths=as_dict(read_json(folder / "data" / "lengths.json", missing)) or lengths,
        examples=told_examples if isinstance(told_examples, list) else examples,
        texts=texts,
        dropped=dict(reasons.most_common()),
        evaluations=list(read_evaluations(folder / "evals", missing)),
        memory=as_dict(read_json(folder / "memory.json", missing)),
        plan=as_dict(read_json(folder / "plan.json", [])),
        seeds=as_dict(read_json(folder / "seeds.json", [])),
        parameters=read_json(folder / "parameters.json", missing),
        chosen=as_dict(read_json(folder / "chosen.json", missing)),
        explanation=read_json(folder / "explanation.json", missing),
        rows=rows,
        missing=missing,
    )


def glance(folder: Path) -> dict[str, Any]:
    """What a list of runs tells of one, without reading its events: name, model, method, adapter, score, status,
    created, parent.

    status: running | finished | stopped | failed | none, by the last events of the journal.
    """
    problems: list[str] = []
    project = as_dict(read_yaml(folder / "project.yaml", problems))
    manifest = as_dict(read_json(folder / "manifest.json", problems))
    score = None
    for path in sorted((folder / "evals").glob("*.json")):
        found = as_dict(read_json(path, problems))
        metric = main_metric(found)
        if metric is not None and "panel_hash" not in found and (score is None or path.stem == "test"):
            value = summaries(found)[metric]
            score = {
                "evaluation": path.stem,
                "metric": metric,
                **{key: value.get(key) for key in ("value", "low", "high", "n", "better")},
            }
            score["share"] = in_percent(value)
    return {
        "name": folder.resolve().name,
        "path": str(folder),
        "verb": manifest.get("verb"),
        "created": manifest.get("created"),
        "model": word_of(project.get("model")),
        "method": word_of(project.get("method")),
        "adapter": word_of(project.get("adapter")),
        "score": score,
        "status": _status(folder / "events.jsonl"),
        "parent": manifest.get("parent"),
        "seed": manifest.get("seed"),
    }


def _status(path: Path) -> str:
    if not path.is_file():
        return "none"
    with open(path, "rb") as file:
        file.seek(max(0, path.stat().st_size - 16384))
        tail = file.read().decode("utf-8", errors="replace").splitlines()
    for line in reversed(tail):
        try:
            kind = as_dict(json.loads(line)).get("kind")
        except ValueError:
            continue
        if kind in ("end", "stopped", "error"):
            return {"end": "finished", "stopped": "stopped", "error": "failed"}[kind]
        if kind in ("step", "start", "pause"):
            return "running"
    return "none"


def word_of(value: Any) -> str:
    """The name in a project value: "lora" or {"lora": {"rank": 8}} -> "lora"; nothing -> ""."""
    if isinstance(value, Mapping):
        return str(next(iter(value), ""))
    return "" if value is None else str(value)


def _look_at_rows(
    path: Path, origins: set[str], problems: list[str]
) -> tuple[dict[str, dict[str, str]], dict[str, Any], list[Any]]:
    """One pass over the training rows: the texts of some origins; lengths in characters; the first rows, as
    segments."""
    texts: dict[str, dict[str, str]] = {}
    lengths: list[int] = []
    first: list[Any] = []
    if not path.is_file():
        return {}, {}, []
    for number, row in enumerate(lines(path, problems)):
        if number >= SCANNED and not origins - texts.keys():
            break
        origin = str(row.get("origin"))
        messages = row.get("messages")
        if isinstance(messages, list) and all(isinstance(m, Mapping) for m in messages):
            parts = [(str(m.get("role", "")), str(m.get("content") or "")) for m in messages]
            last = max((i for i, (role, _) in enumerate(parts) if role == "assistant"), default=len(parts))
            prompt, answer = "\n".join(text for _, text in parts[:last]), "\n".join(text for _, text in parts[last:])
            trained = [m.get("role") == "assistant" and m.get("train", True) is not False for m in messages]
            segments = [{"role": role, "text": text, "trained_on": on} for (role, text), on in zip(parts, trained)]
        else:
            prompt, answer = str(row.get("text") or ""), str(row.get("label", ""))
            segments = [{"role": "", "text": prompt, "trained_on": "label" not in row}]
        if origin in origins:
            texts.setdefault(origin, {"prompt": prompt, "answer": answer})
        if number < SCANNED:
            lengths.append(len(prompt) + len(answer))
        if number < 3:
            first.append({"origin": origin, "segments": segments, "roles": True})
    return texts, {**lengths_of(lengths), "unit": "characters"} if lengths else {}, first


def lengths_of(lengths: Any, limit: int | None = None) -> dict[str, Any]:
    """What data/lengths.json holds: a histogram in about 24 equal steps of a round width, with median, longest and
    the limit.

    >>> lengths_of([3, 4, 9])
    {'edges': [3, 4, 5, 6, 7, 8, 9, 10], 'counts': [1, 1, 0, 0, 0, 0, 1], 'median': 4, 'longest': 9, 'limit': None}
    """
    import numpy as np

    lengths = np.asarray(lengths)
    if not len(lengths):
        return {}
    numbers: Counter[int] = Counter()  # of each length: what follows takes no memory for a row
    for begin in range(0, len(lengths), AT_ONCE):
        found, number = np.unique(lengths[begin : begin + AT_ONCE], return_counts=True)
        numbers.update(dict(zip(found.tolist(), number.tolist())))
    sizes = np.array(sorted(numbers), dtype=np.int64)
    each = np.array([numbers[size] for size in sizes.tolist()], dtype=np.int64)
    least, most = int(sizes[0]), int(sizes[-1])
    width = next(w for w in (10**power * m for power in range(12) for m in (1, 2, 5)) if (most - least) / w < 24)
    start = least // width * width
    edges = list(range(start, most + width + 1, width))
    counts = np.histogram(sizes, bins=edges, weights=each)[0].tolist()
    if len(counts) > 1 and edges[-2] > most:
        edges, counts = edges[:-1], counts[:-1]
    return {
        "edges": edges,
        "counts": counts,
        "median": int(sizes[np.searchsorted(np.cumsum(each), len(lengths) / 2)]),
        "longest": most,
        "limit": limit,
    }


def as_dict(value: Any) -> dict[str, Any]:
    return dict(value) if isinstance(value, Mapping) else {}


def read_json(path: Path, problems: list[str]) -> Any:
    """A JSON file; None when it is not there, and named in `problems` when it is no JSON."""
    if not path.is_file():
        return None
    try:
        return json.loads(path.read_text(encoding="utf-8", errors="replace"))
    except (ValueError, OSError) as error:
        problems.append(f"{path.name} ({error})")
        return None


def read_yaml(path: Path, problems: list[str]) -> Any:
    """A YAML file, as `read_json`."""
    if not path.is_file():
        return None
    import yaml

    try:
        return yaml.safe_load(path.read_text(encoding="utf-8", errors="replace"))
    except (yaml.YAMLError, OSError) as error:
        problems.append(f"{path.name} ({str(error).splitlines()[0]})")
        return None


def lines(path: Path, problems: list[str]) -> Iterator[dict[str, Any]]:
    """The dicts of a journal. A torn last line is ignored; lines before it that are no JSON are counted in
    `problems`."""
    if not path.is_file():
        return
    bad, torn = 0, False
    with open(path, encoding="utf-8", errors="replace") as file:
        for line in file:
            if not line.strip():
                continue
            bad += torn  # the line before was not the last
            try:
                value = json.loads(line)
                torn = False
            except ValueError:
                torn = True
                continue
            if isinstance(value, dict):
                yield value
    if bad:
        problems.append(f"{path.name} ({bad} lines are not JSON)")


def read_evaluations(folder: Path, problems: list[str]) -> Iterator[Evaluation]:
    """Every evals/NAME.json, with what the rows beside it say."""
    found = [path for path in folder.glob("*.json*") if path.suffix in (".json", ".jsonl") and path.name[0] != "."]
    evaluations = [_read_evaluation(folder, name, problems) for name in sorted({path.stem for path in found})]
    yield from sorted(evaluations, key=lambda each: (each.is_panel, each.name != "test", each.name != "dev"))


def _read_evaluation(folder: Path, name: str, problems: list[str]) -> Evaluation:
    summary = as_dict(read_json(folder / f"{name}.json", problems))
    metric = main_metric(summary)
    better = as_dict(summaries(summary).get(metric or "")).get("better", "higher")
    total = 0
    sums: dict[str, list[float]] = {"prompt_tokens": [], "tokens": [], "seconds": []}
    worst: list[tuple[tuple[float, float], int, dict[str, Any]]] = []
    for row in lines(folder / f"{name}.jsonl", problems):
        total += 1
        for key, values in sums.items():
            if finite(row.get(key)):
                values.append(row[key])
        value = row_value(row, metric)
        if value is None or (value >= 1 and better != "lower"):
            continue
        bad = -value if better != "lower" else value
        heapq.heappush(worst, ((bad, confidence(row)), -total, row))
        if len(worst) > WORST:
            heapq.heappop(worst)
    means = {key: sum(values) / len(values) if values else None for key, values in sums.items()}
    per_answer = as_dict(summary.get("cost")).get("seconds_per_answer")  # of a batch: the cost, not the wait
    return Evaluation(
        name,
        summary,
        [row for _, _, row in sorted(worst, key=lambda item: item[:2], reverse=True)],
        total,
        means["prompt_tokens"],
        means["tokens"],
        per_answer if finite(per_answer) else means["seconds"],
    )


def summaries(evaluation: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The metrics of an evaluation: {"exact_match": {"value", "n", "low", "high", "better"}}."""
    inner = evaluation.get("metrics") or evaluation
    if not isinstance(inner, Mapping):
        return {}
    return {str(k): dict(v) for k, v in inner.items() if isinstance(v, Mapping) and "value" in v}


def main_metric(evaluation: Mapping[str, Any]) -> str | None:
    """The first metric: the one the project names first."""
    return next(iter(summaries(evaluation)), None)


def in_percent(found: Mapping[str, Any]) -> bool:
    """Whether a metric's summary is a share: better when higher, its figures within 0..1, and no unit of its own (a reward)."""
    figures = [found[key] for key in ("value", "low", "high") if finite(found.get(key))]
    within = bool(figures) and all(0 <= figure <= 1 for figure in figures)
    return within and found.get("better", "higher") == "higher" and "unit" not in as_dict(found.get("extra"))


def row_value(row: Mapping[str, Any], metric: str | None) -> float | None:
    """A row's value of a metric, as a number where it is one (True is 1)."""
    values = as_dict(row.get("metrics")) or row
    value = values.get(metric or "")
    if isinstance(value, bool):
        return float(value)
    return float(value) if finite(value) else None


def confidence(row: Mapping[str, Any]) -> float:
    """How sure the model was of a row's answer (mean log-probability), where that is known: sure and wrong comes
    first."""
    value = next((row[key] for key in ("logprob", "confidence") if finite(row.get(key))), None)
    return float(value) if value is not None else -1e9


def text_of(row: Mapping[str, Any], *names: str) -> str:
    """The first of some columns that a row has, as text: a string, the words of messages, else its str; "" without one."""
    for name in names:
        value = row.get(name)
        if isinstance(value, str):
            return value
        if isinstance(value, list) and all(isinstance(m, Mapping) for m in value):
            return "\n".join(str(m.get("content", "")) for m in value)
        if value is not None:
            return str(value)
    return ""
