"""A run, or a comparison, in plain text for the terminal: the same verdict words as the page, then the figures that
matter most.

print(summary("runs/lora", lang="ko"))
print(table([["name", "score"], ["lora", "82.9%"]]))
"""

import textwrap
from collections.abc import Sequence
from pathlib import Path

from tunesmith.report import compared, formats, learned
from tunesmith.report.formats import finite, padded, wide
from tunesmith.report.labels import speaker
from tunesmith.report.page import choose_language, read_report
from tunesmith.report.read import Run, read_run
from tunesmith.report.verdict import Say, Verdict, comparison_verdict, paired_tests, run_verdict

BLOCKS = "▁▂▃▄▅▆▇█"


def summary(folder: str | Path, *, lang: str | None = None, width: int = 96) -> str:
    """The verdict and the most wanted figures of a run folder, or of a folder with report.json."""
    folder = Path(folder)
    if (folder / "report.json").is_file():
        report = read_report(folder)
        lang = choose_language(lang, report.get("lang"))
        say = speaker(lang)
        parts = [told(comparison_verdict(report, say, lang), width), _ladder(report, say), _tests(report, say, lang)]
    else:
        run = read_run(folder)
        lang = choose_language(lang, run.project.get("lang"))
        say = speaker(lang)
        parts = [
            told(run_verdict(run, say, lang), width),
            _scores(run, say, lang),
            _curves(run, say),
            _batch(run, say, lang),
        ]
    return "\n\n".join(part for part in parts if part)


def told(verdict: Verdict, width: int = 96) -> str:
    """The verdict: its headline, then each point under its title."""
    lines = [*wrapped(verdict.headline, width)]
    for title, text in verdict.points:
        lines += ["", title, *(f"  {line}" for line in wrapped(text, width - 2))]
    return "\n".join(lines)


def wrapped(text: str, width: int) -> list[str]:
    """Text in lines of at most `width` columns, broken at spaces only."""
    lines: list[str] = []
    for word in text.split():
        if lines and wide(lines[-1]) + 1 + wide(word) <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return lines


def table(rows: Sequence[Sequence[str]], *, right: Sequence[int] = ()) -> str:
    """Rows of cells as aligned columns, two spaces apart; `right` names the columns aligned to the right."""
    if not rows:
        return ""
    columns = [max(wide(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [padded(cell, column, right=i in right) for i, (cell, column) in enumerate(zip(row, columns))]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def spark(values: Sequence[float], width: int = 40) -> str:
    """A curve in one line: [3, 2, 1] -> "█▄▁"; what is not finite is left out, no value gives ""."""
    good = [float(v) for v in values if finite(v)]
    if not good:
        return ""
    size = max(1, len(good) / width)
    means = []
    for k in range(min(width, len(good))):
        part = good[int(k * size) : max(int((k + 1) * size), int(k * size) + 1)]
        means.append(sum(part) / len(part))
    low, high = min(means), max(means)
    return "".join(BLOCKS[round(7 * (v - low) / (high - low))] if high > low else BLOCKS[0] for v in means)


def interval_bar(value: float, low: float | None, high: float | None, start: float, end: float, width: int = 32) -> str:
    """A dot with its interval on a line of `width` columns from `start` to `end`: "     ├─●──┤   "."""

    def at(x: float) -> int:
        return min(width - 1, max(0, round((width - 1) * (x - start) / (end - start)))) if end > start else 0

    cells = [" "] * width
    if finite(low) and finite(high):
        for k in range(at(low), at(high) + 1):  # type: ignore[arg-type]
            cells[k] = "─"
        cells[at(low)], cells[at(high)] = "├", "┤"  # type: ignore[arg-type]
    cells[at(value)] = "●"
    return "".join(cells).rstrip()


def _ladder(report: dict, say: Say) -> str:
    found = compared.ladder(report, say)
    if not found:
        return ""
    variants = [v for v in report["variants"] if isinstance(v, dict) and finite(v.get("score"))]
    known = [v[key] for v in variants for key in ("score", "low", "high") if finite(v.get(key))]
    start, end = min(known), max(known)
    rows = []
    for row, v in zip(found["rows"], variants):
        rows.append(
            [
                row["name"],
                row["score"],
                row["interval"],
                interval_bar(v["score"], v.get("low"), v.get("high"), start, end),
                row["n"],
            ]
        )
    return say("ladder") + "\n" + textwrap.indent(table(rows, right=(1,)), "  ")


def _tests(report: dict, say: Say, lang: str) -> str:
    found = compared.tests(report, say, lang)
    if not found:
        return ""
    marks = {t: mark for t, mark in zip(("better", "worse", "not_told_apart"), "+-=")}
    outcomes = [marks[t.outcome] for t in paired_tests(report)]
    rows = [
        [mark, row["name"], row["difference"], row["interval"], row["p"], row["verdict"]]
        for mark, row in zip(outcomes, found["rows"])
    ]
    return say("tests") + "\n" + textwrap.indent(table(rows, right=(2,)), "  ")


def _scores(run: Run, say: Say, lang: str) -> str:
    found = compared.scores(run.evaluations, say, lang)
    if not found:
        return ""
    rows = [[row["kind"], row["name"], row["score"], row["interval"], row["n"]] for row in found["rows"]]
    return say("scores") + "\n" + textwrap.indent(table(rows, right=(2,)), "  ")


def _curves(run: Run, say: Say) -> str:
    rows = []
    for label, values in (
        ("train_loss", [s.get("loss") for s in run.steps]),
        ("dev_loss", [e.get("dev_loss") for e in run.evals]),
    ):
        good = [v for v in values if finite(v)]
        if len(good) > 1:
            rows.append([say(label), formats.compact(good[0]), spark(good), formats.compact(good[-1])])
    return say("curves") + "\n" + textwrap.indent(table(rows, right=(1,)), "  ") if rows else ""


def _batch(run: Run, say: Say, lang: str) -> str:
    facts = learned.batch(run, say, lang)
    if not facts:
        return ""
    rows = []
    for fact in facts:
        rows.append([fact["name"], fact["text"]])
        rows += [["", fact["advice"]]] if fact["advice"] else []
    return say("batch") + "\n" + textwrap.indent(table(rows), "  ")
