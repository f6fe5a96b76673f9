"""What a report says first, in words: what failed, what fixed it, proved how, at what price. The page and the
terminal say the same.

verdict = comparison_verdict(report, speaker("en"), "en")
verdict.headline      -> "Full tuning gets 84.5% of the test rows right. Prompt only got 1.3%."
verdict.points        -> (("What failed", "..."), ("What fixed it", "..."), ...)
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tunesmith.report import formats
from tunesmith.report.formats import finite
from tunesmith.report.read import Run, as_dict, in_percent, main_metric, summaries, word_of

Say = Callable[..., str]
RIGHT = (
    "exact_match",
    "accuracy",
    "sql_execution",
    "execution_match",
    "label_accuracy",
)  # "gets 84% of the rows right" is true of these
UNTRAINED = ("prompt", "examples", "retrieval")
SIGNS = {"hidden": "sign_hidden", "length": "sign_length", "repetition": "sign_repetition", "kl": "sign_kl"}
SIGN_FACTS = ("reward", "hidden", "length", "repetition", "kl", "limit")


@dataclass(frozen=True)
class Verdict:
    """The headline, and short texts under titles; tone is "good", "bad" or "plain"."""

    headline: str
    points: tuple[tuple[str, str], ...]
    tone: str = "plain"


@dataclass(frozen=True)
class Paired:
    """A paired test of b against a. `outcome`: better | worse | not_told_apart, of b. difference = score of b - score
    of a."""

    a: str
    b: str
    difference: float
    low: float | None
    high: float | None
    p: float | None
    outcome: str
    n: int | None = None
    test: str | None = None


def is_share(report: Mapping[str, Any]) -> bool:
    """Are the scores shares (shown in percent)? metric.unit says so ("share"); else: are all within 0..1 and better
    when higher?"""
    metric = as_dict(report.get("metric"))
    if "unit" in metric:
        return metric["unit"] == "share"
    values = [score for v in variants_of(report) if finite(score := v.get("score"))]
    return metric.get("better", "higher") == "higher" and all(0 <= value <= 1 for value in values)


def show_score(value: Any, share: bool) -> str:
    return formats.percent(value) if share else formats.compact(value)


def show_difference(value: Any, share: bool, lang: str) -> str:
    if not finite(value):
        return formats.NOTHING
    return formats.points(value, lang) if share else formats.signed(value, formats.compact(abs(value)))


def difference_figure(value: Any, share: bool) -> str:
    """A difference without its unit, for the ends of an interval: 0.0312 -> "+3.1"."""
    if not finite(value):
        return formats.NOTHING
    text = f"{abs(100 * value):.1f}" if share else formats.compact(abs(value))
    return formats.signed(value if text != "0.0" else 0, text)


def variants_of(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The variants as dicts with a name, in the order given."""
    return [
        {"kind": "other", **v, "name": str(v.get("name", "?"))}
        for v in report.get("variants") or []
        if isinstance(v, Mapping)
    ]


def baseline_of(report: Mapping[str, Any]) -> dict[str, Any] | None:
    """What everything is compared with: the variant named by "baseline", else the first of kind prompt, else the
    first, with a score."""
    scored = [v for v in variants_of(report) if finite(v.get("score"))]
    named = [v for v in scored if v["name"] == report.get("baseline")] or [v for v in scored if v["kind"] == "prompt"]
    return next(iter(named or scored), None)


def best_of(report: Mapping[str, Any]) -> dict[str, Any] | None:
    """The variant with the best score; of equals the first."""
    scored = [v for v in variants_of(report) if finite(v.get("score"))]
    sign = -1 if as_dict(report.get("metric")).get("better") == "lower" else 1
    return max(scored, key=lambda v: sign * v["score"]) if scored else None


def paired_tests(report: Mapping[str, Any]) -> list[Paired]:
    """The tests, each with b - a and the outcome for b.

    The outcome is "not told apart" where the verdict's words say so, or (without words) where the interval crosses 0,
    or p >= 0.05.
    """
    scores = {v["name"]: score for v in variants_of(report) if finite(score := v.get("score"))}
    lower = as_dict(report.get("metric")).get("better") == "lower"
    found = []
    for raw in report.get("tests") or []:
        if not isinstance(raw, Mapping) or not {"a", "b"} <= raw.keys():
            continue
        a, b, difference = str(raw["a"]), str(raw["b"]), raw.get("difference")
        low, high, p = (raw.get(key) if finite(raw.get(key)) else None for key in ("low", "high", "p"))
        if not finite(difference):
            continue
        if a in scores and b in scores and (scores[b] - scores[a]) * difference < 0:
            a, b = b, a  # told as a - b: turn the names, so that the figures stay as they were computed
        words = str(raw.get("verdict") or "").lower()
        if "not told apart" in words or "구분되지" in words:
            apart = False
        elif words:
            apart = True
        elif low is not None and high is not None:
            apart = low > 0 or high < 0
        else:
            apart = p is not None and p < 0.05
        good = (difference < 0) if lower else (difference > 0)
        outcome = "not_told_apart" if not apart else "better" if good else "worse"
        n = raw.get("n")
        found.append(Paired(a, b, difference, low, high, p, outcome, int(n) if finite(n) else None, raw.get("test")))
    return found


def pair_test(tests: Sequence[Paired], a: str, b: str) -> Paired | None:
    """The test of b against a, turned round when it was made the other way."""
    for test in tests:
        if (test.a, test.b) == (a, b):
            return test
        if (test.a, test.b) == (b, a):
            outcome = {"better": "worse", "worse": "better"}.get(test.outcome, test.outcome)
            low = None if test.high is None else -test.high
            high = None if test.low is None else -test.low
            return Paired(a, b, -test.difference, low, high, test.p, outcome, test.n, test.test)
    return None


def rival_of(
    report: Mapping[str, Any], base: dict[str, Any], best: dict[str, Any], tests: Sequence[Paired]
) -> tuple[dict[str, Any], Paired | None]:
    """What the best has to beat, and the test of it: the best without training where such a test was made, else the base."""
    sign = -1 if as_dict(report.get("metric")).get("better") == "lower" else 1
    others = [v for v in variants_of(report) if finite(v.get("score")) and v["name"] != best["name"]]
    untrained = [v for v in others if v["kind"] in UNTRAINED or v["name"] == base["name"]]
    for variant in sorted(untrained, key=lambda v: -sign * v["score"]):
        test = pair_test(tests, variant["name"], best["name"])
        if test is not None:
            return variant, test
    return base, None


def comparison_verdict(report: Mapping[str, Any], say: Say, lang: str) -> Verdict:
    """The verdict over a report.json."""
    share, base, best = is_share(report), baseline_of(report), best_of(report)
    metric = metric_name(report)
    if base is None or best is None:
        return Verdict(say("no_variants"), ())
    shown = {"best": best["name"], "score": show_score(best["score"], share), "metric": metric}
    shown |= {"base": base["name"], "base_score": show_score(base["score"], share)}
    if base["name"] == best["name"] and len(variants_of(report)) == 1:
        return Verdict(say("one_variant", **shown), ())
    tests = paired_tests(report)
    rival, proof = rival_of(report, base, best, tests)
    fixed = proof is not None and proof.outcome == "better"
    if fixed:
        headline = say("fixed_right" if metric in RIGHT and share else "fixed_score", **shown)
    elif proof is None and base["name"] != best["name"]:
        headline = say("untested", **shown)
    else:
        against = {"base": rival["name"], "base_score": show_score(rival["score"], share)}
        headline = say("nothing_better", **{**shown, **against})
    points = [_failed(report, base, best, fixed, share, say)]
    if fixed:
        points.append(_fixed(report, best, tests, share, lang, say))
    if base["name"] != best["name"]:
        points.append(_proof(base, rival, proof, share, lang, say))
    points.append(_worse(report, say))
    return Verdict(headline, tuple(points), "good" if fixed else "plain")


def metric_name(report: Mapping[str, Any]) -> str:
    metric = report.get("metric")
    return str(as_dict(metric).get("name") or (metric if isinstance(metric, str) else "") or "score")


def _failed(report: Mapping[str, Any], base: dict, best: dict, fixed: bool, share: bool, say: Say) -> tuple[str, str]:
    text = say("failed_text", base=base["name"], score=show_score(base["score"], share), n=formats.count(base.get("n")))
    others = [
        f"{v['name']} {show_score(v['score'], share)}"
        for v in variants_of(report)
        if finite(v.get("score"))
        and v["name"] not in (base["name"], best["name"])
        and (v["kind"] in UNTRAINED or not fixed)
    ]
    return say("what_failed" if fixed else "what_tried"), text + (
        " " + say("failed_others", list=", ".join(others)) if others else ""
    )


def _fixed(
    report: Mapping[str, Any], best: dict, tests: Sequence[Paired], share: bool, lang: str, say: Say
) -> tuple[str, str]:
    low, high = (show_score(best.get(key), share) for key in ("low", "high"))
    text = [say("fixed_text", best=best["name"], score=show_score(best["score"], share), low=low, high=high)]
    if finite(best.get("minutes")):
        minutes = formats.seconds(60 * best["minutes"], lang)
        total = best.get("parameters") or as_dict(report.get("model")).get("parameters")
        if best["kind"] == "full" or (finite(total) and finite(best.get("trainable")) and best["trainable"] >= total):
            text.append(say("fixed_cost_all", minutes=minutes))
        elif finite(total) and finite(best.get("trainable")) and total > 0:
            text.append(say("fixed_cost", minutes=minutes, share=formats.percent(best["trainable"] / total)))
        else:
            text.append(say("fixed_minutes", minutes=minutes))
    equals = []
    for variant in variants_of(report):
        test = pair_test(tests, best["name"], variant["name"])
        if test is not None and test.outcome == "not_told_apart":
            equals.append(f"{variant['name']} ({show_score(variant.get('score'), share)})")
    if equals:
        text.append(say("also_as_good", list=", ".join(equals)))
    return say("what_fixed"), " ".join(text)


def _proof(base: dict, rival: dict, proof: Paired | None, share: bool, lang: str, say: Say) -> tuple[str, str]:
    if proof is None:
        return say("how_proved"), say("proof_none", base=base["name"])
    return say("how_proved"), say(
        "proof_text",
        test=proof.test or say("paired_test"),
        n=formats.count(proof.n if proof.n is not None else base.get("n")),
        difference=show_difference(proof.difference, share, lang),
        base=rival["name"] if rival["name"] == base["name"] else say("strongest", name=rival["name"]),
        low=difference_figure(proof.low, share),
        high=difference_figure(proof.high, share),
        p=formats.p_value(proof.p),
    )


def panel_of(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The other tasks, each with its outcome: worse | worse_within | better | kept | not_told_apart.

    By what the panel says itself, else its paired interval, else a test of the two values with their intervals. With
    "kept" (is the whole interval inside a margin declared before?) a small loss and a proof of no loss have names too.
    """
    found = []
    for row in report.get("panel") or []:
        if not isinstance(row, Mapping):
            continue
        before, after = as_dict(row.get("before")), as_dict(row.get("after"))
        if not (finite(before.get("value")) and finite(after.get("value"))):
            continue
        outcome = row.get("outcome")
        if outcome not in ("better", "worse", "not_told_apart"):
            outcome = _outcome_of(row, before, after)
        if row.get("kept") is True:
            outcome = {"worse": "worse_within", "not_told_apart": "kept"}.get(outcome, outcome)
        found.append({**row, "task": str(row.get("task", "?")), "before": before, "after": after, "outcome": outcome})
    return found


def _outcome_of(row: Mapping[str, Any], before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    difference = after["value"] - before["value"]
    if finite(row.get("low")) and finite(row.get("high")):  # paired interval of after - before
        apart = row["low"] > 0 or row["high"] < 0
    elif all(finite(side.get(key)) for side in (before, after) for key in ("low", "high")):
        # not paired, so wider than need be; overlapping intervals alone would not be a test
        error = math.hypot(before["high"] - before["low"], after["high"] - after["low"]) / 2
        apart = abs(difference) > error
    else:
        apart = False
    if not apart or not difference:
        return "not_told_apart"
    return "better" if (difference < 0) == (row.get("better") == "lower") else "worse"


def _worse(report: Mapping[str, Any], say: Say) -> tuple[str, str]:
    panel = panel_of(report)
    if not panel:
        return say("what_worse"), say("worse_unknown")

    def named(outcome: str) -> str:
        rows = [row for row in panel if row["outcome"] == outcome]
        return ", ".join(
            dict.fromkeys(row["task"] + (f" ({row['variant']})" if row.get("variant") else "") for row in rows)
        )

    n = formats.count(len({row["task"] for row in panel}))
    text = say("worse_list", n=n, list=named("worse")) if named("worse") else say("worse_none", n=n)
    if named("worse_within"):
        text += " " + say("worse_within_list", list=named("worse_within"))
    return say("what_worse"), text


def run_verdict(run: Run, say: Say, lang: str) -> Verdict:
    """The verdict over a run folder."""
    steps, evals, end = run.steps, run.evals, run.last("end")
    dev = [(e["step"], e["dev_loss"]) for e in evals if finite(e.get("dev_loss"))]
    losses = [s["loss"] for s in steps if finite(s.get("loss"))]
    last_step = steps[-1]["step"] if steps else 0
    error, stopped = run.last("error"), run.last("stopped")
    tone = "plain"
    scores = list(score_lines(run, say))
    if not steps and not scores:
        headline = say("run_empty")
    elif error and not end:
        reason = str(error.get("message") or error.get("error") or say("unknown"))
        headline, tone = say("run_failed", step=formats.count(last_step), reason=reason), "bad"
    elif scores:
        headline = scores[0]
    elif not end and not stopped and steps:
        headline = say("run_running", step=formats.count(last_step), total=formats.count(planned_steps(run)))
    elif len(dev) > 1:
        headline = say("run_dev", first=formats.compact(dev[0][1]), best=formats.compact(min(loss for _, loss in dev)))
    elif dev:
        headline = say("run_dev_one", best=formats.compact(dev[0][1]))
    elif losses:
        headline = say("run_loss", first=formats.compact(losses[0]), last=formats.compact(losses[-1]))
    else:
        headline = say("run_empty")
    points = []
    if (end or stopped) and steps:
        points.append((say("run_ended"), _ended(run, say, lang)))
    if dev:
        kept, lowest = min(dev, key=lambda item: item[1])
        text = say("run_kept_text", step=formats.count(kept), loss=formats.compact(lowest))
        if dev[-1][1] > 1.03 * lowest and dev[-1][0] > kept:
            text += " " + say("overfit", best=formats.compact(lowest), last=formats.compact(dev[-1][1]))
        points.append((say("run_kept"), text))
    elif steps and (end or stopped):
        points.append((say("run_kept"), say("run_kept_last", step=formats.count(last_step))))
    if short := memory_told(run, say):
        points.append((say("run_memory"), short))
    if signs := warnings_told(run, say):
        points.append((say("run_warnings"), " ".join(signs)))
    bad = [s["step"] for s in steps if "loss" in s and not finite(s["loss"])]
    if bad:
        points.append((say("loss"), say("not_finite", n=formats.count(len(bad)), step=formats.count(bad[0]))))
    learned = _learned(run, say)
    if learned:
        points.append((say("run_learned"), learned))
    if steps:
        rest = scores[1:] if headline in scores else scores
        if rest or not scores:
            points.append((say("run_score"), " ".join(rest[:3]) or say("run_no_score")))
    points += _what_else(run, say, lang)
    return Verdict(headline, tuple(points), tone)


PARTS = {"backward": "pass_backward", "evaluation": "pass_evaluation", "rollouts": "pass_rollouts"}
"""Where memory ran out, but for the forward pass, and its label."""


def memory_told(run: Run, say: Say) -> str:
    """Where memory ran out and what was computed at once from then on (train/out_of_memory.py); "" where it did not."""
    found: dict[str, list[Mapping[str, Any]]] = {}
    for event in run.events.get("out_of_memory", []):
        part = str(event.get("part"))
        found.setdefault(part if part in ("evaluation", "rollouts") else "pass", []).append(event)
    return " ".join(_halved(events, say) for events in found.values())


def _halved(events: list[Mapping[str, Any]], say: Say) -> str:
    """One part's sentence: how often, where first, what was left in the end."""
    first, last = events[0], events[-1]
    prompts = last.get("prompts")
    return say(
        "run_memory_text" if prompts is None else "run_memory_prompts",
        n=formats.count(len(events)),
        part=say(PARTS.get(str(first.get("part")), "pass_forward")),
        step=formats.count(first.get("step")),
        before=formats.count(first.get("before")),
        now=formats.count(last.get("pass_tokens") if prompts is None else prompts),
    )


def warnings_told(run: Run, say: Say) -> list[str]:
    """A sentence for each sign that the reward was gamed (train/watch.py): its first time, and how often it came again."""
    found: dict[str, list[Mapping[str, Any]]] = {}
    for event in run.events.get("warning", []):
        found.setdefault(str(event.get("name")), []).append(event)
    told = []
    for name, (first, *again) in found.items():
        facts = {key: formats.compact(as_dict(first.get("facts")).get(key)) for key in SIGN_FACTS}
        text = say(SIGNS[name], **facts) if name in SIGNS else str(first.get("message") or name)
        text = say("run_warning", step=formats.count(first.get("step")), text=text)
        told.append(text + (" " + say("run_warning_again", n=formats.count(1 + len(again))) if again else ""))
    return told


def _what_else(run: Run, say: Say, lang: str) -> Iterator[tuple[str, str]]:
    """Of a tuned model that writes: what it scored before tuning, and what happened to other tasks; or how to find out."""
    own = [each for each in run.evaluations if each.summary.get("tuned") and "finish" in each.summary]
    panel = next(
        (each.summary["panel"] for each in run.evaluations if isinstance(each.summary.get("panel"), list)), None
    )
    if panel is not None:
        yield _worse({"panel": panel}, say)
    if not own:
        return
    base = next((as_dict(each.summary["base"]) for each in own if as_dict(each.summary.get("base"))), None)
    keys = ("eval.base=true", say("unknown_before"), base), ("eval.panel=true", say("unknown_others"), panel)
    open_keys = [(key, what) for key, what, known in keys if known is None]
    if base and (found := next((one for one in base.get("comparisons") or []), None)):
        share = in_percent(as_dict(as_dict(base.get("metrics")).get(found["metric"])))
        yield (
            say("run_before"),
            say(
                "run_before_text",
                metric=found["metric"],
                before=show_score(found["a_value"], share),
                difference=show_difference(found["difference"], share, lang),
                low=difference_figure(found["low"], share),
                high=difference_figure(found["high"], share),
                p=formats.p_value(found["p"]),
            ),
        )
    if open_keys:
        command = f"tunesmith eval {run.folder} {' '.join(key for key, _ in open_keys)}"
        yield (
            say("run_unknown"),
            say("run_unknown_text", list=", ".join(what for _, what in open_keys), command=command),
        )


def score_lines(run: Run, say: Say) -> Iterator[str]:
    """One sentence per evaluation of the run: its first metric, with rows and interval."""
    for evaluation in run.evaluations:
        metric = main_metric(evaluation.summary)
        if metric is None:
            continue
        found = summaries(evaluation.summary)[metric]
        share = in_percent(found)
        score = show_score(found["value"], share)
        if finite(found.get("low")) and finite(found.get("high")):
            low, high = (show_score(found[key], share) for key in ("low", "high"))
            score += f" ({say('interval')} {say('interval_text', low=low, high=high)})"
        n = found.get("n", evaluation.num_rows)
        split = evaluation.name.casefold()
        name = say(f"split_{split}") if split in ("train", "dev", "test") else evaluation.name
        if metric in RIGHT and share:
            yield say("run_right", score=score, n=formats.count(n), name=name.lower())
            continue
        yield say("run_scores", metric=f"{name} · {metric}", n=formats.count(n), score=score)


def planned_steps(run: Run) -> int | None:
    """How many updates were predicted before the run."""
    places = (run.last("end").get("predicted_updates"), run.last("start").get("steps"))
    return next((int(value) for value in places if finite(value)), None)


def counted_steps(run: Run) -> int:
    """How many updates were made: told by the end event, else the step events."""
    told = run.last("end").get("counted_updates")
    return int(told) if finite(told) else len(run.steps)


def seconds_taken(run: Run) -> float | None:
    """Seconds of training: told by the end event, else the sum over steps, else from the first to the last event."""
    end, steps = run.last("end"), run.steps
    if finite(end.get("seconds")):
        return float(end["seconds"])
    times = [s["seconds"] for s in steps if finite(s.get("seconds"))]
    if times:
        return float(sum(times))
    stamps = [e["time"] for e in steps if finite(e.get("time"))]
    return stamps[-1] - stamps[0] if len(stamps) > 1 else None


def parameter_counts(run: Run) -> list[dict[str, Any]]:
    """Parts of the model: [{"name", "trainable", "frozen"}] from parameters.json, given as {"modules": [...]}, {name:
    {...}} or a list."""
    raw = run.parameters
    rows: list[Any] = []
    if isinstance(raw, Mapping):
        inner = raw.get("modules", raw)
        if isinstance(inner, Mapping):
            rows = [{"name": name, **value} for name, value in inner.items() if isinstance(value, Mapping)]
        elif isinstance(inner, list):
            rows = inner
    elif isinstance(raw, list):
        rows = raw
    kept = []
    for row in rows:
        if isinstance(row, Mapping) and (finite(row.get("trainable")) or finite(row.get("frozen"))):
            counts = {key: int(row[key]) if finite(row.get(key)) else 0 for key in ("trainable", "frozen")}
            kept.append({"name": str(row.get("name") or row.get("module") or "?"), **counts})
    return kept


def parameter_totals(run: Run) -> tuple[int, int] | None:
    """(trainable, all) of the model."""
    rows = parameter_counts(run)
    raw = as_dict(run.parameters)
    if finite(raw.get("trainable")) and (finite(raw.get("frozen")) or finite(raw.get("total"))):
        trainable = int(raw["trainable"])
        return trainable, int(raw["total"]) if finite(raw.get("total")) else trainable + int(raw["frozen"])
    if rows:
        trainable = sum(row["trainable"] for row in rows)
        return trainable, trainable + sum(row["frozen"] for row in rows)
    return None


def _learned(run: Run, say: Say) -> str:
    totals = parameter_totals(run)
    if not totals or not totals[1]:
        return ""
    adapter = word_of(run.project.get("adapter")) or "full"
    return say(
        "run_learned_text",
        trainable=formats.parameters(totals[0]),
        total=formats.parameters(totals[1]),
        share=formats.percent(totals[0] / totals[1]),
        method=word_of(run.project.get("method")) or say("unknown"),
        adapter=say("method_full") if adapter == "full" else adapter,
        model=word_of(run.project.get("model")) or say("unknown"),
    )


def _ended(run: Run, say: Say, lang: str) -> str:
    end = run.last("end")
    reason = "reason_stopped" if not end else "reason_early" if end.get("early") else "reason_done"
    return say(
        "run_ended_text",
        reason=say(reason),
        steps=formats.count(counted_steps(run)),
        time=formats.seconds(seconds_taken(run), lang),
    )
