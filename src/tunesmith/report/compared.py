"""Sections of scores: the ladder of variants, paired tests, cost, other tasks, confusion, the worst rows.

Every function gives a dict for its template, or None when there is nothing to show: the page leaves that section out.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tunesmith.report import formats, svg
from tunesmith.report.formats import finite
from tunesmith.report.read import Evaluation, as_dict, in_percent, summaries, text_of
from tunesmith.report.verdict import (
    Say,
    best_of,
    difference_figure,
    is_share,
    metric_name,
    paired_tests,
    panel_of,
    show_difference,
    show_score,
    variants_of,
)

KIND_COLORS = {"prompt": "c0", "examples": "c3", "retrieval": "c5", "lora": "c1", "full": "c2"}
KINDS = ("prompt", "examples", "retrieval", "lora", "full", "features")
MANY_LABELS = 12  # more than these are folded


def kind_label(kind: Any, say: Say) -> str:
    """The name of a kind of variant in the page's language."""
    return say(f"kind_{kind}" if kind in KINDS else "kind_other")


def color_of(variant: Mapping[str, Any]) -> str:
    """The colour of a variant, by its kind."""
    return KIND_COLORS.get(str(variant.get("kind")), "c6")


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


def before_after(evaluations: Sequence[Evaluation], say: Say) -> dict[str, Any]:
    """The first evaluation that holds the base's scores (`eval.base`) as a report: its first metric, and others of the same unit."""
    for evaluation in evaluations:
        found = [
            one for one in as_dict(evaluation.summary.get("base")).get("comparisons") or [] if isinstance(one, Mapping)
        ]
        if not found:
            continue
        was = summaries({"metrics": as_dict(evaluation.summary.get("base")).get("metrics")})
        kinds = [(one.get("better"), in_percent(was.get(str(one.get("metric")), {}))) for one in found]
        better, share = kinds[0]
        tests = [
            {**one, "a": say("before"), "b": f"{say('after')} · {one.get('metric')}"}
            for one, kind in zip(found, kinds)
            if kind == kinds[0]
        ]
        unit = "share" if share else "number"
        return {"metric": {"unit": unit, "better": better}, "tests": tests}
    return {}


def cost(report: Mapping[str, Any], say: Say, lang: str) -> dict[str, Any] | None:
    """Tokens and seconds per answer, weights trained, training time of each variant; columns nobody has are left out."""
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
        told = [(evaluation.name, evaluation.summary)]
        if base := as_dict(evaluation.summary.get("base")):
            told.append((f"{evaluation.name}, {say('before')}", {"metrics": base.get("metrics")}))
        every = [(place, metric, found) for place, one in told for metric, found in summaries(one).items()]
        for place, metric, found in [] if evaluation.is_panel else every:
            value, low, high = found.get("value"), found.get("low"), found.get("high")
            share = in_percent(found)
            rows.append(
                {
                    "evaluation": place,
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
            text_of(row, "prediction", "answered", "output")
            if "prediction" in row or "answered" in row or "output" in row
            else text_of(row, "answer")
        )
        expected = text_of(row, "expected", "reference", "target") or (
            text_of(row, "answer") if "prediction" in row or "answered" in row else ""
        )
        out.append(
            {
                "prompt": text_of(row, "prompt", "question", "input", "messages"),
                "expected": expected,
                "answered": answered,
                "origin": text_of(row, "origin", "id"),
                "loss": formats.compact(row["loss"]) if finite(row.get("loss")) else "",
                "right": bool(answered) and answered == expected,
            }
        )
    return out or None


def _scale(values: Sequence[Any], share: bool, wanted: int = 4, zero: bool = False) -> list[float]:
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
