"""What each section of a page shows: from what a folder says to plain values and finished pictures.

Every function gives a dict for its template, or None when there is nothing to show: the page then leaves the section
out.
"""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tunesmith.report import formats, svg
from tunesmith.report.formats import finite
from tunesmith.report.read import EASIEST, HARDEST, Evaluation, Run, as_dict, main_metric, row_key, summaries
from tunesmith.report.verdict import (
    Say,
    best_of,
    counted_steps,
    difference_figure,
    is_share,
    metric_name,
    paired_tests,
    panel_of,
    parameter_counts,
    parameter_totals,
    planned_steps,
    seconds_taken,
    show_difference,
    show_score,
    variants_of,
)

KIND_COLORS = {"prompt": "c0", "examples": "c3", "retrieval": "c5", "lora": "c1", "full": "c2"}
PARTS = ("weights", "masters", "gradients", "optimiser", "activations", "other")
MANY_LABELS = 12  # more than these are folded
MOST_FIGURES = 9  # of a method's own, drawn


def kind_label(kind: Any, say: Say) -> str:
    return (
        say(f"kind_{kind}")
        if f"kind_{kind}"
        in ("kind_prompt", "kind_examples", "kind_retrieval", "kind_lora", "kind_full", "kind_features")
        else say("kind_other")
    )


def _scale(values: Sequence[Any], share: bool, wanted: int = 5, zero: bool = False) -> list[float]:
    known = [float(v) for v in values if finite(v)]
    if not known:
        return [0.0, 1.0]
    low, high = min(known), max(known)
    if zero:
        low, high = min(low, 0.0), max(high, 0.0)
    if share and not zero:
        if low < 0.35 * max(high, 1e-9) or high - low > 0.4:
            low = 0.0
        marks = svg.ticks(low, high, wanted)
        return [m for m in marks if -1e-9 <= m <= 1 + 1e-9] if len(marks) > 2 else marks
    return svg.ticks(low, high, wanted)


def _tick_percent(value: float) -> str:
    return f"{100 * value:.4g}%".replace("-", "−")


def _interval_text(low: Any, high: Any, show: Callable[[Any], str], say: Say) -> str:
    return say("interval_text", low=show(low), high=show(high)) if finite(low) and finite(high) else ""


def ladder(report: Mapping[str, Any], say: Say) -> dict[str, Any] | None:
    """The variants as an interval chart."""
    variants = [v for v in variants_of(report) if finite(v.get("score"))]
    if not variants:
        return None
    share, best = is_share(report), best_of(report)
    marks = _scale([v.get(key) for v in variants for key in ("score", "low", "high")], share)
    rows = []
    for v in variants:
        show = {"name": v["name"], "score": show_score(v["score"], share), "low": show_score(v.get("low"), share)}
        show |= {"high": show_score(v.get("high"), share), "n": formats.count(v.get("n"))}
        color = color_of(v)
        rows.append(
            {
                "name": v["name"],
                "kind": kind if (kind := kind_label(v["kind"], say)).casefold() != v["name"].casefold() else "",
                "color": color,
                "score": show["score"],
                "interval": _interval_text(v.get("low"), v.get("high"), lambda x: show_score(x, share), say),
                "n": say("num_rows", n=show["n"]) if finite(v.get("n")) else "",
                "best": best is not None and v["name"] == best["name"] and len(variants) > 1,
                "note": " · ".join(text for text in (str(v.get("note") or ""), _valid(v, say)) if text),
                "picture": svg.interval(
                    [(v["score"], v.get("low"), v.get("high"), color, True)], marks, title=say("dot_says", **show)
                ),
            }
        )
    tick = _tick_percent if share else formats.compact
    scale = svg.axis(marks, tick, say("scale", low=tick(marks[0]), high=tick(marks[-1])))
    return {"rows": rows, "axis": scale, "metric": metric_name(report)}


def _valid(variant: Mapping[str, Any], say: Say) -> str:
    return say("valid", share=formats.percent(variant["valid"])) if finite(variant.get("valid")) else ""


def tests(report: Mapping[str, Any], say: Say, lang: str) -> dict[str, Any] | None:
    """The paired tests as intervals of differences around zero."""
    found = paired_tests(report)
    if not found:
        return None
    share = is_share(report)
    marks = _scale([value for t in found for value in (t.difference, t.low, t.high)], share, 4, zero=True)
    rows = []
    for t in found:
        low, high = (difference_figure(value, share) for value in (t.low, t.high))
        name, verdict = say("against", a=t.a, b=t.b), say(t.outcome)
        color = {"better": "good", "worse": "bad", "not_told_apart": "c0"}[t.outcome]
        title = say(
            "test_says",
            name=name,
            difference=show_difference(t.difference, share, lang),
            low=low,
            high=high,
            verdict=verdict,
        )
        rows.append(
            {
                "a": t.a,
                "b": t.b,
                "name": name,
                "difference": show_difference(t.difference, share, lang),
                "interval": say("interval_text", low=low, high=high)
                if t.low is not None and t.high is not None
                else "",
                "p": formats.p_value(t.p) if t.p is not None else "",
                "n": say("num_rows", n=formats.count(t.n)) if t.n is not None else "",
                "outcome": t.outcome,
                "verdict": verdict,
                "test": t.test or "",
                "picture": svg.interval(
                    [(t.difference, t.low, t.high, color, t.outcome != "not_told_apart")], marks, title=title, zero=0.0
                ),
            }
        )

    def tick(value: float) -> str:
        return formats.signed(value, f"{abs(100 * value):.4g}" if share else formats.compact(abs(value)))

    scale = svg.axis(marks, tick, say("difference_scale", low=tick(marks[0]), high=tick(marks[-1])))
    return {"rows": rows, "axis": scale}


def cost(report: Mapping[str, Any], say: Say, lang: str) -> dict[str, Any] | None:
    """Tokens and seconds per answer, weights trained and training time of each variant; columns nobody has are left out."""
    variants = variants_of(report)
    shown: dict[str, Callable[[Any], str]] = {
        "prompt_tokens_per_answer": _mean_tokens,
        "tokens_per_answer": _mean_tokens,
        "seconds_per_answer": lambda value: formats.seconds(value, lang),
        "trainable": lambda value: formats.parameters(value) if value else say("none_trained"),
        "minutes": lambda value: formats.seconds(60 * value, lang) if value else say("none_trained"),
    }
    keys = [key for key in shown if any(finite(v.get(key)) for v in variants)]
    if not keys:
        return None
    if "prompt_tokens_per_answer" not in keys:  # then the tokens are all there are: not only the written ones
        titles = {"tokens_per_answer": say("tokens_per_answer")}
    else:
        titles = {"prompt_tokens_per_answer": say("tokens_read"), "tokens_per_answer": say("tokens_written")}
    titles |= {"seconds_per_answer": say("seconds_per_answer"), "trainable": say("trained_weights")}
    titles |= {"minutes": say("training_time")}
    rows = []
    for v in variants:
        cells = []
        for key in keys:
            value = v.get(key)
            if key == "minutes" and value is None and v.get("trainable") == 0:
                value = 0
            text = shown[key](value) if finite(value) else formats.NOTHING
            most = max(other[key] for other in variants if finite(other.get(key)))
            barred = key in ("prompt_tokens_per_answer", "tokens_per_answer", "seconds_per_answer") and most > 0
            picture = svg.bar(value / most, title=text, color=color_of(v)) if barred and finite(value) else ""
            cells.append({"title": titles[key], "text": text, "bar": picture})
        rows.append({"name": v["name"], "cells": cells})
    return {"titles": [titles[key] for key in keys], "rows": rows}


def _mean_tokens(value: float) -> str:
    return formats.compact(round(value, 1) if value < 100 else round(value))


def color_of(variant: Mapping[str, Any]) -> str:
    """The colour of a variant, by its kind."""
    return KIND_COLORS.get(str(variant.get("kind")), "c6")


def panel(report: Mapping[str, Any], say: Say) -> dict[str, Any] | None:
    """The other tasks before and after, one scale per kind of score."""
    found = panel_of(report)
    if not found:
        return None

    def is_share_row(row: Mapping[str, Any]) -> bool:
        if row.get("unit"):
            return row["unit"] == "share"
        values = [row[side].get("value") for side in ("before", "after")]
        return row.get("better", "higher") == "higher" and all(0 <= value <= 1 for value in values)

    groups = []
    for share in (True, False):
        some = [row for row in found if is_share_row(row) == share]
        for part in [some] if share else [[row] for row in some]:
            if not part:
                continue
            marks = _scale(
                [row[s].get(k) for row in part for s in ("before", "after") for k in ("value", "low", "high")],
                share,
                4 if share else 3,
            )
            rows = []
            for row in part:
                before, after = row["before"], row["after"]
                color = {"better": "good", "worse": "bad"}.get(row["outcome"], "c0")
                texts = [show_score(side["value"], share) for side in (before, after)]
                name = row["task"]
                n = next((side["n"] for side in (after, before) if finite(side.get("n"))), row.get("n"))
                detail = [
                    str(row.get("variant") or ""),
                    str(row.get("metric") or ""),
                    say("num_rows", n=formats.count(n)) if finite(n) else "",
                ]
                spots = [
                    (before["value"], before.get("low"), before.get("high"), "c0", False),
                    (after["value"], after.get("low"), after.get("high"), color, True),
                ]
                title = f"{name}: {say('before')} {texts[0]}, {say('after')} {texts[1]}, {say(row['outcome'])}"
                rows.append(
                    {
                        "name": name,
                        "detail": " · ".join(text for text in detail if text),
                        "before": texts[0],
                        "after": texts[1],
                        "outcome": row["outcome"],
                        "verdict": say(row["outcome"]),
                        "picture": svg.interval(spots, marks, title=title, height=48),
                    }
                )
            tick = _tick_percent if share else formats.compact
            groups.append(
                {"rows": rows, "axis": svg.axis(marks, tick, say("scale", low=tick(marks[0]), high=tick(marks[-1])))}
            )
    return {"groups": groups}


def scores(evaluations: Sequence[Evaluation], say: Say, lang: str) -> dict[str, Any] | None:
    """Every metric of every evaluation of a run; shares on one scale, the others as figures."""
    rows: list[dict[str, Any]] = []
    for evaluation in evaluations:
        for metric, found in {} if evaluation.is_panel else summaries(evaluation.summary).items():
            value, low, high = found.get("value"), found.get("low"), found.get("high")
            share = found.get("better", "higher") == "higher" and all(
                0 <= x <= 1 for x in (value, low, high) if finite(x)
            )
            rows.append(
                {
                    "evaluation": evaluation.name,
                    "metric": metric,
                    "value": value,
                    "low": low,
                    "high": high,
                    "share": share,
                    "n": found.get("n"),
                }
            )
    if not rows:
        return None
    marks = _scale([row[key] for row in rows if row["share"] for key in ("value", "low", "high")], True)
    out = []
    for row in rows:

        def show(value: Any, share: bool = row["share"]) -> str:
            return show_score(value, share)

        said = {
            "name": f"{row['evaluation']} {row['metric']}",
            "score": show(row["value"]),
            "low": show(row["low"]),
            "high": show(row["high"]),
        }
        spots = [(row["value"], row["low"], row["high"], "c1", True)]
        out.append(
            {
                "name": row["metric"],
                "kind": row["evaluation"],
                "note": "",
                "best": False,
                "color": "c1",
                "score": show(row["value"]),
                "interval": _interval_text(row["low"], row["high"], show, say),
                "n": say("num_rows", n=formats.count(row["n"])) if finite(row["n"]) else "",
                "picture": svg.interval(spots, marks, title=say("dot_says", n=formats.count(row["n"]), **said))
                if row["share"]
                else "",
            }
        )
    any_share = any(row["share"] for row in rows)
    return {
        "rows": out,
        "axis": svg.axis(marks, _tick_percent, say("scale", low=_tick_percent(marks[0]), high=_tick_percent(marks[-1])))
        if any_share
        else "",
        "speeds": [
            {
                "name": e.name,
                "read": _mean_tokens(e.tokens_read) if e.tokens_read is not None else formats.NOTHING,
                "written": _mean_tokens(e.tokens_written) if e.tokens_written is not None else formats.NOTHING,
                "seconds": formats.seconds(e.seconds_per_answer, lang),
            }
            for e in evaluations
            if not e.is_panel and (e.tokens_written is not None or e.seconds_per_answer is not None)
        ],
    }


def confusion(evaluations: Sequence[Evaluation], say: Say) -> dict[str, Any] | None:
    """The confusion table of the first evaluation that has one: whole up to 12 labels, above that the most confused
    pairs."""
    for evaluation in evaluations:
        for found in summaries(evaluation.summary).values():
            for raw in (as_dict(found.get("extra")), found):
                inner = raw.get("confusion")
                table = confusion_counts(
                    inner if isinstance(inner, Mapping) else {"labels": raw.get("labels"), "matrix": inner}
                )
                if table:
                    return _confusion(*table, say=say)
    return None


def confusion_counts(raw: Mapping[str, Any]) -> tuple[list[str], list[list[float]]] | None:
    """(labels, counts by truth then answer) from {"labels", "matrix"} or from {truth: {answer: count}}. One column
    more than
    labels counts answers that are none of them."""
    labels, matrix = raw.get("labels"), raw.get("matrix")
    if isinstance(labels, list) and isinstance(matrix, list):
        good = all(isinstance(row, list) for row in matrix)
        return ([str(label) for label in labels], matrix) if good and matrix else None
    if raw and all(isinstance(row, Mapping) for row in raw.values()):
        names = list(dict.fromkeys([*raw, *(answer for row in raw.values() for answer in row)]))
        return [str(n) for n in names], [[raw.get(t, {}).get(a, 0) for a in names] for t in names]
    return None


def _confusion(labels: list[str], matrix: list[list[float]], *, say: Say) -> dict[str, Any]:
    sums = [sum(x for x in row if finite(x)) for row in matrix]
    pairs = [
        (matrix[i][j], labels[i], labels[j] if j < len(labels) else say("no_label"), sums[i])
        for i in range(min(len(labels), len(matrix)))
        for j in range(len(matrix[i]))
        if i != j and finite(matrix[i][j]) and matrix[i][j] > 0
    ]
    pairs.sort(key=lambda p: (-p[0], p[1], p[2]))
    most = pairs[0][0] if pairs else 1
    listed = [
        {
            "name": say("confused_as", truth=truth, answer=answer),
            "count": formats.count(number),
            "share": formats.percent(number / whole, 0) if whole else "",
            "bar": svg.bar(number / most, title=formats.count(number), color="bad"),
        }
        for number, truth, answer, whole in pairs
    ]
    table = None
    if len(labels) <= MANY_LABELS and len(matrix) == len(labels):
        table = [
            {
                "name": label,
                "cells": [
                    {
                        "n": formats.count(x),
                        "heat": round(100 * x / total) if finite(x) and total else 0,
                        "right": i == j,
                    }
                    for j, x in enumerate(row)
                ],
            }
            for i, (label, row, total) in enumerate(zip(labels, matrix, sums))
        ]
    wider = any(len(row) > len(labels) for row in matrix)
    return {
        "labels": [*labels, say("no_label")] if wider else labels,
        "table": table,
        "pairs": listed[:MANY_LABELS],
        "more": listed[MANY_LABELS:60],
        "num_pairs": len(listed),
    }


def worst(rows: Sequence[Mapping[str, Any]], say: Say) -> list[dict[str, Any]] | None:
    """The worst rows: prompt, expected, answered; long texts are folded by the page."""
    out = []
    for row in rows[:10]:
        answered = (
            _text_of(row, "prediction", "answered", "output")
            if "prediction" in row or "answered" in row or "output" in row
            else _text_of(row, "answer")
        )
        expected = _text_of(row, "expected", "reference", "target") or (
            _text_of(row, "answer") if "prediction" in row or "answered" in row else ""
        )
        out.append(
            {
                "prompt": _text_of(row, "prompt", "question", "input", "messages"),
                "expected": expected,
                "answered": answered,
                "origin": _text_of(row, "origin", "id"),
                "loss": formats.compact(row["loss"]) if finite(row.get("loss")) else "",
                "right": bool(answered) and answered == expected,
            }
        )
    return out or None


def _text_of(row: Mapping[str, Any], *names: str) -> str:
    for name in names:
        value = row.get(name)
        if isinstance(value, str):
            return value
        if isinstance(value, list) and all(isinstance(m, Mapping) for m in value):
            return "\n".join(str(m.get("content", "")) for m in value)
        if value is not None:
            return str(value)
    return ""


def curves(runs: Mapping[str, Run], say: Say, lang: str) -> dict[str, Any] | None:
    """The curves of one run, or of several over one another: loss, development loss, learning rate, gradient norm,
    speed, memory."""
    pictures = []
    single = len(runs) == 1
    colors = {name: f"c{1 + i % 6}" for i, name in enumerate(runs)}
    dashed = {name: not single and i % 2 == 1 for i, name in enumerate(runs)}  # lines that lie on one another stay two

    def add(
        key: str,
        series: list[svg.Series],
        *,
        show: Callable[[Any], str] = formats.compact,
        marks: Sequence[tuple[float, str]] = (),
        from_zero: bool = False,
        wide: bool = False,
        peak: bool = False,
        smoothed: bool = False,
        name: str = "",
    ) -> None:
        pairs = [(s, [(x, y) for x, y in s.points if finite(y)]) for s in series]
        drawn = [(s, points) for s, points in pairs if points]
        if not drawn:
            return
        told = []
        for s, points in drawn:
            ys = [y for _, y in points]
            told.append(
                f"{s.name}: "
                + say(
                    "curve_says", first=show(ys[0]), last=show(ys[-1]), lowest=show(min(ys)), n=formats.count(len(ys))
                )
            )
        name = name or say(key)
        title = say("by_step", name=name)
        picture = svg.lines(
            series,
            title=title,
            desc=". ".join(told),
            show_y=show,
            show_x=formats.count,
            marks_x=marks,
            from_zero=from_zero,
            height=250 if wide else 190,
        )
        legend = [
            {
                "name": s.name,
                "color": s.color,
                "dash": s.dash,
                "faint": s.faint,
                "last": say("peak_is", value=show(max(y for _, y in points))) if peak else show(points[-1][1]),
            }
            for s, points in drawn
        ]
        pictures.append(
            {
                "title": name,
                "note": say("smoothed") if smoothed else "",
                "picture": picture,
                "legend": legend,
                "wide": wide,
            }
        )

    loss: list[svg.Series] = []
    dev: list[svg.Series] = []
    marks = []
    for name, run in runs.items():
        color = colors[name]
        points = [(float(s["step"]), _number(s.get("loss"))) for s in run.steps if "loss" in s]
        dev_points = [(float(e["step"]), _number(e["dev_loss"])) for e in run.evals if "dev_loss" in e]
        label = say("train_loss") if single else name
        mean = f"{label} ({say('smoothed')})" if single else label
        if len(points) > 60:
            loss.append(svg.Series(label, points, color, faint=True))
            loss.append(svg.Series(mean, svg.smooth(points), color, dash=dashed[name]))
        elif points:
            loss.append(svg.Series(label, points, color, dots=len(points) < 20, dash=dashed[name]))
        if dev_points:
            dev.append(
                svg.Series(
                    say("dev_loss") if single else name,
                    dev_points,
                    "c2" if single else color,
                    dots=True,
                    dash=single or dashed[name],
                )
            )
            good = [(y, x) for x, y in dev_points if finite(y)]
            if single and len(good) > 1:
                marks = [(min(good)[1], say("best_step", step=formats.count(min(good)[1])))]
    if single:
        add("loss", loss + dev, marks=marks, wide=True)
    else:
        add("train_loss", [s for s in loss if not s.faint], smoothed=any(s.faint for s in loss))
        add("dev_loss", dev)
    for key, label, show in (
        ("lr", "learning_rate", formats.compact),
        ("grad_norm", "grad_norm", formats.compact),
        ("tokens_per_second", "speed", formats.parameters),
        ("memory_bytes", "memory_used", lambda mib: formats.size(mib * 2**20)),
    ):
        series, smoothed = [], False
        for name, run in runs.items():
            scale = 2**20 if key == "memory_bytes" else 1  # round marks are wanted in MiB
            points = [(float(s["step"]), _number(s.get(key)) / scale) for s in run.steps if key in s]
            many = len(points) > 60 and key in ("grad_norm", "tokens_per_second")
            shown = svg.smooth(points) if many else points
            smoothed |= many
            series.append(
                svg.Series(
                    say(label) if single else name,
                    shown,
                    "c3" if single else colors[name],
                    dots=0 < len(points) < 3,
                    dash=dashed[name],
                )
            )
        add(label, series, show=show, smoothed=smoothed, from_zero=key != "grad_norm", peak=key == "lr")
    for key in list(dict.fromkeys(k for run in runs.values() for s in run.steps for k in as_dict(s.get("figures"))))[
        :MOST_FIGURES
    ]:
        if key != "loss":
            series = []
            for name, run in runs.items():
                points = [(float(s["step"]), _number(as_dict(s.get("figures")).get(key))) for s in run.steps]
                many = len(points) > 60
                series.append(
                    svg.Series(
                        key if single else name,
                        svg.smooth(points) if many else points,
                        "c5" if single else colors[name],
                        dash=dashed[name],
                    )
                )
            add(key, series, smoothed=many, name=key)
    return {"pictures": pictures} if pictures else None


def _number(value: Any) -> float:
    return float(value) if finite(value) else math.nan


def memory(found: Mapping[str, Mapping[str, Any]], say: Say) -> dict[str, Any] | None:
    """The measured parts of one or several runs as bars on one scale. `found`: {name: memory.json}."""
    bars = []
    for name, raw in found.items():
        parts = memory_parts(raw)
        if parts:
            bars.append((name, parts, raw))
    if not bars:
        return None
    whole = max(sum(parts.values()) for _, parts, _ in bars)
    rows = []
    for name, parts, raw in bars:
        total = sum(parts.values())
        named = [
            (say(f"part_{part}") if part in PARTS else part, value, f"m{PARTS.index(part) if part in PARTS else 5}")
            for part, value in parts.items()
            if value > 0
        ]
        peak = next((raw[key] for key in ("peak", "peak_bytes", "process_peak") if finite(raw.get(key))), None)
        rows.append(
            {
                "name": name,
                "total": formats.size(total),
                "peak": formats.size(peak) if peak is not None else "",
                "picture": svg.stack(named, whole, title=f"{name} {formats.size(total)}".strip(), show=formats.size),
                "parts": [
                    {"name": n, "value": formats.size(v), "share": formats.percent(v / total, 0), "color": c}
                    for n, v, c in named
                ],
            }
        )
    measured = all(raw.get("measured", True) for _, _, raw in bars)
    return {"rows": rows, "measured": measured}


def memory_parts(raw: Mapping[str, Any]) -> dict[str, float]:
    """{"weights": bytes, ...} from memory.json: its "parts", or its own keys; optimizer, *_bytes and *_state are
    understood."""
    inner: Mapping[str, Any] = as_dict(raw.get("parts")) or raw
    parts: dict[str, float] = {}
    for key, value in inner.items():
        if isinstance(value, Mapping):
            value = value.get("bytes")
        name = (
            str(key)
            .lower()
            .removesuffix("_bytes")
            .removesuffix("_state")
            .removesuffix("_states")
            .replace("optimizer", "optimiser")
        )
        name = {"states": "optimiser", "grads": "gradients", "gradient": "gradients", "rest": "other"}.get(name, name)
        known = name in PARTS
        if (
            finite(value)
            and value >= 0
            and (known or inner is not raw)
            and name not in ("total", "peak", "process_peak")
        ):
            parts[name] = parts.get(name, 0) + float(value)
    ordered = {part: parts.pop(part) for part in PARTS[:-1] if part in parts}
    ordered.update(parts)
    return ordered if any(ordered.values()) else {}


def data(run: Run, say: Say) -> dict[str, Any] | None:
    """The data card: counts by origin that add up, splits, lengths, languages, labels, drops, rows with the
    trained-on tokens marked.

    Reads data/card.json as data/prepare.py writes it (counts, splits, sources, duplicates, ...). Lengths in tokens
    and rows with their
    trained-on parts are what training puts into data/lengths.json and data/examples.json; without them the lengths
    are in characters.
    """
    card = run.card
    counts = as_dict(card.get("counts")) or card
    origins = _origins(counts)
    sums = [sum(o[key] for o in origins) for key in ("rows_in", "rows_out", "rows_dropped")]
    reasons: dict[str, float] = {}
    for origin in origins:
        for reason, number in origin["reasons"].items():
            reasons[reason] = reasons.get(reason, 0) + number
    reasons = reasons or {k: v for k, v in run.dropped.items() if finite(v)}
    splits = {
        str(k): as_dict(v) if isinstance(v, Mapping) else {"rows": v} for k, v in as_dict(card.get("splits")).items()
    }
    train = splits.get("train", {})
    labels = as_dict(train.get("labels") or train.get("answers") or card.get("labels"))
    adds_up = sums[0] == sums[1] + sums[2]
    told = dict(zip(("rows_in", "rows_out", "rows_dropped"), map(formats.count, sums)))
    figures = {
        "origins": [{**o, **{k: formats.count(o[k]) for k in told}} for o in origins],
        "sum": say("adds_up" if adds_up else "does_not_add_up", **told) if origins else "",
        "adds_up": adds_up,
        "total": list(told.values()),
        "splits": _splits(splits, say),
        "lengths": _lengths(run.lengths, say),
        "languages": _languages(splits, say),
        "labels": _labels(labels, say),
        "reasons": [{"name": k, "n": formats.count(v)} for k, v in sorted(reasons.items(), key=lambda kv: -kv[1])],
        "nothing_dropped": not reasons and bool(origins) and sums[2] == 0,
        "notes": _notes(card, splits, say),
        "examples": [
            e for e in (_example(raw) for raw in run.examples if isinstance(raw, Mapping | list)) if e["parts"]
        ][:4],
    }
    keys = ("origins", "splits", "lengths", "languages", "labels", "reasons", "examples")
    return figures if any(figures[key] for key in keys) else None


def _origins(counts: Mapping[str, Any]) -> list[dict[str, Any]]:
    by_origin = as_dict(counts.get("by_origin") or counts.get("origins"))
    raw = [{"origin": name, **value} for name, value in by_origin.items() if isinstance(value, Mapping)]
    if not raw and finite(counts.get("rows_in")):
        raw = [{"origin": "", **counts}]
    out = []
    for row in raw:
        if finite(row.get("rows_in")):
            kept: dict[str, Any] = {
                key: int(row[key]) if finite(row.get(key)) else 0 for key in ("rows_in", "rows_out", "rows_dropped")
            }
            reasons = {str(k): v for k, v in as_dict(row.get("reasons")).items() if finite(v)}
            out.append({"origin": str(row["origin"]), "reasons": reasons, **kept})
    return out


def _splits(splits: Mapping[str, Mapping[str, Any]], say: Say) -> list[dict[str, Any]]:
    out = []
    for name, part in splits.items():
        if not finite(part.get("rows")):
            continue
        sizes = as_dict(part.get("characters"))
        spread = []
        for what in ("prompt", "answer", "text"):
            found = as_dict(sizes.get(what))
            if finite(found.get("median")):
                said = {key: formats.count(found.get(key)) for key in ("median", "p95", "most")}
                spread.append({"name": say(f"length_{what}"), "text": say("spread", **said)})
        out.append(
            {
                "name": say(f"split_{name}") if name in ("train", "dev", "test") else name,
                "n": formats.count(part["rows"]),
                "spread": spread,
            }
        )
    return out


def _lengths(raw: Mapping[str, Any], say: Say) -> dict[str, Any] | None:
    edges, counts = raw.get("edges"), raw.get("counts")
    if not (isinstance(edges, list) and isinstance(counts, list) and counts and len(edges) == len(counts) + 1):
        return None
    if not all(finite(x) for x in [*edges, *counts]) or not sum(counts):
        return None
    median, longest, limit = raw.get("median"), raw.get("longest"), raw.get("limit")
    says = (
        say("lengths_says", median=formats.compact(median), longest=formats.count(longest))
        if finite(median) and finite(longest)
        else ""
    )
    marks = [(float(limit), say("limit", n=formats.count(limit)))] if finite(limit) else []
    title = say("lengths_characters" if raw.get("unit") == "characters" else "lengths")
    return {
        "title": title,
        "says": says,
        "picture": svg.histogram(edges, counts, title=title, desc=says, show=formats.count, marks_x=marks),
    }


def _languages(splits: Mapping[str, Mapping[str, Any]], say: Say) -> list[dict[str, Any]]:
    """Shares of languages over all splits, by rows."""
    sums: dict[str, float] = {}
    rows = 0.0
    for part in splits.values():
        shares = {k: v for k, v in as_dict(part.get("languages")).items() if finite(v)}
        if shares and finite(part.get("rows")):
            rows += part["rows"]
            for name, share in shares.items():
                sums[name] = sums.get(name, 0.0) + share * part["rows"]
    out = []
    for name, number in sorted(sums.items(), key=lambda kv: -kv[1]):
        share = number / rows if rows else 0.0
        if share > 0:
            shown = say(f"lang_{name}") if name in ("english", "korean", "other") else name
            out.append(
                {
                    "name": shown,
                    "share": formats.percent(share),
                    "bar": svg.bar(share, title=f"{shown} {formats.percent(share)}"),
                }
            )
    return out


def _labels(found: Mapping[str, Any], say: Say) -> dict[str, Any] | None:
    """Label balance: {"different", "most": {label: rows}, "smallest"}; a plain {label: rows} is understood too."""
    most = as_dict(found.get("most")) if "different" in found else found
    pairs = sorted(((str(k), v) for k, v in most.items() if finite(v)), key=lambda kv: (-kv[1], kv[0]))
    if not pairs:
        return None
    num = int(found["different"]) if finite(found.get("different")) else len(pairs)
    least = found["smallest"] if finite(found.get("smallest")) else pairs[-1][1]
    top = pairs[0][1] or 1
    rows = [{"name": name, "n": formats.count(n), "bar": svg.bar(n / top, title=formats.count(n))} for name, n in pairs]
    folded = len(rows) > MANY_LABELS
    return {
        "says": say("labels_says", n=formats.count(num), least=formats.count(least), most=formats.count(pairs[0][1])),
        "first": rows[:6] if folded else rows,
        "rest": rows[6:400] if folded else [],
        "more": num - len(rows),
        "num": len(rows),
    }


def _notes(card: Mapping[str, Any], splits: Mapping[str, Mapping[str, Any]], say: Say) -> list[str]:
    notes = []
    for key in ("duplicates", "prompts_in_train_and_test"):
        if finite(card.get(key)) and card[key] > 0:
            notes.append(say(key, n=formats.count(card[key])))
    lost = sum(
        part["rows_with_lost_characters"] for part in splits.values() if finite(part.get("rows_with_lost_characters"))
    )
    if lost:
        notes.append(say("lost_characters", n=formats.count(lost)))
    for note, number in as_dict(as_dict(card.get("counts")).get("notes")).items():
        notes.append(f"{formats.count(number)} × {note}")
    return notes


def _example(raw: Any) -> dict[str, Any]:
    """Segments as (role, text, trained_on): from dicts, or from the tuples of Text.segments (role, text, ids,
    trained_on)."""
    segments = raw if isinstance(raw, list) else raw.get("segments") or raw.get("parts") or []
    parts = []
    for segment in segments:
        if isinstance(segment, Mapping):
            role, text, trained = segment.get("role", ""), segment.get("text", ""), segment.get("trained_on", False)
        elif isinstance(segment, list) and len(segment) >= 3:
            role, text, trained = segment[0], segment[1], segment[-1]
        else:
            continue
        parts.append(
            {
                "role": str(role or ""),
                "text": str(text),
                "trained_on": any(trained) if isinstance(trained, list) else bool(trained),
            }
        )
    origin = "" if isinstance(raw, list) else str(raw.get("origin") or raw.get("id") or "")
    return {"origin": origin, "parts": parts, "roles": isinstance(raw, Mapping) and bool(raw.get("roles"))}


def flatten(value: Any, name: str = "") -> list[tuple[str, str]]:
    """A nested project as (dotted name, value as text): {"train": {"lr": 1e-4}} -> [("train.lr", "1e-4")]."""
    if isinstance(value, Mapping) and name and list(value.values()) == [{}]:  # an item without settings: {"sft": {}}
        return [(name, str(next(iter(value))))]
    if isinstance(value, Mapping) and value:
        return [pair for key, inner in value.items() for pair in flatten(inner, f"{name}.{key}" if name else str(key))]
    if isinstance(value, list) and any(isinstance(item, Mapping) for item in value):
        return [pair for i, inner in enumerate(value) for pair in flatten(inner, f"{name}[{i}]")]
    if isinstance(value, list):
        return [(name, ", ".join(_plain(item) for item in value) or formats.NOTHING)]
    return [(name, _plain(value))]


def _plain(value: Any) -> str:
    if value is None or value == "" or value == {}:
        return formats.NOTHING
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return formats.compact(value) if finite(value) else str(value)
    return str(value)


HYPER = ("train", "method", "adapter", "precision", "length", "too_long", "reasoning", "seed")


def settings(run: Run) -> dict[str, Any] | None:
    """Hyperparameters as (name, value, why), and all other values as (name, value).

    The hyperparameters are the manifest's, else what of the project file steers training; values that nobody gave and the
    reasons for them come from chosen.json.
    """
    given, project = as_dict(run.manifest.get("hyperparameters")), dict(run.project)
    if not given:
        given = {key: project[key] for key in HYPER if key in project}
    why = as_dict(run.chosen.get("why"))
    pairs = {name.removeprefix("train."): value for name, value in flatten(given)}
    for name, value in run.chosen.items():
        if name != "why" and pairs.get(name, formats.NOTHING) == formats.NOTHING:
            pairs[name] = _plain(value)
    hyper = [
        (name, value, str(why[name]) if name in why and why[name] != f"train.{name}" else "")
        for name, value in pairs.items()
    ]
    rest = flatten({key: value for key, value in project.items() if key not in HYPER})
    return {"hyper": hyper, "rest": rest} if hyper or rest else None


def weights(run: Run, say: Say) -> dict[str, Any] | None:
    """Trainable and frozen counts per part of the model (D1, E4)."""
    rows, totals = grouped(parameter_counts(run)), parameter_totals(run)
    if totals is None:
        return None
    shown = [
        {
            "name": row["name"],
            "trainable": formats.count(row["trainable"]),
            "frozen": formats.count(row["frozen"]),
            "bar": svg.bar(row["trainable"] / max(row["trainable"] + row["frozen"], 1), title=say("trainable")),
        }
        for row in rows
    ]
    return {
        "first": shown[:16],
        "rest": shown[16:600],
        "num": len(shown),
        "trainable": formats.count(totals[0]),
        "frozen": formats.count(totals[1] - totals[0]),
        "share": formats.percent(totals[0] / totals[1]) if totals[1] else formats.NOTHING,
    }


def grouped(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Neighbours that differ in one number of their name become one row: layers.0, layers.1, layers.2 -> layers.0–2,
    counts added."""
    out: list[dict[str, Any]] = []
    for row in rows:
        stem, number = re.sub(r"\d+", "*", row["name"], count=1), re.search(r"\d+", row["name"])
        last = out[-1] if out else None
        if (
            number
            and last
            and last["stem"] == stem
            and last["each"] == (row["trainable"], row["frozen"])
            and last["end"] + 1 == int(number[0])
        ):
            last["end"] += 1
            last["trainable"] += row["trainable"]
            last["frozen"] += row["frozen"]
            last["name"] = stem.replace("*", f"{last['start']}–{last['end']}")
        else:
            first = int(number[0]) if number else 0
            out.append({**row, "stem": stem, "start": first, "end": first, "each": (row["trainable"], row["frozen"])})
    return out


def batch(run: Run, say: Say, lang: str) -> list[dict[str, str]] | None:
    """Effective batch with advice, predicted and counted updates, times each row was seen, tokens, time (D4-D6)."""
    steps, start = run.steps, run.last("start")
    if not steps:
        return None
    facts: list[dict[str, str]] = []
    told = {
        **as_dict(as_dict(run.project.get("train"))),
        **start,
        **as_dict(start.get("batch")),
        **as_dict(run.manifest.get("batch")),
    }
    effective = next(
        (int(told[key]) for key in ("effective", "batch_size") if finite(told.get(key)) and told[key] > 0), None
    )
    if effective:
        devices = int(told["devices"]) if finite(told.get("devices")) and told["devices"] > 0 else 1
        passes = sorted(s["passes"] for s in steps if finite(s.get("passes")) and s["passes"] > 0)
        accumulation = (
            told.get("accumulation")
            if finite(told.get("accumulation"))
            else passes[len(passes) // 2]
            if passes
            else None
        )
        if accumulation:
            exact = finite(told.get("accumulation")) or (
                passes[0] == passes[-1] and effective % (accumulation * devices) == 0
            )
            whole = {
                "per_pass": round(effective / (accumulation * devices), 1),
                "accumulation": accumulation,
                "effective": effective,
            }
            shown = {k: formats.compact(v) for k, v in whole.items()}
            shown["devices"] = say("one_device") if devices == 1 else say("num_devices", n=formats.count(devices))
            text = say("batch_sum" if exact else "batch_about", **shown)
        else:
            text = say("batch_only", effective=formats.count(effective))
        advice = []
        if effective < 32:
            advice.append(say("advice_small"))
        if effective & (effective - 1):
            below = 1 << (effective.bit_length() - 1)
            advice.append(say("advice_power", below=formats.count(below), above=formats.count(2 * below)))
        facts.append({"name": say("effective_batch"), "text": text, "advice": " ".join(advice)})
    predicted, counted = planned_steps(run), counted_steps(run)
    if predicted is None:
        text = say("updates_counted", counted=formats.count(counted))
    elif predicted == counted:
        text = say("updates_equal", n=formats.count(counted))
    else:
        text = say("updates_differ", predicted=formats.count(predicted), counted=formats.count(counted))
    early = say("updates_early") if predicted is not None and counted < predicted else ""
    facts.append({"name": say("updates"), "text": text, "advice": early})
    seen = times_seen(run)
    if seen:
        low, high, n = seen
        same = say("seen_equal", n=formats.count(n), times=formats.count(low))
        text = (
            same
            if low == high
            else say("seen_between", n=formats.count(n), low=formats.count(low), high=formats.count(high))
        )
        facts.append({"name": say("seen"), "text": text, "advice": ""})
    epochs = [s["epoch"] for s in steps if finite(s.get("epoch"))]
    if epochs:
        facts.append({"name": say("epochs"), "text": formats.compact(round(max(epochs), 2)), "advice": ""})
    read, trained = (sum(s[key] for s in steps if finite(s.get(key))) for key in ("tokens", "trained_tokens"))
    if read:
        text = (
            say("tokens_trained", tokens=formats.parameters(read), trained=formats.parameters(trained))
            if trained
            else formats.parameters(read)
        )
        facts.append({"name": say("tokens"), "text": text, "advice": ""})
    took = seconds_taken(run)
    if took is not None:
        facts.append({"name": say("time"), "text": formats.seconds(took, lang), "advice": ""})
    return facts


def times_seen(run: Run) -> tuple[int, int, int] | None:
    """(least, most, rows): how often each row was trained on, by loss_per_row.jsonl."""
    seen: dict[str, int] = {}
    for row in run.rows:
        key = row_key(row)
        seen[key] = int(row["seen"]) if finite(row.get("seen")) else seen.get(key, 0) + 1
    return (min(seen.values()), max(seen.values()), len(seen)) if seen else None


def row_losses(run: Run, say: Say) -> dict[str, Any] | None:
    """Loss of each row at its last telling: histogram, hardest and easiest (D7)."""
    last: dict[str, Mapping[str, Any]] = {}
    for row in run.rows:
        if finite(row.get("loss")):
            last[row_key(row)] = row
    if not last:
        return None
    ordered = sorted(last.values(), key=lambda row: -row["loss"])

    def show(row: Mapping[str, Any]) -> dict[str, str]:
        row = {**run.texts.get(str(row.get("origin")), {}), **row}
        text = _text_of(row, "prompt", "text", "question")
        answer = _text_of(row, "answer", "expected", "label")
        return {
            "loss": formats.compact(row["loss"], 3),
            "origin": _text_of(row, "origin", "id", "row"),
            "text": text,
            "answer": answer,
            "seen": formats.count(row.get("seen")),
        }

    losses = [float(row["loss"]) for row in ordered]
    marks = svg.ticks(0.0, max(losses), 12)
    counts = [0] * (len(marks) - 1)
    for loss in losses:
        counts[min(sum(loss >= m for m in marks[1:]), len(counts) - 1)] += 1
    picture = svg.histogram(marks, counts, title=say("rows_by_loss"), show=formats.compact) if len(losses) > 1 else ""
    return {
        "picture": picture,
        "hardest": [show(row) for row in ordered[:HARDEST]],
        "easiest": [show(row) for row in reversed(ordered[-EASIEST:])] if len(ordered) > HARDEST + EASIEST else [],
        "n": formats.count(len(ordered)),
    }


def samples(run: Run, say: Say) -> list[dict[str, Any]] | None:
    """Answers drawn during training, by prompt: first, middle and last tellings."""
    by_prompt: dict[str, list[dict[str, str]]] = {}
    for event in sorted(
        [*run.events.get("sample", []), *run.evals], key=lambda e: e["step"] if finite(e.get("step")) else 0
    ):
        told = event.get("samples") or event.get("answers")
        for item in told if isinstance(told, list) else [event]:
            if isinstance(item, Mapping):
                prompt, answer = _text_of(item, "prompt"), _text_of(item, "answer", "text", "prediction")
                if prompt or answer:
                    step = say("step_word", step=formats.count(event.get("step")))
                    by_prompt.setdefault(prompt, []).append({"step": step, "answer": answer})
    out = []
    for prompt, answers in list(by_prompt.items())[:6]:
        some = (
            answers
            if len(answers) <= 4
            else [answers[0], answers[len(answers) // 3], answers[2 * len(answers) // 3], answers[-1]]
        )
        out.append({"prompt": prompt, "answers": some})
    return out or None


def figures(explanation: Any, lang: str) -> list[tuple[str, str]] | None:
    """The method's own words about its figures: {name: text} or {name: {"en", "ko"}} or [{"name", "text"}]."""
    pairs: list[tuple[str, str]] = []
    if isinstance(explanation, Mapping) and isinstance(explanation.get("figures"), Mapping):
        explanation = explanation["figures"]
    if isinstance(explanation, Mapping):
        for name, text in explanation.items():
            if isinstance(text, Mapping):
                text = text.get(lang) or text.get("en") or "; ".join(f"{k}: {v}" for k, v in text.items())
            pairs.append((str(name), str(text)))
    elif isinstance(explanation, list):
        pairs = [(str(e.get("name", "")), str(e.get("text", ""))) for e in explanation if isinstance(e, Mapping)]
    elif isinstance(explanation, str):
        pairs = [("", explanation)]
    return [pair for pair in pairs if pair[1]] or None


def manifest(found: Mapping[str, Any], say: Say) -> list[tuple[str, str]] | None:
    """Versions, machine, seed, hashes, command, parent, reads of the test split."""
    if not found:
        return None
    rows: list[tuple[str, str]] = []
    versions = as_dict(found.get("versions"))
    if versions:
        rows.append(
            (say("versions"), ", ".join(f"{name} {value or formats.NOTHING}" for name, value in versions.items()))
        )
    machine = found.get("hardware")
    if isinstance(machine, Mapping):
        parts = [str(machine[key]) for key in ("processor", "system") if machine.get(key)]
        if finite(machine.get("cores")):
            parts.append(say("cores", n=formats.count(machine["cores"])))
        if finite(machine.get("memory")):
            parts.append(formats.size(machine["memory"]))
        parts.extend(
            f"{k} {v}" for k, v in machine.items() if k not in ("processor", "system", "cores", "memory") and v
        )
        rows.append((say("hardware"), ", ".join(parts)))
    elif machine:
        rows.append((say("hardware"), str(machine)))
    for key in ("seed", "created", "command", "parent"):
        if found.get(key) is not None and found.get(key) != "":
            rows.append((say(key), str(found[key])))
    hashes = {key.removesuffix("_hash"): value for key, value in found.items() if key.endswith("_hash") and value}
    hashes |= as_dict(found.get("data_hashes"))
    if hashes:
        rows.append((say("hashes"), ", ".join(f"{name} {str(value)[:12]}" for name, value in hashes.items())))
    return rows or None


def test_reads(found: Mapping[str, Any], say: Say) -> str:
    """How often the test split was read, and by whom; "" where that is not recorded."""
    reads = found.get("test_reads")
    if finite(reads):
        return formats.count(reads) if reads else say("test_reads_none")
    if not isinstance(reads, list):
        return ""
    if not reads:
        return say("test_reads_none")
    by: dict[str, int] = {}
    for read in reads:
        name = str(read.get("by", "?")) if isinstance(read, Mapping) else str(read)
        by[name] = by.get(name, 0) + 1
    listed = ", ".join(name if times == 1 else f"{name} ×{times}" for name, times in by.items())
    return say("test_reads_text", n=formats.count(len(reads)), list=listed)


def headline_metric(evaluation: Evaluation) -> dict[str, Any] | None:
    """The first metric of an evaluation as {"metric", "value", "low", "high", "n"}."""
    metric = main_metric(evaluation.summary)
    return {"metric": metric, **summaries(evaluation.summary)[metric]} if metric else None
