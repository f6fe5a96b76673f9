"""The section of the data: counts that add up, splits, lengths, languages, labels, drops, rows as trained on."""

from collections.abc import Mapping
from typing import Any

from tunesmith.report import formats, svg
from tunesmith.report.formats import finite
from tunesmith.report.read import Run, as_dict
from tunesmith.report.verdict import Say

MANY_LABELS = 12  # more than these are folded


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
