"""A forecast in words: what a person reads after `tunesmith plan`."""

from collections.abc import Sequence

from tunesmith.plan.calibrate import LIVE
from tunesmith.plan.devices import Device
from tunesmith.plan.forecast import Forecast
from tunesmith.plan.propose import Proposal
from tunesmith.report.formats import parameters, seconds, size


def told(seen: Forecast, device: Device, *, name: str, method: str, tokens: float | None, price: float | None) -> str:
    """One setup on one device, part by part."""
    verdict = "fits" if seen.fits else "does not fit"
    trained = parameters(seen.trainable)
    lines = [
        f"{name} ({parameters(seen.parameters)} parameters, {trained} trained), {method}, {seen.setup.words()}",
        f"{verdict}: {size(seen.device)} of {size(seen.memory)} on {device.name}, give or take {100 * seen.error:.0f} %",
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
    lines += ["", *time_lines(seen, tokens, price)]
    return "\n".join(lines)


def time_lines(seen: Forecast, tokens: float | None, price: float | None) -> list[str]:
    """Operations, speed, and what a number of tokens takes and costs."""
    out = [f"operations  {seen.flops_per_token:.3g} a token"]
    rate = seen.tokens_per_second(max(seen.tokens, seen.setup.batch_size * seen.setup.length))
    if rate is None:
        return [*out, "      time  not known for this device: tunesmith plan --measure on it, or name a card"]
    out.append(f"     speed  about {rate:,.0f} tokens a second")
    if tokens:
        took = tokens / rate
        cost = f", {took / 3600 * price:,.2f} at {price:g} an hour" if price is not None else ""
        out.append(
            f"      time  {seconds(took, 'en')} for {parameters(tokens)} tokens, {seen.flops_per_token * tokens:.3g} operations{cost}"
        )
    return out


def listed(found: Sequence[Proposal], device: Device, missed: Sequence[str]) -> str:
    """Every method that fits, cheapest first."""
    if not found:
        return f"Nothing fits on {device.name} ({size(device.memory)})."
    lines = [f"What fits on {device.name} ({size(device.memory)}), cheapest in time first:"]
    for each in found:
        lines.append(
            f"  {each.setup.adapter_name:<8} {size(each.forecast.device):>9}  time x {each.slower or 1:.2f}  {each.setup.words()}"
        )
    if missed:
        lines.append(f"Does not fit: {', '.join(missed)}.")
    return "\n".join(lines)


def offered(found: Proposal | None, device: Device) -> str:
    """The cheapest change that makes a run fit."""
    if found is None:
        return f"No change found that makes it fit {size(device.memory)}: take a smaller model."
    if not found.changes:
        return f"It fits {size(device.memory)} as it is: {size(found.forecast.device)}."
    slower = f", time x {found.slower:.2f}" if found.slower else ""
    lines = [f"The cheapest change that fits {size(device.memory)}:  {' '.join(found.changes)}"]
    lines.append(f"  then {size(found.forecast.device)} give or take {100 * found.forecast.error:.0f} %{slower}")
    if found.notch is not None:
        lines.append(f"  one notch more does not fit: {found.notch.words()}")
    return "\n".join(lines)
