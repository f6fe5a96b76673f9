"""A forecast in words: what a person reads after `tunesmith plan`."""

from collections.abc import Mapping, Sequence
from typing import Any

from tunesmith.plan.calibrate import FIRST, LIVE
from tunesmith.plan.devices import Device
from tunesmith.plan.forecast import Cost, Forecast
from tunesmith.plan.propose import Proposal
from tunesmith.report.formats import parameters, seconds, size

UNKNOWN = "not known for this device: tunesmith plan --measure on it, or name a card"


def told(seen: Forecast, device: Device, *, name: str, method: str, cost: Cost, data: Any = None) -> str:
    """One setup on one device, part by part. data: what the project's rows are (api/ahead.py)."""
    verdict = "fits" if seen.fits else "does not fit"
    trained = parameters(seen.trainable)
    guess = " (a guess: no run on a card was compared yet)" if device.cuda and seen.error == FIRST["cuda"] else ""
    lines = [
        f"{name} ({parameters(seen.parameters)} parameters, {trained} trained), {method}, {seen.setup.words()}",
        f"{verdict}: {size(seen.device)} of {size(seen.memory)} on {device.name}, give or take {100 * seen.error:.0f} %{guess}",
        "",
        f"peak of a step  {size(seen.live)} of tensors, give or take {100 * LIVE:.0f} %, {seen.where}",
    ]
    for kind, held in sorted(seen.kinds.items(), key=lambda item: -item[1]):
        if held > 0.001 * seen.live:
            lines.append(f"{kind:>14}  {size(held):>10}  {100 * held / max(1, seen.live):3.0f} %")
    if device.cuda:
        lines.append(
            f"     allocated  {size(seen.allocated)}   reserved {size(seen.reserved)}   context {size(device.context)}"
        )
    lines.append("        phases  " + ", ".join(f"{phase} {size(held)}" for phase, held in seen.phases.items()))
    lines.append("      formulas  " + ", ".join(f"{words} = {size(held)}" for words, held in seen.closed.items()))
    lines += [
        "",
        *([data_line(data)] if data is not None else []),
        f"operations  {seen.flops_per_token:.3g} a token",
        *cost_lines(cost),
        *(
            [f"      pace  steps timed here took {seen.pace:.2f} times what products and copies foretell: counted in"]
            if seen.pace != 1.0
            else []
        ),
    ]
    return "\n".join(lines)


def data_line(data: Any) -> str:
    """The rows, their longest and their tokens, and the steps of an epoch."""
    read = data.as_dict()
    some = f", by {read['read']:,} of them" if read["read"] < read["rows"] else ""
    whose = "" if read["tokenizer"] == "own" else ", by mini's tokenizer: the model's own is not here"
    tokens = "" if data.tokens is None else f", {data.tokens:,} tokens"
    return f"      rows  {data.num_rows:,} to train on{tokens}, the longest {data.length:,}{some}{whose}; {data.per_epoch:,} step{'' if data.per_epoch == 1 else 's'} an epoch"


def cost_lines(cost: Cost) -> list[str]:
    """Speed, and what the run's tokens take: operations, time, cost."""
    steps = f"{cost.steps:,} steps, " if cost.steps is not None else ""
    whole = (
        f"{parameters(cost.tokens)} tokens, {cost.operations:.3g} operations" if cost.tokens and cost.operations else ""
    )
    run = [f"       run  {steps}{whole}".rstrip(", ")] if steps or whole else []
    if cost.rate is None:
        return [*run, f"      time  {UNKNOWN}"]
    out = [f"     speed  about {cost.rate:,.0f} tokens a second", *run]
    if cost.seconds is not None:
        price = f", {cost.cost:,.2f} in all" if cost.cost is not None else ""
        out.append(f"      time  {seconds(cost.seconds, 'en')}{price}")
    return out


def listed(
    found: Sequence[Proposal], device: Device, missed: Sequence[str], costs: Sequence[Cost], refused: Mapping[str, str]
) -> str:
    """Every adapter that fits, cheapest first, with the run's time and cost where they are known."""
    lines = [f"What fits on {device.name} ({size(device.memory)}), cheapest in time first:"]
    for each, cost in zip(found, costs):
        took = "" if cost.seconds is None else f"  {seconds(cost.seconds, 'en')}"
        took += "" if cost.cost is None else f", {cost.cost:,.2f}"
        about = "" if each.forecast.every_layer else "~"
        lines.append(
            f"  {each.setup.adapter_name:<10} {about + size(each.forecast.device):>9}  time x {each.slower or 1:.2f}{took}  {each.setup.words()}"
        )
    if not found:
        lines = [f"Nothing fits on {device.name} ({size(device.memory)})."]
    elif costs[0].tokens and costs[0].operations:
        run = f"{parameters(costs[0].tokens)} tokens, {costs[0].operations:.3g} operations with {found[0].setup.adapter_name}"
        lines.append(f"The run: {run}." + (f" Time is {UNKNOWN}." if costs[0].seconds is None else ""))
    if not all(each.forecast.every_layer for each in found):
        lines.append("~ by two shallower networks of the kind; adapter=NAME --on CARD runs every layer.")
    if missed:
        lines.append(f"Does not fit: {', '.join(missed)}.")
    lines += [f"Refused: {name}: {why}" for name, why in refused.items()]
    return "\n".join(lines)


def offered(found: Proposal | None, device: Device, notch: Forecast | None = None) -> str:
    """The cheapest change that makes a run fit, and what one notch more would need."""
    if found is None:
        return f"No change found that makes it fit {size(device.memory)}: take a smaller model."
    if not found.changes:
        return f"It fits {size(device.memory)} as it is: {size(found.forecast.device)}."
    slower = f", time x {found.slower:.2f}" if found.slower else ""
    lines = [f"The cheapest change that fits {size(device.memory)}:  {' '.join(found.changes)}"]
    lines.append(f"  then {size(found.forecast.device)} give or take {100 * found.forecast.error:.0f} %{slower}")
    lines += [f"  its price: {words}" for words in found.price]
    if notch is not None:
        which = "may not" if notch.device * (1 - notch.error) <= notch.memory else "does not"
        lines.append(
            f"  one notch more {which} fit: {notch.setup.words()}, {size(notch.device)} give or take {100 * notch.error:.0f} %"
        )
    return "\n".join(lines)
