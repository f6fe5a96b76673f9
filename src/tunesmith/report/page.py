"""A folder -> one self-contained page, report.html: inline CSS and SVG, no script, nothing from the network.

    write_report("runs/lora", lang="ko")      a run folder: the run page
    write_report("runs/demo")                 a folder with report.json: the comparison of several variants

report.json, what a comparison shows (everything but `variants` may be missing; a section appears only with its data):

    {"title": "Banking77", "task": "one sentence on the task and its data", "lang": "en",
     "metric": {"name": "exact_match", "unit": "share" | "number", "better": "higher" | "lower"},
     "rows": {"train": 9003, "dev": 1000, "test": 770},
     "model": {"name": "mini", "parameters": 8123456},
     "baseline": "name of a variant",                     without it: the first of kind prompt
     "variants": [{"name", "kind": prompt | examples | retrieval | lora | full | features | other,
                   "score", "low", "high", "n", "prompt_tokens_per_answer", "tokens_per_answer",
                   "seconds_per_answer", "trainable": weights trained, "minutes": of training,
                   "valid": share of answers in the format asked for, "note"}],
     "tests": [{"a", "b", "difference": score of b - score of a, "low", "high", "p", "n", "test": "McNemar",
                "verdict": "better" | "worse" | "not told apart", or the sentence of stats.words}],
     "panel": [{"task", "metric", "variant", "unit", "better", "before": {"value", "low", "high", "n"}, "after": {...},
                "low", "high": paired interval of after - before, "outcome", "kept": inside a margin?}],
     "worst_rows": [{"prompt", "expected", "answer", "origin"}],
     "runs": {"LoRA": "lora", "Full tuning": "full"},     folders of runs, relative to report.json: their events give
                                                          the curves, their memory.json the memory; the first data
                                                          card, worst rows and confusion found in them are shown
     "curves": {"LoRA": [events]}, "memory": {"LoRA": memory.json}, "data_card": {...}     instead of those of `runs`
     "confusion": {"labels", "matrix"}, "budget": "one sentence on the time budget", "manifest": {...}, "created"}
"""

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from tunesmith import __version__
from tunesmith.core.errors import ProjectError, SettingError
from tunesmith.core.files import write_whole
from tunesmith.report import card, compared, facts, formats, learned
from tunesmith.report.curves import curves
from tunesmith.report.formats import finite
from tunesmith.report.labels import LANGUAGES, speaker
from tunesmith.report.read import Evaluation, Run, as_dict, read_json, read_run, read_yaml, word_of
from tunesmith.report.rows import RowLosses
from tunesmith.report.verdict import Say, comparison_verdict, run_verdict

TEMPLATES = Path(__file__).parent / "templates"
KNOWN = {
    "format", "title", "task", "lang", "metric", "rows", "model", "baseline", "variants", "tests", "panel",
    "worst_rows", "runs", "curves", "memory", "data_card", "confusion", "budget", "manifest", "created",
}  # fmt: skip


def write_report(folder: str | Path, *, lang: str | None = None) -> Path:
    """Write report.html into a run folder, or into a folder with report.json. Returns its path.

    lang: "en" or "ko"; None takes the folder's own (`lang` of project.yaml or report.json), else English. A folder
    with none of the
    files of a run is a ProjectError.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ProjectError(f"There is no folder {folder}.", wanted="A run folder, or a folder with report.json.")
    page = (
        render_comparison(folder, lang=lang)
        if (folder / "report.json").is_file()
        else render_run(read_run(folder), lang=lang)
    )
    return write_whole(folder / "report.html", page)


def is_run(folder: Path) -> bool:
    """Does a folder hold something that a page can show?"""
    return any((folder / name).is_file() for name in ("manifest.json", "events.jsonl", "report.json", "project.yaml"))


def choose_language(asked: str | None, own: Any) -> str:
    """The language asked for, else the folder's own, else English. One that we do not speak is a SettingError."""
    lang = asked or (own if own in LANGUAGES else "en")
    if lang not in LANGUAGES:
        raise SettingError(f"lang is {lang!r}.", wanted=f"It can be {' or '.join(LANGUAGES)}.")
    return str(lang)


def own_language(folder: Path) -> Any:
    """What a folder says about its language, None where it does not."""
    found = read_json(folder / "report.json", []) or read_yaml(folder / "project.yaml", [])
    return as_dict(found).get("lang")


def read_report(folder: Path) -> dict[str, Any]:
    """report.json of a folder; a ProjectError when it is no JSON object."""
    try:
        report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    except ValueError as error:
        raise ProjectError(f"{folder / 'report.json'} is not JSON: {error}") from None
    if not isinstance(report, dict):
        raise ProjectError(f"{folder / 'report.json'} holds no object.", wanted='{"title": ..., "variants": [...]}')
    return report


@cache
def _template() -> Any:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["breaks"] = breaks
    return environment.get_template("page.html.jinja")


def _render(**values: Any) -> str:
    from markupsafe import Markup

    css = Markup((TEMPLATES / "page.css").read_text(encoding="utf-8"))
    return str(_template().render(css=css, version=__version__, **values))


def breaks(text: Any) -> Any:
    """Text that may break after _ / - . inside long words: card_payment_wrong -> card_<wbr>payment_<wbr>wrong, all
    else escaped."""
    from markupsafe import Markup, escape

    safe = str(escape(text))
    return Markup(re.sub(r"(?<=[^\s_/.-][_/.-])(?=[^\s_/.-])", "<wbr>", safe)) if len(safe) > 16 else Markup(safe)


def _section(
    say: Say, name: str, data: Any, *, draw: str | None = None, help: str | None = None
) -> list[dict[str, Any]]:
    """One section as a list, empty when there is nothing to show."""
    if not data:
        return []
    return [
        {
            "id": name.replace("_", "-"),
            "title": say(name),
            "help": say(help or f"{name}_help"),
            "draw": draw or name,
            "data": data,
        }
    ]


def _memory_help(memory: Mapping[str, Any] | None) -> str:
    return "memory_help" if memory and memory["measured"] else "memory_planned_help"


def render_run(run: Run, *, lang: str | None = None) -> str:
    """The page of one training run."""
    if not is_run(run.folder):
        raise ProjectError(f"{run.folder} is no run folder: it has no manifest.json, project.yaml or events.jsonl.")
    lang = choose_language(lang, run.project.get("lang"))
    say = speaker(lang)
    worst = next((e.worst for e in run.evaluations if e.worst), [])
    memory = learned.memory({"": run.memory}, say)
    settings = facts.settings(run) or {"hyper": [], "rest": []}
    parts = [
        *_section(say, "scores", compared.scores(run.evaluations, say, lang)),
        *_section(say, "tests", compared.tests(compared.before_after(run.evaluations, say), say, lang)),
        *_section(say, "curves", curves({run.name: run}, say)),
        *_section(say, "worst", compared.worst(worst, say)),
        *_section(say, "confusion", compared.confusion(run.evaluations, say)),
        *_section(say, "panel", compared.panel({"panel": _run_panel(run)}, say)),
        *_section(say, "samples", learned.samples(run, say)),
        *_section(say, "settings", settings["hyper"], draw="chosen"),
        *_section(say, "weights", facts.weights(run, say)),
        *_section(say, "batch", learned.batch(run, say, lang), draw="facts"),
        *_section(say, "memory", memory, help=_memory_help(memory)),
        *_section(say, "plan", learned.plan(run, say, lang), draw="facts"),
        *_section(say, "seeds", learned.seeds(run, say), draw="facts"),
        *_section(say, "data", card.data(run, say)),
        *_section(say, "row_losses", learned.row_losses(run, say)),
        *_section(say, "figures", facts.figures(run.explanation, lang), draw="pairs_list"),
        *_section(say, "choices", settings["rest"], draw="folded_values"),
        *_section(say, "manifest", _manifest(run.manifest, say), draw="pairs_list"),
    ]
    method, model = word_of(run.project.get("method")), word_of(run.project.get("model"))
    return _render(
        lang=lang,
        say=say,
        title=run.name,
        lead=say("run_of", method=f"{method}{_with(run)}", model=model) if method and model else "",
        eyebrow=[text for text in (say("kind_run"), _day(run.manifest.get("created"))) if text],
        verdict=run_verdict(run, say, lang),
        sections=parts,
        footer=[say("missing", list=", ".join(run.missing))] if run.missing else [],
    )


def _with(run: Run) -> str:
    adapter = word_of(run.project.get("adapter"))
    return f" ({adapter})" if adapter else ""


def _run_panel(run: Run) -> Any:
    """The other-task panel of a run: evals/panel.json as {"panel": [...]}, or a "panel" in the manifest."""
    for evaluation in run.evaluations:
        found = evaluation.summary.get("panel")
        if isinstance(found, list):
            return found
    found = run.manifest.get("panel")
    return found if isinstance(found, list) else []


def _manifest(found: Mapping[str, Any], say: Say, budget: Any = None) -> list[tuple[str, str]] | None:
    rows = facts.manifest(found, say) or []
    reads = facts.test_reads(found, say)
    first = [(say("test_reads"), reads)] if reads else []
    if budget:
        first.insert(0, (say("budget"), str(budget)))
    return [*first, *rows] or None


def _day(created: Any) -> str:
    """2026-11-21T13:08:00Z -> 2026-11-21 13:08; seconds since 1970 are understood too."""
    if finite(created):
        from datetime import UTC, datetime

        return datetime.fromtimestamp(created, UTC).strftime("%Y-%m-%d %H:%M UTC")
    text = str(created or "")
    return (
        text[:16].replace("T", " ") + (" UTC" if text.endswith("Z") else "")
        if len(text) >= 16 and text[10:11] == "T"
        else text
    )


def render_comparison(folder: Path, *, lang: str | None = None) -> str:
    """The page of several variants, from `folder/report.json`."""
    problems: list[str] = []
    report = read_report(folder)
    lang = choose_language(lang, report.get("lang"))
    say = speaker(lang)
    runs: dict[str, Run] = {}
    for name, path in as_dict(report.get("runs")).items():
        if (folder / str(path)).is_dir():
            runs[str(name)] = read_run(folder / str(path))
        else:
            problems.append(str(path))
    told = {
        str(name): _run_of(folder, events)
        for name, events in as_dict(report.get("curves")).items()
        if isinstance(events, list)
    }
    memories = {str(k): as_dict(v) for k, v in as_dict(report.get("memory")).items()} or {
        k: dict(run.memory) for k, run in runs.items()
    }
    if learned.memory_parts(as_dict(report.get("memory"))):  # one memory.json, not one per run
        memories = {"": as_dict(report["memory"])}
    data_run = next((run for run in runs.values() if run.card), None)
    if report.get("data_card"):
        data_run = replace(data_run or _run_of(folder, []), card=as_dict(report["data_card"]))
    evaluations = [e for run in runs.values() for e in run.evaluations]
    if report.get("confusion"):
        evaluations = [Evaluation("", {"": {"value": None, "confusion": report["confusion"]}})]
    rows = report.get("worst_rows") or next((e.worst for e in evaluations if e.worst), [])
    memory = learned.memory(memories, say)
    parts = [
        *_section(say, "ladder", compared.ladder(report, say)),
        *_section(say, "tests", compared.tests(report, say, lang)),
        *_section(say, "cost", compared.cost(report, say, lang)),
        *_section(say, "panel", compared.panel(report, say)),
        *_section(say, "worst", compared.worst([row for row in rows if isinstance(row, Mapping)], say)),
        *_section(say, "confusion", compared.confusion(evaluations, say)),
        *_section(say, "curves", curves(told or runs, say) if told or runs else None),
        *_section(say, "memory", memory, help=_memory_help(memory)),
        *_section(say, "data", card.data(data_run, say) if data_run else None),
        *_section(
            say, "manifest", _manifest(as_dict(report.get("manifest")), say, report.get("budget")), draw="pairs_list"
        ),
    ]
    split = as_dict(report.get("rows"))
    counts = [
        say(f"num_{name}_rows", n=formats.count(split[name]))
        for name in ("train", "dev", "test")
        if finite(split.get(name))
    ]
    footer = [say("missing", list=", ".join(problems + [f"{n}/{m}" for n, run in runs.items() for m in run.missing]))]
    unknown = [str(key) for key in report if key not in KNOWN]
    return _render(
        lang=lang,
        say=say,
        title=str(report.get("title") or say("untitled")),
        lead=str(report.get("task") or ""),
        eyebrow=[text for text in (say("kind_comparison"), *counts, _day(report.get("created"))) if text],
        verdict=comparison_verdict(report, say, lang),
        sections=parts,
        footer=(footer if problems or any(run.missing for run in runs.values()) else [])
        + ([say("not_shown", list=", ".join(unknown))] if unknown else []),
    )


def _run_of(folder: Path, events: list[Any]) -> Run:
    """Events told inside report.json, as a run."""
    kinds: dict[str, list[dict[str, Any]]] = {}
    for event in events:
        if isinstance(event, dict):
            kind = event.get("kind") or ("eval" if "dev_loss" in event else "step")
            kinds.setdefault(str(kind), []).append(event)
    empty: dict[str, Any] = {}
    return Run(
        folder=folder, project=empty, manifest=empty, events=kinds, card=empty, lengths=empty, examples=[], texts={},
        dropped={}, evaluations=[], memory=empty, plan=empty, seeds=empty, parameters=None, chosen=empty, explanation=None, rows=RowLosses(), missing=[],
    )  # fmt: skip
