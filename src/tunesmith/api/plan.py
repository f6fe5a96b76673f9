"""tunesmith plan: will it fit, how long, what it costs, and what to change so that it fits."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from tunesmith.api.planner import SHARDS, Planner
from tunesmith.core.errors import SettingError
from tunesmith.core.limits import above, at_least
from tunesmith.core.result import Result

ALWAYS = ("devices", "zero", "tokens", "price", "measure")  # read by each way of asking about a run
READ = {
    "parameters": ("bytes", "tokens"), "budget": (), "gpu": (*ALWAYS, "rows", "distance"), "fit": ALWAYS,
    "on": (*ALWAYS, "budget", "rows", "distance"), "": (*ALWAYS, "budget", "rows", "distance"),
}  # fmt: skip


def plan(
    config: str | None = None,
    *,
    on: str | None = None,
    gpu: str | None = None,
    fit: str | None = None,
    devices: int = 1,
    zero: int | None = None,
    tokens: float | None = None,
    price: float | None = None,
    budget: float | None = None,
    parameters: float | None = None,
    bytes: float | None = None,
    rows: int | None = None,
    distance: Literal["near", "far"] = "near",
    measure: bool = False,
    **keys: Any,
) -> Result:
    """Say before a run whether it fits, how long it takes, and what to change.

    config      a project file, or keys alone: model=Llama-3.1-8B method=sft adapter=lora length=2048. Its rows are read
    on          T4, 12GB, cpu:24GB: this run there, part by part; without it, on this machine
    gpu         12GB, T4, H100: every adapter of the shelf that fits there, cheapest first, and which to take for the project's rows
    fit         24GB, a card, or cpu:24GB for a process here: the cheapest change that makes this run fit
    devices     data-parallel processes; what they cut among them is train.shard, or zero = 0, 1, 2, 3 for none to all
    tokens      how many are trained on in all, for time; otherwise those of the rows. price of a device for an hour, for cost
    budget      floating-point operations: the best split into parameters and tokens when training from scratch
    parameters  of any model, with bytes each (otherwise 2): the closed formulas alone, exactly
    rows        how many there are, where the project's own are not meant, and the distance of the task from what the base knows:
                which method to take
    measure     time two real steps of the project on the device at hand first, beside matrix products and copies: remembered for later plans

    Example: tunesmith plan model=Llama-3.1-8B method=sft adapter=lora length=2048 --fit 24GB
    """
    from tunesmith.plan import devices as known
    from tunesmith.plan import formulas, propose, tell
    from tunesmith.plan.within import within

    own = config is not None or bool(keys)
    given = {
        "on": on, "gpu": gpu, "fit": fit, "budget": budget, "parameters": parameters, "bytes": bytes, "tokens": tokens, "price": price,
        "zero": zero, "rows": rows, "devices": None if devices == 1 else devices, "distance": None if distance == "near" else distance,
        "measure": measure or None,
    }  # fmt: skip
    way = _way({name: value for name, value in given.items() if value is not None}, own=own)
    if way == "parameters":
        return _formulas(parameters or 0.0, 2.0 if bytes is None else bytes, tokens)
    if way == "budget":
        best, data = formulas.compute_optimal(budget or 0.0)
        text = f"{budget:.3g} operations are best spent on {best:.3g} parameters and {data:.3g} tokens (20 tokens a parameter)."
        return Result(parameters=best, tokens=data, flops=budget, text=text)
    wanted = on or gpu or fit
    card = known.device(wanted) if wanted else None
    if measure and card is not None and card.cuda:
        raise SettingError(f"measure is given, but {wanted} is not this machine.", fix="Leave --measure out.")
    planner = Planner.of(config, card, devices=devices, stage=zero, keys=keys)
    ahead = planner.ahead
    if distance != "near" and rows is None and ahead is None:
        raise SettingError("distance is given without rows.", fix="Say how many rows there are: rows=400")
    if price is not None and tokens is None and (ahead is None or ahead.tokens is None):
        raise SettingError("price is given, but not how many tokens are trained on.", fix="Say it: tokens=5e6")
    name, method = str(planner.project.model), planner.method
    facts: dict[str, Any] = {
        "model": name,
        "method": method,
        "device": planner.device.name,
        "memory": planner.device.memory,
        **({"data": ahead.as_dict()} if ahead else {}),
    }
    timed = planner.measure() if measure else {}
    facts |= {"step": timed} if timed else {}
    if gpu is not None:
        found = _methods(planner)
        costs = [planner.cost(each.forecast, tokens, price) for each in found.fits]
        fits = [
            {**each.forecast.as_dict(), "slower": each.slower, "cost": cost.as_dict()}
            for each, cost in zip(found.fits, costs)
        ]
        facts |= {"fits": fits, "too_large": found.too_large, "refused": found.refused}
        text = tell.listed(found.fits, planner.device, found.too_large, costs, found.refused)
        return _advised(Result(facts, text=text), planner, found.fits, rows, distance)
    if fit is not None:
        limited = (lambda each: each) if planner.device.cuda else within
        offered = propose.into(
            planner.setup, lambda each: limited(planner.look(each)), unit_tokens=planner.unit_tokens, adapters=planner.smaller(),
            precisions=planner.sixteen(), allowed=lambda each: planner.refusal(each) is None,
        )  # fmt: skip
        if offered is not None:
            offered = replace(offered, forecast=limited(planner.whole(offered.setup)))
            cost = planner.cost(offered.forecast, tokens, price)
            facts |= {"forecast": offered.forecast.as_dict(), "price": list(offered.price), **cost.as_dict()}
        facts |= {"changes": list(offered.changes) if offered else None}
        notch = limited(planner.look(offered.notch)) if offered and offered.notch else None
        facts |= {"notch": notch.as_dict()} if notch else {}
        text = tell.offered(offered, planner.device, notch)
        return Result(facts, text=text + ("\n" + "\n".join(tell.cost_lines(cost)) if offered else ""))
    seen = planner.whole(planner.setup)
    seen = within(seen) if on is not None and not planner.device.cuda else seen
    cost = planner.cost(seen, tokens, price)
    text = tell.told(seen, planner.device, name=name, method=method, cost=cost, data=ahead)
    best, data = formulas.compute_optimal(budget or formulas.flops(seen.parameters, 20 * seen.parameters))
    text += f"\n   scaling  from scratch, {best:.3g} parameters want {data:.3g} tokens (20 a parameter): {6 * best * data:.3g} operations"
    text += f"\n      pace  no step was timed: {timed['untimed']}" if "untimed" in timed else ""
    result = Result(facts | {"forecast": seen.as_dict(), **cost.as_dict()}, text=text)
    advised = rows is not None or distance != "near"
    return _advised(result, planner, _methods(planner).fits, rows, distance) if advised else result


def _way(given: Mapping[str, Any], *, own: bool) -> str:
    """Which question is asked: parameters, budget, gpu, fit, on, or "" for this machine. Refuses two, and flags that it does not read."""
    for name in ("budget", "parameters", "bytes", "tokens"):
        above(name, given.get(name), 0)
    for name, least in (("price", 0), ("rows", 0), ("devices", 1)):
        at_least(name, given.get(name), least)
    asked = [way for way in ("parameters", "gpu", "fit", "on") if way in given]
    if len(asked) > 1:
        raise SettingError(f"{' and '.join(asked)} are all given.", fix="Ask one after the other.")
    way = asked[0] if asked else "budget" if "budget" in given and not own else ""
    if own and way == "parameters":
        raise SettingError("parameters is given beside a run.", fix="Ask one after the other.")
    unread = [name for name in given if name != way and name not in READ[way]]
    if unread:
        raise SettingError(
            f"{', '.join(unread)} {'is' if len(unread) == 1 else 'are'} given, which {f'{way}=' if way else 'this plan'} does not read.",
            wanted=f"Beside it: {', '.join(READ[way]) or 'nothing'}.",
            fix="Leave it out.",
        )
    if given.get("zero") not in (None, 0, 1, 2, 3):
        raise SettingError(f"zero is {given['zero']}.", wanted="0, 1, 2 or 3.")
    if given.get("zero") and "devices" not in given:
        raise SettingError(f"zero is {given['zero']}, but there is one device.", fix="Say how many: devices=2")
    return way


def _formulas(parameters: float, each: float, tokens: float | None) -> Result:
    """What people reckon with, in GB of 10^9 bytes, to the last digit."""
    from tunesmith.plan import formulas

    weights, run = parameters * each, formulas.inference(parameters, each)
    states = formulas.states(parameters, each)
    lines = [
        f"{parameters:,.15g} parameters of {each:.10g} bytes",
        f"  weights               N x M         {weights / 1e9:.10g} GB",
        f"  to run it             N x M x 1.2   {run / 1e9:.10g} GB",
        f"  gradients and states  N x 3 x M     {states / 1e9:.10g} GB",
    ]
    facts: dict[str, Any] = {
        "parameters": parameters,
        "bytes": each,
        "weights": weights,
        "inference": run,
        "states": states,
    }
    if tokens is not None:
        facts |= {"tokens": tokens, "operations": formulas.flops(parameters, tokens)}
        lines.append(f"  operations            6 x N x D     {facts['operations']:.10g} for {tokens:.10g} tokens")
    return Result(facts, text="\n".join(lines))


@dataclass(frozen=True)
class _Listed:
    """What of the shelf fits a device: those that do, cheapest first; those that do not; those that `train` refuses there, with why."""

    fits: list[Any]
    too_large: list[str]
    refused: dict[str, str]


def _methods(planner: Planner) -> _Listed:
    """Every adapter of the shelf on the planner's device. Of a deep network they are compared by two shallower ones; the cheapest, and the
    project's own, are then run with every layer."""
    from tunesmith.plan import propose

    precision = next(iter(planner.sixteen()), "fp32") if planner.device.cuda else planner.setup.precision
    setups = [replace(planner.setup, adapter=adapter, precision=precision) for adapter in planner.adapters()]
    refused = {setup.adapter_name: why.found for setup in setups if (why := planner.refusal(setup))}
    tried = [setup for setup in setups if setup.adapter_name not in refused and not planner.too_large(setup)]
    found, more = propose.methods(
        planner.setup, planner.look, unit_tokens=planner.unit_tokens, adapters=[setup.adapter for setup in tried],
        precision=precision,
    )  # fmt: skip
    refused |= more
    own = planner.setup.adapter_name
    fits = [
        replace(each, forecast=planner.whole(each.setup)) if number == 0 or each.setup.adapter_name == own else each
        for number, each in enumerate(found)
    ]
    known = {each.setup.adapter_name for each in fits} | refused.keys()
    return _Listed(fits, [setup.adapter_name for setup in setups if setup.adapter_name not in known], refused)


def _advised(result: Result, planner: Planner, found: list[Any], rows: int | None, distance: Any) -> Result:
    """The result with which method to take for so many rows, by default the project's own."""
    from tunesmith.plan.strategy import recommend

    rows = planner.ahead.num_rows if rows is None and planner.ahead is not None else rows
    if rows is None:
        return result
    advice = recommend(rows=rows, fits=[each.setup.adapter_name for each in found], distance=distance)
    facts = {**result, "recommended": advice.adapter, "reasons": list(advice.reasons)}
    return Result(facts, text=f"{result.text}\nTake {advice.adapter or 'no tuning yet'}. {' '.join(advice.reasons)}")


def planned(parts: Any) -> str:
    """Before the first step of a run: forecast it from its own rows into plan.json, and say so in a line.

    The largest pass among the first epoch's steps is simulated, beside what this process holds already.
    """
    from tunesmith.api.device import machine
    from tunesmith.report.formats import size
    from tunesmith.step.ranks import ranks

    stage = SHARDS.index(parts.project.train.shard)
    planner = Planner(
        parts.project, parts.filled, parts.root, machine(parts.device), devices=ranks(), stage=stage, parts=parts
    )
    seen = planner.whole(planner.setup)
    told = {
        "forecast": seen.as_dict(),
        "rows": "the run's own",
        "device": planner.device.name,
        "devices": planner.devices,
    }
    parts.folder.write_json("plan.json", told)
    verdict = "" if seen.fits else "   it may not fit: tunesmith plan --fit says what to change"
    return f"      plan  {size(seen.device)} of {size(seen.memory)}, give or take {100 * seen.error:.0f} %{verdict}"


def compared(parts: Any) -> str:
    """After a run: plan.json gets what was measured, and this machine's error bar and pace learn from it. One line, or none."""
    from tunesmith.plan import calibrate
    from tunesmith.report.formats import seconds, size

    folder = parts.folder
    if not folder.file("plan.json").exists() or not folder.file("memory.json").exists():
        return ""
    plan, measured = folder.read_json("plan.json"), folder.read_json("memory.json")
    part = "device" if parts.device == "cpu" else "allocated"  # what is measured on a card is torch's allocator's
    predicted, found = plan["forecast"][part], measured["process_peak"]
    plan["measured"] = {part: found, "error": predicted / found - 1, "of": part}
    if "reserved" in measured:
        plan["measured"]["reserved"] = measured["reserved"]
    told = f"Memory: {size(predicted)} planned, {size(found)} measured ({100 * (predicted / found - 1):+.1f} %)."
    calibrate.note(
        "cpu" if parts.device == "cpu" else "cuda", predicted=predicted, measured=found, run=folder.path.name
    )
    step = _step_compared(plan, folder.journal("events.jsonl")) if parts.feed is None else None
    if step is not None:
        foretold, took = step["predicted"], step["measured"]
        plan["measured"]["step"] = step
        calibrate.note_step(
            plan["device"], predicted=foretold / plan["forecast"]["pace"], measured=took, run=folder.path.name
        )
        told += f" A step: {seconds(foretold, 'en')} planned, {seconds(took, 'en')} measured ({100 * step['error']:+.1f} %)."
    folder.write_json("plan.json", plan)
    return told


def _step_compared(plan: Mapping[str, Any], events: Any) -> dict[str, float] | None:
    """{predicted, measured, error}: medians of the seconds of a run's steps, without the first, which warms up; None where none was
    foretold. Steps that sample answers are not compared: how long those get nobody knows before."""
    from statistics import median

    forecast = plan["forecast"]
    steps = [event for event in events if event["kind"] == "step"]
    if forecast.get("seconds_pass") is None or "device" not in plan or not steps:
        return None
    each = forecast["seconds_pass"] / max(1, forecast["tokens"]) / plan["devices"]
    steps = steps[1:] or steps
    predicted = median(each * event["tokens"] + forecast["seconds_update"] for event in steps)
    measured = median(event["seconds"] for event in steps)
    return {"predicted": predicted, "measured": measured, "error": predicted / measured - 1} if measured > 0 else None
