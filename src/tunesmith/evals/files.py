"""The two files of an evaluation: evals/NAME.jsonl, one line a row, and evals/NAME.json, the summaries.

    line     {"id", "origin", "prompt", "answer", "prediction", "metrics": {name: number}, "details": {name: dict}, "tokens", "seconds", ...}
    summary  {"format": 1, "name", "n", "rows_hash", "metrics": {name: {"value", "n", "low", "high", "better", "extra", "spec", "mean_of_rows"}}, ...}

A line's "metrics" are the per-row numbers; "details" what a metric says beyond its number (the two classes, the reason, n-gram counts).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunesmith.core.errors import DataError
from tunesmith.core.files import Journal, hash_json, to_json, write_json, write_whole
from tunesmith.core.shelf import shelf
from tunesmith.metrics import mean_summary, number_of
from tunesmith.stats.summary import Summary

FORMAT = 1


@dataclass(frozen=True)
class Evaluation:
    """An evaluation read back: its summary file, and its lines in the order of the rows."""

    path: Path
    summary: Mapping[str, Any]
    rows: Sequence[Mapping[str, Any]]

    @property
    def name(self) -> str:
        return str(self.summary.get("name") or self.path.stem)


def read_evaluation(path: str | Path) -> Evaluation:
    """An evaluation by its NAME.json, NAME.jsonl or both without ending. A DataError when it is missing or was not finished."""
    path = Path(path)
    if path.suffix in (".json", ".jsonl"):
        path = path.with_suffix("")
    summary_path, rows_path = (path.with_name(path.name + ending) for ending in (".json", ".jsonl"))
    if not summary_path.is_file() or not rows_path.is_file():
        there = rows_path.is_file()
        others = sorted(p.stem for p in path.parent.glob("*.json") if p.with_suffix(".jsonl").is_file())
        raise DataError(
            f"The evaluation {path} was not finished." if there else f"There is no evaluation {path}.",
            wanted="" if there else f"There are: {', '.join(others) or 'none'}.",
            fix="Run it again with the same settings: rows already answered are kept." if there else "",
        )
    import json

    try:
        summary = json.loads(summary_path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{summary_path} is not JSON: {error}.", fix="Evaluate again.") from None
    if summary.get("format") != FORMAT:
        raise DataError(f"{summary_path} has format {summary.get('format')}.", wanted=f"This version reads {FORMAT}.")
    rows = Journal(rows_path).read()
    if len(rows) != summary["n"]:
        raise DataError(f"{rows_path} has {len(rows)} rows, its summary {summary['n']}.", fix="Evaluate again.")
    return Evaluation(path, summary, rows)


def write_evaluation(
    folder: Path, name: str, lines: Sequence[Mapping[str, Any]], summary: Mapping[str, Any]
) -> dict[str, Any]:
    """Write both files, the lines first: a summary is there only when all its lines are. Returns what was written."""
    whole = {"format": FORMAT, "name": name, "n": len(lines), "rows_hash": rows_hash(lines), **summary}
    write_whole(folder / f"{name}.jsonl", "".join(to_json(dict(line)) + "\n" for line in lines))
    write_json(folder / f"{name}.json", whole)
    return whole


def rows_hash(lines: Iterable[Mapping[str, Any]]) -> str:
    """What was asked, as one hash: ids and reference answers in order. Prompts may differ (that is what is compared)."""
    return hash_json([[line.get("id"), line.get("answer")] for line in lines])


def score_line(metrics: Mapping[str, Any], prediction: str, row: Mapping[str, Any]) -> dict[str, Any]:
    """{"metrics": {name: number}, "details": {name: dict}} of one prediction."""
    values = {name: metric.score(prediction, row) for name, metric in metrics.items()}
    details = {name: dict(value) for name, value in values.items() if isinstance(value, Mapping)}
    return {"metrics": {name: number_of(value) for name, value in values.items()}, "details": details}


def values_of(lines: Iterable[Mapping[str, Any]], name: str) -> list[Any]:
    """The values a metric gave, as `metric.summary` takes them."""
    return [line.get("details", {}).get(name, line["metrics"][name]) for line in lines]


def summarise(
    metrics: Mapping[str, Any], lines: Sequence[Mapping[str, Any]], clusters: Sequence[Any] | None = None
) -> dict[str, Any]:
    """Every metric's summary as plain values, with the spec that makes the metric again.

    With clusters (rows that share a passage or user) the interval of a metric that is a mean of its rows is cluster-robust.
    """
    found = {}
    for name, metric in metrics.items():
        values = values_of(lines, name)
        summary: Summary = metric.summary(values)
        if clusters is not None and not hasattr(metric, "over_counts"):
            robust = mean_summary(values, better=summary.better, bounds=None, clusters=clusters)
            low, high = robust.low, robust.high
            if summary.low >= 0 and summary.high <= 1:
                low, high = max(low, 0.0), min(high, 1.0)
            extra = {**summary.extra, **robust.extra}
            summary = Summary(summary.value, summary.n, low, high, summary.better, extra)
        found[name] = {**summary.as_dict(), "spec": spec_of(metric), "mean_of_rows": not hasattr(metric, "over_counts")}
    return found


def spec_of(metric: Any) -> Any:
    """The spec that makes a metric again: a name with settings, or None for one that is on no shelf."""
    import dataclasses

    if not dataclasses.is_dataclass(metric):
        return None
    settings = {field.name: getattr(metric, field.name) for field in dataclasses.fields(metric) if field.init}
    for name, item in shelf("metrics").items().items():
        if item.class_name == type(metric).__name__ and shelf("metrics").load(name) is type(metric):
            return {name: settings}
    return None
