"""Sections of the training itself: memory, batch and updates, loss row by row, answers on the way.

Every function gives a dict for its template, or None when there is nothing to show: the page leaves that section out.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tunesmith.report import formats, svg
from tunesmith.report.formats import finite
from tunesmith.report.read import AT_ONCE, EASIEST, HARDEST, Run, as_dict, text_of
from tunesmith.report.verdict import Say, counted_steps, planned_steps, seconds_taken

PARTS = ("weights", "masters", "gradients", "optimiser", "activations", "other", "helpers")


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
        named = [(say(f"part_{part}"), value, f"m{PARTS.index(part)}") for part, value in parts.items() if value > 0]
        peak = raw.get("process_peak")
        rows.append(
            {
                "name": name,
                "total": formats.size(total),
                "peak": formats.size(peak) if finite(peak) else "",
                "picture": svg.stack(named, whole, title=f"{name} {formats.size(total)}".strip(), show=formats.size),
                "parts": [
                    {"name": n, "value": formats.size(v), "share": formats.percent(v / total, 0), "color": c}
                    for n, v, c in named
                ],
            }
        )
    measured = all(raw.get("measured", True) for _, _, raw in bars)
    return {"rows": rows, "measured": measured}


def plan(run: Run, say: Say, lang: str) -> list[dict[str, str]]:
    """What plan.json said before the first step beside what the process held in the end and how long its steps took; [] when nothing was
    planned."""
    forecast, measured = as_dict(run.plan.get("forecast")), as_dict(run.plan.get("measured"))
    if not finite(forecast.get("device")):
        return []
    bar = forecast.get("error")
    give = say("plan_bar", share=formats.percent(bar, 0)) if finite(bar) else ""
    part = str(
        measured.get("of", "device")
    )  # of a card torch's allocator is measured, not what the driver holds beside
    facts = [
        {"name": say("plan_predicted"), "text": formats.size(forecast.get(part, forecast["device"])), "advice": give}
    ]
    if finite(measured.get(part)) and finite(measured.get("error")):
        off = measured["error"]
        within = finite(bar) and abs(off) <= bar
        verdict = say("plan_within") if within else say("plan_outside")
        text = say("plan_found", found=formats.size(measured[part]), off=f"{100 * off:+.1f} %")
        facts.append({"name": say("plan_measured"), "text": text, "advice": verdict if finite(bar) else ""})
    step = as_dict(measured.get("step"))
    if all(finite(step.get(name)) for name in ("predicted", "measured", "error")):
        text = say("plan_found", found=formats.seconds(step["measured"], lang), off=f"{100 * step['error']:+.1f} %")
        facts.append({"name": say("plan_step"), "text": formats.seconds(step["predicted"], lang), "advice": ""})
        facts.append({"name": say("plan_step_measured"), "text": text, "advice": ""})
    return facts


def seeds(run: Run, say: Say) -> list[dict[str, str]]:
    """How much each figure and score moves from seed to seed, over the runs that seeds.json names; [] without it."""
    facts = []
    for name, over in as_dict(run.seeds.get("spread")).items():
        of = {key: formats.compact(value) if finite(value) else "?" for key, value in as_dict(over).items()}
        if of.keys() >= {"mean", "low", "high", "sd", "least", "most"}:
            facts.append({"name": str(name), "text": say("seeds_mean", **of), "advice": say("seeds_spread", **of)})
    for name, share in as_dict(run.seeds.get("agreement")).items():
        if finite(share):
            text = say("seeds_agree", share=formats.percent(share))
            facts.append({"name": str(name), "text": text, "advice": say("seeds_agree_means")})
    listed = run.seeds.get("runs")
    if facts and isinstance(listed, list):
        facts.insert(0, {"name": say("seeds_runs"), "text": ", ".join(map(str, listed)), "advice": ""})
    return facts


def memory_parts(raw: Mapping[str, Any]) -> dict[str, float]:
    """The parts of memory.json in the order they are drawn: {"weights": bytes, ...}; {} when it names none."""
    named = {"optimiser" if key == "optimizer" else str(key): value for key, value in raw.items()}
    parts = {part: float(named[part]) for part in PARTS if finite(named.get(part)) and named[part] >= 0}
    return parts if any(parts.values()) else {}


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
    low, high, n = run.rows.least_seen, run.rows.most_seen, run.rows.num
    if n:
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


def row_losses(run: Run, say: Say) -> dict[str, Any] | None:
    """Loss of each row at its last telling: histogram, hardest and easiest (D7)."""
    if not run.rows.losses:
        return None

    def show(row: Mapping[str, Any]) -> dict[str, str]:
        row = {**run.texts.get(str(row.get("origin")), {}), **row}
        text = text_of(row, "prompt", "text", "question")
        answer = text_of(row, "answer", "expected", "label")
        return {
            "loss": formats.compact(row["loss"], 3),
            "origin": text_of(row, "origin", "id", "row"),
            "text": text,
            "answer": answer,
            "seen": formats.count(row.get("seen")),
        }

    losses = np.asarray(run.rows.losses)
    marks = svg.ticks(0.0, float(losses.max()), 12)
    counts = _counted(losses, marks)
    picture = svg.histogram(marks, counts, title=say("rows_by_loss"), show=formats.compact) if len(losses) > 1 else ""
    return {
        "picture": picture,
        "hardest": [show(row) for row in run.rows.hardest],
        "easiest": [show(row) for row in run.rows.easiest] if len(losses) > HARDEST + EASIEST else [],
        "n": formats.count(len(losses)),
    }


def _counted(losses: np.ndarray, marks: Sequence[float]) -> list[int]:
    """How many of them lie between each two marks, the last of which belongs to what is below it; some at a time: places take 8 bytes each."""
    counts = np.zeros(len(marks) - 1, dtype=np.int64)
    for begin in range(0, len(losses), AT_ONCE):
        places = np.searchsorted(marks[1:], losses[begin : begin + AT_ONCE], side="right").clip(max=len(marks) - 2)
        counts += np.bincount(places, minlength=len(counts))
    return counts.tolist()


def samples(run: Run, say: Say) -> list[dict[str, Any]] | None:
    """Answers drawn during training, by prompt: first, middle and last tellings."""
    by_prompt: dict[str, list[dict[str, str]]] = {}
    for event in sorted(
        [*run.events.get("sample", []), *run.evals], key=lambda e: e["step"] if finite(e.get("step")) else 0
    ):
        told = event.get("samples") or event.get("answers")
        for item in told if isinstance(told, list) else [event]:
            if isinstance(item, Mapping):
                prompt, answer = text_of(item, "prompt"), text_of(item, "answer", "text", "prediction")
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
