"""Sections of what was set and what is known: hyperparameters, parameters, the method's figures, the manifest.

Every function gives a dict for its template, or None when there is nothing to show: the page leaves that section out.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from tunesmith.report import formats, svg
from tunesmith.report.formats import finite
from tunesmith.report.read import Run, as_dict
from tunesmith.report.verdict import Say, parameter_counts, parameter_totals

HYPER = ("train", "method", "adapter", "precision", "length", "too_long", "reasoning", "seed")


def settings(run: Run) -> dict[str, Any] | None:
    """Hyperparameters as (name, value, why), and all other values as (name, value).

    The hyperparameters are the manifest's, else what of the project file steers training; values that nobody gave and
    the reasons for them come from chosen.json.
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
