"""What each section of a page shows: from what a folder says to plain values and finished pictures.

Every function gives a dict for its template, or None when there is nothing to show: the page then leaves the section out.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from tunesmith.report import numbers, svg
from tunesmith.report.numbers import finite
from tunesmith.report.read import Evaluation, Run, as_dict, main_metric, summaries
from tunesmith.report.verdict import (
    Say,
    best_of,
    is_share,
    metric_name,
    panel_of,
    parameter_counts,
    parameter_totals,
    planned_steps,
    seconds_taken,
    difference_figure,
    show_difference,
    show_score,
    tests_of,
    variants_of,
)

COLORS = ("c1", "c2", "c3", "c4", "c5", "c6")
KIND_COLORS = {"prompt": "c0", "examples": "c2", "retrieval": "c3", "lora": "c1", "full": "c4"}
PARTS = ("weights", "gradients", "optimiser", "activations", "other")
MANY_LABELS = 12  # more than these are folded


def kind_label(kind: Any, say: Say) -> str:
    return say(f"kind_{kind}") if f"kind_{kind}" in ("kind_prompt", "kind_examples", "kind_retrieval", "kind_lora", "kind_full", "kind_features") else say("kind_other")


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


def _interval_text(low: Any, high: Any, show, say: Say) -> str:
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
        show |= {"high": show_score(v.get("high"), share), "n": numbers.count(v.get("n"))}
        color = KIND_COLORS.get(v["kind"], "c5")
        rows.append(
            {
                "name": v["name"],
                "kind": kind if (kind := kind_label(v["kind"], say)).casefold() != v["name"].casefold() else "",
                "color": color,
                "score": show["score"],
                "interval": _interval_text(v.get("low"), v.get("high"), lambda x: show_score(x, share), say),
                "n": say("num_rows", n=show["n"]) if finite(v.get("n")) else "",
                "best": best is not None and v["name"] == best["name"] and len(variants) > 1,
                "note": str(v.get("note") or ""),
                "picture": svg.interval([(v["score"], v.get("low"), v.get("high"), color, True)], marks, title=say("dot_says", **show)),
            }
        )
    tick = _tick_percent if share else numbers.compact
    scale = svg.axis(marks, tick, say("scale", low=tick(marks[0]), high=tick(marks[-1])))
    return {"rows": rows, "axis": scale, "metric": metric_name(report)}


def tests(report: Mapping[str, Any], say: Say, lang: str) -> dict[str, Any] | None:
    """The paired tests as intervals of differences around zero."""
    found = tests_of(report)
    if not found:
        return None
    share = is_share(report)
    marks = _scale([value for t in found for value in (t.difference, t.low, t.high)], share, 4, zero=True)
    rows = []
    for t in found:
        low, high = (difference_figure(value, share) for value in (t.low, t.high))
        name, verdict = say("against", a=t.a, b=t.b), say(t.outcome)
        color = {"better": "good", "worse": "bad", "not_told_apart": "c0"}[t.outcome]
        title = say("test_says", name=name, difference=show_difference(t.difference, share, lang), low=low, high=high, verdict=verdict)
        rows.append(
            {
                "a": t.a,
                "b": t.b,
                "name": name,
                "difference": show_difference(t.difference, share, lang),
                "interval": say("interval_text", low=low, high=high) if t.low is not None and t.high is not None else "",
                "p": numbers.p_value(t.p) if t.p is not None else "",
                "n": say("num_rows", n=numbers.count(t.n)) if t.n is not None else "",
                "outcome": t.outcome,
                "verdict": verdict,
                "test": t.test or "",
                "picture": svg.interval([(t.difference, t.low, t.high, color, t.outcome != "not_told_apart")], marks, title=title, zero=0.0),
            }
        )

    def tick(value: float) -> str:
        return numbers.signed(value, f"{abs(100 * value):.4g}" if share else numbers.compact(abs(value)))

    scale = svg.axis(marks, tick, say("difference_scale", low=tick(marks[0]), high=tick(marks[-1])))
    return {"rows": rows, "axis": scale}


def cost(report: Mapping[str, Any], say: Say, lang: str) -> dict[str, Any] | None:
    """Tokens and seconds per answer, weights trained and training time of each variant."""
    variants = variants_of(report)
    keys = ("tokens_per_answer", "seconds_per_answer", "trainable", "minutes")
    if not any(finite(v.get(key)) for v in variants for key in keys):
        return None
    most = {key: max([v[key] for v in variants if finite(v.get(key))], default=0) for key in keys[:2]}
    rows = []
    for v in variants:
        tokens, took = v.get("tokens_per_answer"), v.get("seconds_per_answer")
        color = KIND_COLORS.get(v["kind"], "c5")
        tokens_text, time_text = numbers.compact(round(tokens, 1) if finite(tokens) and tokens < 100 else round(tokens) if finite(tokens) else None), numbers.seconds(took, lang)
        rows.append(
            {
                "name": v["name"],
                "tokens": tokens_text,
                "tokens_bar": svg.bar(tokens / most["tokens_per_answer"], title=tokens_text, color=color) if finite(tokens) and most["tokens_per_answer"] > 0 else "",
                "seconds": time_text,
                "seconds_bar": svg.bar(took / most["seconds_per_answer"], title=time_text, color=color) if finite(took) and most["seconds_per_answer"] > 0 else "",
                "trainable": numbers.parameters(v["trainable"]) if v.get("trainable") else say("none_trained") if v.get("trainable") == 0 else numbers.NOTHING,
                "minutes": numbers.seconds(60 * v["minutes"], lang) if finite(v.get("minutes")) and v["minutes"] > 0 else say("none_trained") if v.get("trainable") == 0 else numbers.NOTHING,
            }
        )
    return {"rows": rows}


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
            marks = _scale([row[s].get(k) for row in part for s in ("before", "after") for k in ("value", "low", "high")], share, 4 if share else 3)
            rows = []
            for row in part:
                before, after = row["before"], row["after"]
                color = {"better": "good", "worse": "bad", "not_told_apart": "c0"}[row["outcome"]]
                texts = [show_score(side["value"], share) for side in (before, after)]
                name = row["task"] + (f" · {row['variant']}" if row.get("variant") else "")
                n = next((side["n"] for side in (after, before) if finite(side.get("n"))), row.get("n"))
                detail = [str(row.get("metric") or ""), say("num_rows", n=numbers.count(n)) if finite(n) else ""]
                spots = [(before["value"], before.get("low"), before.get("high"), "c0", False), (after["value"], after.get("low"), after.get("high"), color, True)]
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
            tick = _tick_percent if share else numbers.compact
            groups.append({"rows": rows, "axis": svg.axis(marks, tick, say("scale", low=tick(marks[0]), high=tick(marks[-1])))})
    return {"groups": groups}


def scores(evaluations: Sequence[Evaluation], say: Say, lang: str) -> dict[str, Any] | None:
    """Every metric of every evaluation of a run; shares on one scale, the others as figures."""
    rows: list[dict[str, Any]] = []
    for evaluation in evaluations:
        for metric, found in summaries(evaluation.summary).items():
            value, low, high = found.get("value"), found.get("low"), found.get("high")
            share = found.get("better", "higher") == "higher" and all(0 <= x <= 1 for x in (value, low, high) if finite(x))
            rows.append({"evaluation": evaluation.name, "metric": metric, "value": value, "low": low, "high": high, "share": share, "n": found.get("n")})
    if not rows:
        return None
    marks = _scale([row[key] for row in rows if row["share"] for key in ("value", "low", "high")], True)
    out = []
    for row in rows:

        def show(value: Any, share: bool = row["share"]) -> str:
            return show_score(value, share)

        said = {"name": f"{row['evaluation']} {row['metric']}", "score": show(row["value"]), "low": show(row["low"]), "high": show(row["high"])}
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
                "n": say("num_rows", n=numbers.count(row["n"])) if finite(row["n"]) else "",
                "picture": svg.interval(spots, marks, title=say("dot_says", n=numbers.count(row["n"]), **said)) if row["share"] else "",
            }
        )
    any_share = any(row["share"] for row in rows)
    return {
        "rows": out,
        "axis": svg.axis(marks, _tick_percent, say("scale", low=_tick_percent(marks[0]), high=_tick_percent(marks[-1]))) if any_share else "",
        "speeds": [
            {
                "name": e.name,
                "tokens": numbers.compact(round(e.tokens_per_answer, 1)) if e.tokens_per_answer is not None else numbers.NOTHING,
                "seconds": numbers.seconds(e.seconds_per_answer, lang),
            }
            for e in evaluations
            if e.tokens_per_answer is not None or e.seconds_per_answer is not None
        ],
    }


def confusion(evaluations: Sequence[Evaluation], say: Say) -> dict[str, Any] | None:
    """The confusion table of the first evaluation that has one: whole up to 12 labels, above that the most confused pairs."""
    for evaluation in evaluations:
        for found in summaries(evaluation.summary).values():
            raw = as_dict(as_dict(found.get("extra")).get("confusion") or found.get("confusion"))
            table = confusion_counts(raw)
            if table:
                return _confusion(*table, say=say)
    return None


def confusion_counts(raw: Mapping[str, Any]) -> tuple[list[str], list[list[float]]] | None:
    """(labels, counts by truth then answer) from {"labels", "matrix"} or from {truth: {answer: count}}."""
    labels, matrix = raw.get("labels"), raw.get("matrix") or raw.get("counts")
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
        (matrix[i][j], labels[i], labels[j] if j < len(labels) else "?", sums[i])
        for i in range(min(len(labels), len(matrix)))
        for j in range(len(matrix[i]))
        if i != j and finite(matrix[i][j]) and matrix[i][j] > 0
    ]
    pairs.sort(key=lambda p: (-p[0], p[1], p[2]))
    most = pairs[0][0] if pairs else 1
    listed = [
        {
            "name": say("confused_as", truth=truth, answer=answer),
            "count": numbers.count(number),
            "share": numbers.percent(number / whole, 0) if whole else "",
            "bar": svg.bar(number / most, title=numbers.count(number), color="bad"),
        }
        for number, truth, answer, whole in pairs
    ]
    table = None
    if len(labels) <= MANY_LABELS and all(len(row) == len(labels) for row in matrix):
        table = [
            {"name": label, "cells": [{"n": numbers.count(x), "heat": round(100 * x / total) if finite(x) and total else 0, "right": i == j} for j, x in enumerate(row)]}
            for i, (label, row, total) in enumerate(zip(labels, matrix, sums))
        ]
    return {"labels": labels, "table": table, "pairs": listed[:MANY_LABELS], "more": listed[MANY_LABELS:60], "num_pairs": len(listed)}


def worst(rows: Sequence[Mapping[str, Any]], say: Say) -> list[dict[str, Any]] | None:
    """The worst rows: prompt, expected, answered; long texts are folded by the page."""
    out = []
    for row in rows[:10]:
        answered = _text_of(row, "prediction", "answered", "output") if "prediction" in row or "answered" in row or "output" in row else _text_of(row, "answer")
        expected = _text_of(row, "expected", "reference", "target") or (_text_of(row, "answer") if "prediction" in row or "answered" in row else "")
        out.append(
            {
                "prompt": _text_of(row, "prompt", "question", "input", "messages"),
                "expected": expected,
                "answered": answered,
                "origin": _text_of(row, "origin", "id"),
                "loss": numbers.compact(row["loss"]) if finite(row.get("loss")) else "",
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
    """The curves of one run, or of several over one another: loss, development loss, learning rate, gradient norm, speed, memory."""
    pictures = []
    single = len(runs) == 1
    colors = {name: COLORS[i % len(COLORS)] for i, name in enumerate(runs)}

    def add(key: str, series: list[svg.Series], *, show=numbers.compact, marks=(), from_zero=False, wide=False) -> None:
        pairs = [(s, [(x, y) for x, y in s.points if finite(y)]) for s in series]
        drawn = [(s, points) for s, points in pairs if points]
        if not drawn:
            return
        told = []
        for s, points in drawn:
            ys = [y for _, y in points]
            told.append(f"{s.name}: " + say("curve_says", first=show(ys[0]), last=show(ys[-1]), lowest=show(min(ys)), n=numbers.count(len(ys))))
        title = say("by_step", name=say(key))
        picture = svg.lines(series, title=title, desc=". ".join(told), show_y=show, show_x=numbers.count, marks_x=marks, from_zero=from_zero, height=250 if wide else 190)
        legend = [{"name": s.name, "color": s.color, "dash": s.dash, "faint": s.faint, "last": show(points[-1][1]), "dots": s.dots} for s, points in drawn]
        pictures.append({"title": say(key), "picture": picture, "legend": legend, "wide": wide})

    loss: list[svg.Series] = []
    dev: list[svg.Series] = []
    marks = []
    for name, run in runs.items():
        color = colors[name]
        points = [(float(s["step"]), _number(s.get("loss"))) for s in run.steps if "loss" in s]
        dev_points = [(float(e["step"]), _number(e["dev_loss"])) for e in run.evals if "dev_loss" in e]
        label = say("train_loss") if single else name
        if len(points) > 60:
            loss.append(svg.Series(label, points, color, faint=True))
            loss.append(svg.Series(f"{label} ({say('smoothed')})", svg.smooth(points), color))
        elif points:
            loss.append(svg.Series(label, points, color, dots=len(points) < 20))
        if dev_points:
            dev.append(svg.Series(say("dev_loss") if single else name, dev_points, "c2" if single else color, dots=True, dash=single))
            good = [(y, x) for x, y in dev_points if finite(y)]
            if single and len(good) > 1:
                marks = [(min(good)[1], say("best_step", step=numbers.count(min(good)[1])))]
    if single:
        add("loss", loss + dev, marks=marks, wide=True)
    else:
        add("train_loss", [s for s in loss if not s.faint])
        add("dev_loss", dev)
    for key, label, show in (
        ("lr", "learning_rate", numbers.compact),
        ("grad_norm", "grad_norm", numbers.compact),
        ("tokens_per_second", "speed", numbers.parameters),
        ("memory_bytes", "memory_used", lambda mib: numbers.size(mib * 2**20)),
    ):
        series = []
        for name, run in runs.items():
            scale = 2**20 if key == "memory_bytes" else 1  # round marks are wanted in MiB
            points = [(float(s["step"]), _number(s.get(key)) / scale) for s in run.steps if key in s]
            many = len(points) > 60 and key in ("grad_norm", "tokens_per_second")
            shown = svg.smooth(points) if many else points
            title = (say(label) if single else name) + (f" ({say('smoothed')})" if many else "")
            series.append(svg.Series(title, shown, "c3" if single else colors[name], dots=0 < len(points) < 3))
        add(label, series, show=show, from_zero=key in ("lr", "tokens_per_second", "memory_bytes"))
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
        named = [(say(f"part_{part}") if part in PARTS else part, value, f"m{PARTS.index(part) if part in PARTS else 4}") for part, value in parts.items() if value > 0]
        peak = next((raw[key] for key in ("peak", "peak_bytes", "process_peak") if finite(raw.get(key))), None)
        rows.append(
            {
                "name": name,
                "total": numbers.size(total),
                "peak": numbers.size(peak) if peak is not None else "",
                "picture": svg.stack(named, whole, title=f"{name} {numbers.size(total)}".strip(), show=numbers.size),
                "parts": [{"name": n, "value": numbers.size(v), "share": numbers.percent(v / total, 0), "color": c} for n, v, c in named],
            }
        )
    measured = all(raw.get("measured", True) for _, _, raw in bars)
    return {"rows": rows, "measured": measured}


def memory_parts(raw: Mapping[str, Any]) -> dict[str, float]:
    """{"weights": bytes, ...} from memory.json: its "parts", or its own keys; optimizer, *_bytes and *_state are understood."""
    inner = raw.get("parts") if isinstance(raw.get("parts"), Mapping) else raw
    parts: dict[str, float] = {}
    for key, value in inner.items():
        if isinstance(value, Mapping):
            value = value.get("bytes")
        name = str(key).lower().removesuffix("_bytes").removesuffix("_state").removesuffix("_states").replace("optimizer", "optimiser")
        name = {"states": "optimiser", "grads": "gradients", "gradient": "gradients", "rest": "other"}.get(name, name)
        known = name in PARTS
        if finite(value) and value >= 0 and (known or inner is not raw) and name not in ("total", "peak", "process_peak"):
            parts[name] = parts.get(name, 0) + float(value)
    ordered = {part: parts.pop(part) for part in PARTS[:-1] if part in parts}
    ordered.update(parts)
    return ordered if any(ordered.values()) else {}


def data(card: Mapping[str, Any], dropped: Mapping[str, int], say: Say) -> dict[str, Any] | None:
    """The data card: counts by origin that add up, splits, lengths, languages, labels, drops, rows with the trained-on tokens marked."""
    if not card and not dropped:
        return None
    origins = _origins(card)
    total_in, total_out, total_dropped = (sum(o[key] for o in origins) for key in ("rows_in", "rows_out", "rows_dropped"))
    splits = as_dict(card.get("splits") or card.get("split"))
    reasons = as_dict(card.get("dropped") or card.get("drops")) or dict(dropped)
    reasons = {str(k): v for k, v in reasons.items() if finite(v)}
    counts = as_dict(card.get("labels") or card.get("label_balance"))
    labels = sorted(((str(k), v) for k, v in counts.items() if finite(v)), key=lambda kv: (-kv[1], kv[0]))
    languages = {str(k): v for k, v in as_dict(card.get("languages")).items() if finite(v)}
    examples = [_example(e) for e in card.get("examples") or [] if isinstance(e, Mapping | list)]
    figures = {
        "origins": [{**o, **{k: numbers.count(o[k]) for k in ("rows_in", "rows_out", "rows_dropped")}} for o in origins],
        "sum": say(
            "adds_up" if total_in == total_out + total_dropped else "does_not_add_up",
            rows_in=numbers.count(total_in),
            rows_out=numbers.count(total_out),
            rows_dropped=numbers.count(total_dropped),
        )
        if origins
        else "",
        "adds_up": total_in == total_out + total_dropped,
        "total": [numbers.count(x) for x in (total_in, total_out, total_dropped)],
        "splits": [
            {"name": say(f"split_{name}") if name in ("train", "dev", "test") else name, "n": numbers.count(_rows_of(n))}
            for name, n in splits.items()
            if finite(_rows_of(n))
        ],
        "lengths": _lengths(as_dict(card.get("lengths")), say),
        "languages": _shares(languages, say),
        "labels": _labels(labels, say),
        "reasons": [{"name": k, "n": numbers.count(v)} for k, v in sorted(reasons.items(), key=lambda kv: -kv[1])],
        "nothing_dropped": not reasons and bool(origins) and total_dropped == 0,
        "examples": [e for e in examples if e["parts"]][:4],
    }
    return figures if any(figures[key] for key in ("origins", "splits", "lengths", "languages", "labels", "reasons", "examples")) else None


def _rows_of(value: Any) -> Any:
    return value.get("rows") if isinstance(value, Mapping) else value


def _origins(card: Mapping[str, Any]) -> list[dict[str, Any]]:
    raw = card.get("origins") or card.get("by_origin") or card.get("counts") or {}
    if isinstance(raw, Mapping) and "rows_in" in raw:
        raw = raw.get("by_origin") or {"": raw}
    if isinstance(raw, Mapping):
        raw = [{"origin": name, **value} for name, value in raw.items() if isinstance(value, Mapping)]
    if not raw and finite(card.get("rows_in")):
        raw = [{"origin": "", **card}]
    out = []
    for row in raw if isinstance(raw, list) else []:
        if isinstance(row, Mapping) and finite(row.get("rows_in")):
            kept = {key: int(row[key]) if finite(row.get(key)) else 0 for key in ("rows_in", "rows_out", "rows_dropped")}
            out.append({"origin": str(row.get("origin", "")), **kept})
    return out


def _lengths(raw: Mapping[str, Any], say: Say) -> dict[str, Any] | None:
    edges, counts = raw.get("edges") or raw.get("bins"), raw.get("counts")
    if not (isinstance(edges, list) and isinstance(counts, list) and counts and len(edges) == len(counts) + 1):
        return None
    if not all(finite(x) for x in [*edges, *counts]):
        return None
    median, longest, limit = raw.get("median"), raw.get("max", raw.get("longest")), raw.get("limit")
    says = say("lengths_says", median=numbers.compact(median), longest=numbers.count(longest)) if finite(median) and finite(longest) else ""
    marks = [(float(limit), say("limit", n=numbers.count(limit)))] if finite(limit) else []
    return {"says": says, "picture": svg.histogram(edges, counts, title=say("lengths"), desc=says, show=numbers.count, marks_x=marks)}


def _shares(found: Mapping[str, Any], say: Say) -> list[dict[str, Any]]:
    total = sum(found.values())
    out = []
    for name, number in sorted(found.items(), key=lambda kv: -kv[1])[:8]:
        shown = say(f"lang_{name}") if name in ("en", "ko", "other") else name
        share = number / total if total else 0.0
        out.append({"name": shown, "n": numbers.count(number), "share": numbers.percent(share), "bar": svg.bar(share, title=f"{shown} {numbers.percent(share)}")})
    return out


def _labels(labels: list[tuple[str, Any]], say: Say) -> dict[str, Any] | None:
    if not labels:
        return None
    most = labels[0][1] or 1
    rows = [{"name": name, "n": numbers.count(n), "bar": svg.bar(n / most, title=numbers.count(n))} for name, n in labels]
    folded = len(rows) > MANY_LABELS
    return {
        "says": say("labels_says", n=numbers.count(len(labels)), least=numbers.count(labels[-1][1]), most=numbers.count(most)),
        "first": rows[:6] if folded else rows,
        "rest": rows[6:400] if folded else [],
        "num": len(rows),
    }


def _example(raw: Any) -> dict[str, Any]:
    """Segments as (role, text, trained_on): from dicts, or from the tuples of Text.segments (role, text, ids, trained_on)."""
    segments = raw if isinstance(raw, list) else raw.get("segments") or raw.get("parts") or []
    parts = []
    for segment in segments:
        if isinstance(segment, Mapping):
            role, text, trained = segment.get("role", ""), segment.get("text", ""), segment.get("trained_on", False)
        elif isinstance(segment, list) and len(segment) >= 3:
            role, text, trained = segment[0], segment[1], segment[-1]
        else:
            continue
        parts.append({"role": str(role or ""), "text": str(text), "trained_on": any(trained) if isinstance(trained, list) else bool(trained)})
    origin = "" if isinstance(raw, list) else str(raw.get("origin") or raw.get("id") or "")
    return {"origin": origin, "parts": parts}


def flatten(value: Any, name: str = "") -> list[tuple[str, str]]:
    """A nested project as (dotted name, value as text): {"train": {"lr": 1e-4}} -> [("train.lr", "1e-4")]."""
    if isinstance(value, Mapping) and value:
        return [pair for key, inner in value.items() for pair in flatten(inner, f"{name}.{key}" if name else str(key))]
    if isinstance(value, list) and any(isinstance(item, Mapping) for item in value):
        return [pair for i, inner in enumerate(value) for pair in flatten(inner, f"{name}[{i}]")]
    if isinstance(value, list):
        return [(name, ", ".join(_plain(item) for item in value) or numbers.NOTHING)]
    return [(name, _plain(value))]


def _plain(value: Any) -> str:
    if value is None or value == "" or value == {}:
        return numbers.NOTHING
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return numbers.compact(value) if finite(value) else str(value)
    return str(value)


HYPER = ("train", "method", "adapter", "precision", "length", "too_long", "reasoning", "seed")


def settings(run: Run) -> dict[str, Any] | None:
    """Hyperparameters (the manifest's, else what of the project file steers training), and all other values."""
    given = as_dict(run.manifest.get("hyperparameters"))
    project = dict(run.project)
    hyper = flatten(given) if given else flatten({key: project[key] for key in HYPER if key in project})
    rest = flatten(project) if given else flatten({key: value for key, value in project.items() if key not in HYPER})
    return {"hyper": hyper, "rest": rest} if hyper or rest else None


def weights(run: Run, say: Say) -> dict[str, Any] | None:
    """Trainable and frozen counts per part of the model (D1, E4)."""
    rows, totals = parameter_counts(run), parameter_totals(run)
    if totals is None:
        return None
    shown = [
        {
            "name": row["name"],
            "trainable": numbers.count(row["trainable"]),
            "frozen": numbers.count(row["frozen"]),
            "bar": svg.bar(row["trainable"] / max(row["trainable"] + row["frozen"], 1), title=say("trainable")),
        }
        for row in rows
    ]
    return {
        "first": shown[:16],
        "rest": shown[16:600],
        "num": len(shown),
        "trainable": numbers.count(totals[0]),
        "frozen": numbers.count(totals[1] - totals[0]),
        "share": numbers.percent(totals[0] / totals[1]) if totals[1] else numbers.NOTHING,
    }


def batch(run: Run, say: Say, lang: str) -> list[dict[str, str]] | None:
    """Effective batch with advice, predicted and counted updates, times each row was seen, tokens, time (D4-D6)."""
    steps, start = run.steps, run.last("start")
    if not steps:
        return None
    facts: list[dict[str, str]] = []
    told = {**as_dict(as_dict(run.project.get("train"))), **start, **as_dict(start.get("batch")), **as_dict(run.manifest.get("batch"))}
    effective = next((told[key] for key in ("effective", "effective_batch", "batch_size") if finite(told.get(key))), None)
    if effective:
        effective = int(effective)
        per_pass, accumulation, devices = (told.get(key) for key in ("per_pass", "accumulation", "devices"))
        whole = {"per_pass": per_pass, "accumulation": accumulation, "devices": devices, "effective": effective}
        known = all(finite(value) for value in whole.values())
        text = say("batch_sum", **{k: numbers.compact(v) for k, v in whole.items()}) if known else say("batch_only", effective=numbers.count(effective))
        advice = []
        if effective < 32:
            advice.append(say("advice_small"))
        if effective & (effective - 1):
            below = 1 << (effective.bit_length() - 1)
            advice.append(say("advice_power", below=numbers.count(below), above=numbers.count(2 * below)))
        facts.append({"name": say("effective_batch"), "text": text, "advice": " ".join(advice)})
    predicted, counted = planned_steps(run), len(steps)
    if finite(as_dict(run.manifest.get("updates")).get("counted")):
        counted = int(run.manifest["updates"]["counted"])
    if predicted is None:
        text = say("updates_counted", counted=numbers.count(counted))
    elif predicted == counted:
        text = say("updates_equal", n=numbers.count(counted))
    else:
        text = say("updates_differ", predicted=numbers.count(predicted), counted=numbers.count(counted))
    early = say("updates_early") if predicted is not None and counted < predicted else ""
    facts.append({"name": say("updates"), "text": text, "advice": early})
    seen = times_seen(run)
    if seen:
        low, high, n = seen
        same = say("seen_equal", n=numbers.count(n), times=numbers.count(low))
        text = same if low == high else say("seen_between", n=numbers.count(n), low=numbers.count(low), high=numbers.count(high))
        facts.append({"name": say("seen"), "text": text, "advice": ""})
    epochs = [s["epoch"] for s in steps if finite(s.get("epoch"))]
    if epochs:
        facts.append({"name": say("epochs"), "text": numbers.compact(round(max(epochs), 2)), "advice": ""})
    read, trained = _sum_or_last(steps, "tokens"), _sum_or_last(steps, "trained_tokens")
    if read:
        text = say("tokens_trained", tokens=numbers.parameters(read), trained=numbers.parameters(trained)) if trained else numbers.parameters(read)
        facts.append({"name": say("tokens"), "text": text, "advice": ""})
    took = seconds_taken(run)
    if took is not None:
        facts.append({"name": say("time"), "text": numbers.seconds(took, lang), "advice": ""})
    return facts


def _sum_or_last(steps: Sequence[Mapping[str, Any]], key: str) -> float:
    """A count told per step is summed; one told as a running total (it never falls and grows far) is its last value."""
    values = [s[key] for s in steps if finite(s.get(key))]
    if not values:
        return 0.0
    running = len(values) > 2 and all(a < b for a, b in zip(values, values[1:])) and values[-1] > 2.5 * values[0]
    return values[-1] if running else sum(values)


def times_seen(run: Run) -> tuple[int, int, int] | None:
    """(least, most, rows): how often each row was trained on, by loss_per_row.jsonl or the manifest's "seen" {times: rows}."""
    given = as_dict(run.manifest.get("seen"))
    if given and all(str(k).isdigit() and finite(v) for k, v in given.items()):
        times = [int(k) for k, v in given.items() if v]
        return (min(times), max(times), int(sum(given.values()))) if times else None
    seen: dict[str, int] = {}
    for row in run.rows:
        key = str(row.get("id") or row.get("origin") or row.get("row") or "")
        seen[key] = int(row["seen"]) if finite(row.get("seen")) else seen.get(key, 0) + 1
    return (min(seen.values()), max(seen.values()), len(seen)) if seen else None


def row_losses(run: Run, say: Say) -> dict[str, Any] | None:
    """Loss of each row at its last telling: histogram, hardest and easiest (D7)."""
    last: dict[str, Mapping[str, Any]] = {}
    for row in run.rows:
        if finite(row.get("loss")):
            last[str(row.get("id") or row.get("origin") or row.get("row") or len(last))] = row
    if not last:
        return None
    ordered = sorted(last.values(), key=lambda row: -row["loss"])

    def show(row: Mapping[str, Any]) -> dict[str, str]:
        text = _text_of(row, "prompt", "text", "question")
        answer = _text_of(row, "answer", "expected", "label")
        return {"loss": numbers.compact(row["loss"], 3), "origin": _text_of(row, "origin", "id", "row"), "text": text, "answer": answer, "seen": numbers.count(row.get("seen"))}

    losses = [float(row["loss"]) for row in ordered]
    marks = svg.ticks(0.0, max(losses), 12)
    counts = [0] * (len(marks) - 1)
    for loss in losses:
        counts[min(sum(loss >= m for m in marks[1:]), len(counts) - 1)] += 1
    picture = svg.histogram(marks, counts, title=say("rows_by_loss"), show=numbers.compact) if len(losses) > 1 else ""
    return {
        "picture": picture,
        "hardest": [show(row) for row in ordered[:8]],
        "easiest": [show(row) for row in reversed(ordered[-5:])] if len(ordered) > 16 else [],
        "n": numbers.count(len(ordered)),
    }


def samples(run: Run, say: Say) -> list[dict[str, Any]] | None:
    """Answers drawn during training, by prompt: first, middle and last tellings."""
    by_prompt: dict[str, list[dict[str, str]]] = {}
    for event in run.events.get("sample", []):
        told = event.get("samples") or event.get("answers")
        for item in told if isinstance(told, list) else [event]:
            if isinstance(item, Mapping):
                prompt, answer = _text_of(item, "prompt"), _text_of(item, "answer", "text", "prediction")
                if prompt or answer:
                    step = say("step_word", step=numbers.count(event.get("step")))
                    by_prompt.setdefault(prompt, []).append({"step": step, "answer": answer})
    out = []
    for prompt, answers in list(by_prompt.items())[:6]:
        some = answers if len(answers) <= 4 else [answers[0], answers[len(answers) // 3], answers[2 * len(answers) // 3], answers[-1]]
        out.append({"prompt": prompt, "answers": some})
    return out or None


def figures(explanation: Any, lang: str) -> list[tuple[str, str]] | None:
    """The method's own words about its figures: {name: text} or {name: {"en", "ko"}} or [{"name", "text"}]."""
    pairs: list[tuple[str, str]] = []
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
        rows.append((say("versions"), ", ".join(f"{name} {value or numbers.NOTHING}" for name, value in versions.items())))
    machine = found.get("hardware")
    if isinstance(machine, Mapping):
        parts = [str(machine[key]) for key in ("processor", "system") if machine.get(key)]
        if finite(machine.get("cores")):
            parts.append(say("cores", n=numbers.count(machine["cores"])))
        if finite(machine.get("memory")):
            parts.append(numbers.size(machine["memory"]))
        parts.extend(f"{k} {v}" for k, v in machine.items() if k not in ("processor", "system", "cores", "memory") and v)
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
        return numbers.count(reads) if reads else say("test_reads_none")
    if not isinstance(reads, list):
        return ""
    if not reads:
        return say("test_reads_none")
    by: dict[str, int] = {}
    for read in reads:
        name = str(read.get("by", "?")) if isinstance(read, Mapping) else str(read)
        by[name] = by.get(name, 0) + 1
    listed = ", ".join(name if times == 1 else f"{name} ×{times}" for name, times in by.items())
    return say("test_reads_text", n=numbers.count(len(reads)), list=listed)


def headline_metric(evaluation: Evaluation) -> dict[str, Any] | None:
    """The first metric of an evaluation as {"metric", "value", "low", "high", "n"}."""
    metric = main_metric(evaluation.summary)
    return {"metric": metric, **summaries(evaluation.summary)[metric]} if metric else None
