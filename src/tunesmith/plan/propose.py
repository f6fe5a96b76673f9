"""The cheapest change that makes a run fit, and every method that fits: searched over forecasts.

    found = into(setup, look, one_pass=2048)        # Proposal(setup=..., changes=("checkpointing",), forecast=...)
    rows, refused = methods(setup, look, adapters=[...])     # [Proposal, ...] cheapest first; {adapter: why not}

`look` makes a forecast of a setup. What changes no result is tried first (tokens a pass, checkpointing, updates within the backward
pass), then the number formats of weights and of the optimiser's averages, then what is trained and over how many bits, then what waits
on the disk (states, weights, activations), whose time nobody can foresee, then the length of rows.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tunesmith.core.errors import ModelError, SettingError
from tunesmith.plan.forecast import Forecast
from tunesmith.plan.setup import Setup

Look = Callable[[Setup], Forecast]


STRENGTHS: tuple[bool | str, ...] = (False, "selective", True)  # of checkpointing, each with less memory and more time


@dataclass(frozen=True)
class Proposal:
    """A setup, what it changes in words, its forecast, and the time of a token against the setup it started from.

    notch  one step back towards the wish, which no longer fits give or take the forecast's error; None where the wish itself fits
    """

    setup: Setup
    changes: tuple[str, ...]
    forecast: Forecast
    slower: float | None = None
    notch: Setup | None = None

    @property
    def price(self) -> tuple[str, ...]:
        """What the changes cost besides time, in words; () for those that change no result and wait for no disk."""
        told = {
            "base=streamed": "each pass reads the matrices of the base from their file; the disk's time is not in the factor",
            "train.offload=disk": "each pass writes its activations to a scratch file and reads them; the disk's time is not in the factor",
            "train.offload_states=disk": "each update reads the optimiser's states from a scratch file and writes them; the disk's time is not in the factor",
            "base=int8": "the weights of the base are rounded to eight bits",
            "adapter=qlora": "the weights of the base are rounded to four bits",
            "train.states=8bit": "the optimiser's averages are rounded to 256 values",
        }  # fmt: skip
        return tuple(told[change] for change in self.changes if change in told)


def passes(setup: Setup, least: int) -> Iterator[int]:
    """Tokens a pass, from the setup's own downwards by halves to one Unit. Updates within the backward pass want all in one pass."""
    if setup.update_in_backward:
        yield max(setup.pass_tokens, setup.batch_size * least)
        return
    tokens = max(setup.pass_tokens, least)
    while tokens > least:
        yield tokens
        tokens = max(least, tokens // 2)
    yield least


def largest(setup: Setup, look: Look, least: int) -> tuple[Setup, Forecast, Setup | None] | None:
    """The setup with most tokens a pass that fits, its forecast, and the next larger one; None when not one Unit fits."""
    tried = [replace(setup, pass_tokens=tokens) for tokens in passes(setup, least)]
    if (wished := look(tried[0])).fits:
        return tried[0], wished, None
    if not (last := look(tried[-1])).fits:
        return None
    low, high = 1, len(tried) - 1  # tried[high:] fit, tried[:low] do not; the search halves between
    found: dict[int, Forecast] = {high: last}
    while low < high:
        middle = (low + high) // 2
        seen = found[middle] = look(tried[middle])
        if seen.fits:
            high = middle
        else:
            low = middle + 1
    return tried[high], found[high], tried[high - 1] if high else None


def speed(forecast: Forecast) -> float:
    """Seconds of a token, or its operations where no rate is known: to compare setups on one device."""
    rate = forecast.tokens_per_second(max(forecast.tokens, forecast.setup.batch_size * forecast.setup.length))
    return 1.0 / rate if rate else forecast.flops_per_token


def into(
    setup: Setup,
    look: Look,
    *,
    unit_tokens: Callable[[int], int],
    precisions: Sequence[str] = ("bf16",),
    adapters: Sequence[Any] = ("lora", "qlora"),
    shortest: int = 64,
    allowed: Callable[[Setup], bool] = lambda setup: True,
) -> Proposal | None:
    """The first of these that fits, cheapest in time among equals: fewer tokens a pass, checkpointing, shorter number formats, an
    adapter, a base in fewer bits, the disk, shorter rows; without those changes that it can do without. None when nothing does.

    unit_tokens  length -> tokens of a Unit with rows of that length (a pair is two)
    allowed      whether a run would take a setup: others are left out
    """
    wished = look(setup)
    if wished.fits:
        return Proposal(setup, (), wished, 1.0)
    for base in _meanings(setup, precisions, adapters, shortest):
        best: Proposal | None = None
        for checkpointing in STRENGTHS[STRENGTHS.index(setup.checkpointing) :]:
            tried = replace(base, checkpointing=checkpointing)
            fitting = largest(tried, look, unit_tokens(base.length)) if allowed(tried) else None
            if fitting is None:
                continue
            chosen, seen, notch = fitting
            offered = Proposal(chosen, changes(setup, chosen), seen, speed(seen) / speed(wished), notch)
            if best is None or speed(seen) < speed(best.forecast):
                best = offered
        if best is not None:
            return _least(setup, best, look, wished, allowed, unit_tokens)
    return None


UNDONE = ("offload", "base", "adapter", "offload_states", "states", "update_in_backward", "precision")


def _least(
    setup: Setup,
    found: Proposal,
    look: Look,
    wished: Forecast,
    allowed: Callable[[Setup], bool],
    unit_tokens: Callable[[int], int],
) -> Proposal:
    """The proposal without the changes that it can do without, and with a notch: what is first not to be undone."""
    chosen, notch = found.setup, found.notch
    for name in UNDONE:
        tried = replace(chosen, **{name: getattr(setup, name)})
        if tried == chosen or not allowed(tried):
            continue
        if look(tried).fits:
            chosen, notch = tried, None
    if notch is None:
        notch = next(
            (one for one in _steps_back(setup, chosen, unit_tokens) if allowed(one) and not look(one).fits), None
        )
    if chosen == found.setup:
        return replace(found, notch=notch)
    seen = look(chosen)
    return Proposal(chosen, changes(setup, chosen), seen, speed(seen) / speed(wished), notch)


def _steps_back(setup: Setup, chosen: Setup, unit_tokens: Callable[[int], int]) -> Iterator[Setup]:
    """One step from `chosen` towards the wish, each way: more tokens a pass, less checkpointing, longer rows, one change undone."""
    if chosen.pass_tokens < setup.pass_tokens:
        yield replace(chosen, pass_tokens=min(setup.pass_tokens, 2 * chosen.pass_tokens))
    if chosen.checkpointing != setup.checkpointing:
        yield replace(chosen, checkpointing=STRENGTHS[STRENGTHS.index(chosen.checkpointing) - 1])
    if chosen.length < setup.length:
        longer = min(setup.length, 2 * chosen.length)
        yield replace(chosen, length=longer, pass_tokens=max(chosen.pass_tokens, unit_tokens(longer)))
    for name in reversed(UNDONE):
        if getattr(chosen, name) != getattr(setup, name):
            yield replace(chosen, **{name: getattr(setup, name)})


def _meanings(setup: Setup, precisions: Sequence[str], adapters: Sequence[Any], shortest: int) -> Iterator[Setup]:
    """The setup, then with shorter number formats, with each adapter over ever fewer bits, with what waits on the disk, then all of
    that with rows half as long, ..."""
    beside = next((a for a in (setup.adapter, *adapters) if _name(a) not in ("full", "qlora")), setup.adapter)
    length = setup.length
    while length >= shortest:
        base = replace(setup, length=length)
        low = [replace(base, precision=p) for p in precisions if setup.precision == "fp32"]
        least = (low or [base])[-1]
        yield base
        if not base.update_in_backward:
            yield replace(base, update_in_backward=True)
        yield from low
        if base.states == "fp32":
            yield replace(least, states="8bit")
        for adapter in adapters:
            if _name(adapter) == "qlora" and not base.base:
                yield replace(least, adapter=beside, base="int8")
            if adapter != setup.adapter and not (setup.adapter_name != "full" and adapter == "lora"):
                yield replace(least, adapter=adapter)
        if base.offload_states == "none" and setup.adapter_name == "full":
            yield replace(least, offload_states="disk")
        if not base.base:
            yield replace(least, adapter=beside, base="streamed")
        if base.offload == "none":
            yield replace(least, adapter=beside, offload="disk")
            if not base.base:
                yield replace(least, adapter=beside, base="streamed", offload="disk")
        length //= 2


def _name(adapter: Any) -> str:
    return adapter if isinstance(adapter, str) else str(next(iter(adapter)))


def changes(old: Setup, new: Setup) -> tuple[str, ...]:
    """What differs, as settings to type."""
    names = {
        "pass_tokens": "train.pass_tokens", "checkpointing": "train.checkpointing", "precision": "train.precision",
        "adapter": "adapter", "length": "length", "base": "base", "states": "train.states",
        "update_in_backward": "train.update_in_backward", "offload": "train.offload",
        "offload_states": "train.offload_states",
    }  # fmt: skip
    said = []
    for name, key in names.items():
        value = getattr(new, name)
        if value != getattr(old, name):
            said.append(f"{key}={str(value).lower() if isinstance(value, bool) else value}")
    return tuple(said)


def methods(
    setup: Setup, look: Look, *, unit_tokens: Callable[[int], int], adapters: Sequence[Any], precision: str
) -> tuple[list[Proposal], dict[str, str]]:
    """(every adapter that fits, with the most tokens a pass and without checkpointing where that fits, cheapest first; those whose step
    is refused, with why)."""
    found, refused = [], {}
    least = unit_tokens(setup.length)
    for adapter in adapters:
        tried = replace(setup, adapter=adapter, precision=precision, checkpointing=False)
        try:
            fitting = _mildest(tried, look, least)
        except (SettingError, ModelError) as error:
            refused[tried.adapter_name] = error.found
            continue
        if fitting is not None:
            chosen, seen, notch = fitting
            found.append(Proposal(chosen, changes(setup, chosen), seen, None, notch))
    found.sort(key=lambda each: speed(each.forecast))
    first = speed(found[0].forecast) if found else 1.0
    return [replace(each, slower=speed(each.forecast) / first) for each in found], refused


def _mildest(setup: Setup, look: Look, least: int) -> tuple[Setup, Forecast, Setup | None] | None:
    """`largest` under the mildest checkpointing that fits; None when the leanest of all does not. An adapter under which nothing can be
    recomputed is looked at without."""
    strengths = STRENGTHS
    if not look(setup).fits:
        *_, fewest = passes(setup, least)
        try:
            if not look(replace(setup, checkpointing=True, pass_tokens=fewest)).fits:
                return None
        except (SettingError, ModelError):
            strengths = STRENGTHS[:1]
    each = (largest(replace(setup, checkpointing=strength), look, least) for strength in strengths)
    return next((found for found in each if found is not None), None)
