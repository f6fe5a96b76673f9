"""One training step's gradients: a list of Units in, sums and gradients out. The only place where losses are divided.

    stats = backward(policy, objective, units, pass_tokens=4096)    # parameters' .grad now hold the whole step's gradient

The weight of every term is known from the Units before any forward pass, summed over the whole step and over all ranks.
So accumulation, packing, micro-batches and ranks cannot change a gradient, whatever the method.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from operator import mul
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

from tunesmith.core.errors import TrainingError
from tunesmith.core.heap import ease
from tunesmith.model.virtual import hidden_places, virtual_ids
from tunesmith.step.helpers import Helpers
from tunesmith.step.out_of_memory import told_to_all
from tunesmith.step.ranks import added, gathered, most, rank, ranks
from tunesmith.text.example import Unit


@dataclass(frozen=True)
class StepStats:
    """What a step did, over all ranks. figures: {name: mean}; counts of Units, tokens read and tokens trained on."""

    loss: float
    figures: Mapping[str, float]
    num_units: int
    num_tokens: int
    num_trained: int
    num_passes: int
    unit_losses: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.float32), repr=False)
    """loss of each Unit, its own where the method has one, else the mean over its tokens, in the order given; empty when not asked for"""


@dataclass(frozen=True)
class Measured:
    """What an objective says of Units without gradients: {figure: (sum, count)}, and of its loss {term: (sum, weight)}."""

    figures: dict[str, tuple[float, float]]
    terms: dict[str, tuple[float, float]]
    unit_losses: np.ndarray = field(repr=False)
    """loss of each Unit, its own where the method has one, else the mean over its tokens; nan where there is neither"""

    @staticmethod
    def whole(parts: Iterable["Measured"]) -> "Measured":
        """All Units together."""
        found = list(parts)
        figures, terms = (_summed([getattr(one, name) for one in found]) for name in ("figures", "terms"))
        return Measured(figures, terms, np.concatenate([one.unit_losses for one in found]))

    @property
    def loss(self) -> float:
        """The loss that training makes small: each term divided once, by the weight of all Units."""
        return sum(value / weight for value, weight in self.terms.values() if weight)


def _summed(parts: Sequence[Mapping[str, tuple[float, float]]]) -> dict[str, tuple[float, float]]:
    totals: dict[str, tuple[float, float]] = {}
    for one in parts:
        for name, (value, count) in one.items():
            old = totals.get(name, (0.0, 0.0))
            totals[name] = (old[0] + value, old[1] + count)
    return totals


def term_weights(objective: Any, units: Sequence[Unit]) -> dict[str, float]:
    """What each term of the loss is divided by, over all ranks: tokens | examples | units | a column's sum."""
    weights = _own_weights(objective, units)
    totals = added(torch.tensor(list(weights.values()), dtype=torch.float64))
    return dict(zip(weights, totals.tolist()))


def _own_weights(objective: Any, units: Sequence[Unit]) -> dict[str, float]:
    """Those of this rank's Units, from the Units alone."""
    weights = {}
    for term, per in objective.per.items():
        if per == "tokens":
            total = sum(float(example.weights.sum()) for unit in units for example in unit.examples)
        elif per == "examples":
            total = float(sum(len(unit.examples) for unit in units))
        elif per == "units":
            total = float(len(units))
        else:
            total = sum(float(np.sum(example.columns[per])) for unit in units for example in unit.examples)
        weights[term] = total
    return weights


def passes_of(policy: Any, units: Sequence[Unit], pass_tokens: int | None) -> list[list[int]]:
    """Indices of the Units of each forward pass of this policy: see `cut`."""
    return cut(units, pass_tokens, padded=policy.layout == "padded", virtual=_virtual(policy))


def pass_bounds(policy: Any, units: Sequence[Unit]) -> tuple[int, int]:
    """Tokens in memory, as `cut` counts them, of the largest Unit alone and of all in one pass; the most of any rank: all have to ask."""
    sizes, longest = _sizes(units, _virtual(policy))
    least, whole = max(sizes), sum(sizes)
    if policy.layout == "padded":
        rows = [len(unit.examples) for unit in units]
        least, whole = max(map(mul, rows, longest)), sum(rows) * max(longest)
    return int(most(least)), int(most(whole))


def _virtual(policy: Any) -> int:
    return len(virtual_ids(policy.net)) + hidden_places(policy.net)


def cut(units: Sequence[Unit], pass_tokens: int | None, *, padded: bool = False, virtual: int = 0) -> list[list[int]]:
    """Indices of the Units of each forward pass: in order when packed, by length when padded.

    A pass holds at most `pass_tokens` tokens in memory (padding counted), but always at least one Unit; of as few passes as that
    takes, the largest is as small as it can be.
    virtual  places that an adapter puts before every text (a soft prompt, a trained prefix)
    """
    sizes, longest = _sizes(units, virtual)
    if pass_tokens is None:
        return [sorted(range(len(units)), key=lambda i: (longest[i], sizes[i]))]
    order = sorted(range(len(units)), key=lambda i: -longest[i]) if padded else list(range(len(units)))

    def filled(most: int) -> list[list[int]]:
        passes: list[list[int]] = []
        held = rows = top = 0
        for i in order:
            rows_then, top_then = rows + len(units[i].examples), max(top, longest[i])
            size = rows_then * top_then if padded else held + sizes[i]
            if passes and size <= most:
                passes[-1].append(i)
                held, rows, top = held + sizes[i], rows_then, top_then
            else:
                passes.append([i])
                held, rows, top = sizes[i], len(units[i].examples), longest[i]
        return passes

    passes = filled(pass_tokens)
    low, high = 1, pass_tokens  # as many passes, the largest of them as small as can be
    while len(passes) > 1 and low < high:
        middle = (low + high) // 2
        if len(tried := filled(middle)) <= len(passes):
            high, passes = middle, tried
        else:
            low = middle + 1
    # attention groups documents of like length by itself; this order is only the one in which a rerun adds its sums again
    return [sorted(chosen, key=lambda i: (longest[i], sizes[i])) for chosen in passes]


def _sizes(units: Sequence[Unit], virtual: int) -> tuple[list[int], list[int]]:
    """Of each Unit the tokens of all its Examples, and of the longest."""
    # before a shared prompt virtual places lie once, as it does
    sizes = [u.num_tokens + virtual * (1 if u.shared_prompt else len(u.examples)) for u in units]
    return sizes, [max(len(example) for example in unit.examples) + virtual for unit in units]


def backward(
    policy: Any,
    objective: Any,
    units: Sequence[Unit],
    *,
    pass_tokens: int | None = None,
    helpers: Helpers | None = None,
    scale: float = 1.0,
    keep_unit_losses: bool = False,
    idle: Unit | None = None,
    several: Callable[[], object] | None = None,
    passed: Callable[[], object] | None = None,
    redone: bool = False,
) -> StepStats:
    """Add the gradient of the whole step to the parameters' .grad and return what was seen.

    idle  a Unit for a rank that got none of this step's: it goes through with weight 0, so that all ranks do the same
    several  called before the first of several passes
    passed  called after each pass, when ranks meet in each: one with fewer passes repeats its last with weight 0
    redone  memory that runs out on one rank is told to all, to do the step again; impossible where ranks meet within passes
    Raises TrainingError when no token of the step is trained on.
    """
    weights = term_weights(objective, units)
    if not any(weights.values()):
        origins = ", ".join(unit.origin for unit in units[:3])
        raise TrainingError(
            f"no token of this step is trained on ({len(units)} Units; first: {origins})",
            fix="tunesmith data --show 3 colours what is trained on.",
        )
    sums: dict[str, list[torch.Tensor]] = {}
    losses: list[torch.Tensor] = []
    of_units: list[torch.Tensor] = []
    helpers = Helpers() if helpers is None else helpers
    passes = passes_of(policy, units, pass_tokens)
    units_of_pass = units
    if not units and idle is not None:
        units_of_pass, passes = [_weightless(idle)], [[0]]
    extra = 0 if passed is None else int(most(len(passes))) - len(passes)
    if hasattr(objective, "shared"):
        batches = (policy.batch([units_of_pass[i] for i in chosen]) for chosen in passes)
        look_once(policy, objective, batches, helpers, again=extra, redone=redone)
    with told_to_all(redone):
        if several is not None and len(passes) > 1:
            several()
        for batch in _batches(policy, units_of_pass, passes, helpers):
            total, out = _gradient(policy, objective, batch, weights, helpers, scale)
            if passed is not None:
                passed()
            losses.append(total)
            for name, (value, count) in out.stats.items():
                count = torch.as_tensor(count, device=value.device)  # a plain number lies on no card
                pair = torch.stack([value.detach().double(), count.detach().double()])
                sums.setdefault(name, []).append(pair)
            if keep_unit_losses and units:
                # stays where it is: a card goes on while the next pass is packed
                of_units.append(_of_units(batch, out))
        for _ in range(extra):
            out = objective.loss(policy, policy.batch([units_of_pass[i] for i in passes[-1]]), helpers)
            (torch.stack(list(out.terms.values())).sum() * 0.0).backward()
            passed()  # type: ignore[misc]
    figures = {}
    for name, pairs in sums.items():
        value, count = added(torch.stack(pairs).sum(0))
        figures[name] = float(value / count) if count else 0.0
    counts = [len(units), sum(u.num_tokens for u in units), sum(e.num_trained for u in units for e in u.examples)]
    own = [float(torch.stack(losses).double().sum()), *counts]
    loss, num_units, num_tokens, num_trained = added(torch.tensor(own, dtype=torch.float64)).tolist()
    return StepStats(
        loss=loss,
        figures=figures,
        num_units=int(num_units),
        num_tokens=int(num_tokens),
        num_trained=int(num_trained),
        num_passes=len(passes),
        unit_losses=_in_order(passes, of_units, len(units) if keep_unit_losses else 0),
    )


def _batches(policy: Any, units: Sequence[Unit], passes: Sequence[Sequence[int]], helpers: Helpers) -> Iterator[Any]:
    """The batch of each pass, made when its turn comes; `helpers.place` then says where its rows lie among those of all passes."""
    for number, chosen in enumerate(passes):
        ease()
        helpers.place = helpers.places[number] if helpers.places else None
        yield policy.batch([units[i] for i in chosen])


def _gradient(
    policy: Any, objective: Any, batch: Any, weights: Mapping[str, float], helpers: Helpers, scale: float
) -> tuple[torch.Tensor, Any]:
    """Forward and backward over one batch: (what it adds to the step's loss, what the objective gave).

    A function of its own: where memory runs out, what it holds goes with it.
    """
    out = objective.loss(policy, batch, helpers)
    total = torch.stack([value / weights[term] for term, value in out.terms.items() if weights[term]]).sum()
    (total * scale if scale != 1.0 else total).backward()
    return total.detach(), out


def look_once(
    policy: Any,
    objective: Any,
    batches: Iterable[Any],
    helpers: Any,
    *,
    again: int = 0,
    alone: bool = False,
    redone: bool = False,
) -> None:
    """The objective's first pass over the whole step, without gradient: sums over passes and ranks, then their means.

    What it gives as one tensor instead of (sum, count) is put together, row under row, over all passes and ranks.
    again  how often the last batch is looked at once more and forgotten: ranks with more passes are still at it
    alone  the batches are all there is: other ranks look at the same ones, and have nothing to add
    redone  as in `backward`
    """
    if helpers.still:
        return
    sums: dict[str, torch.Tensor] = {}
    rows: dict[str, list[torch.Tensor]] = {}
    with torch.no_grad(), told_to_all(redone):
        for batch in batches:
            for name, found in objective.shared(policy, batch, helpers).items():
                if torch.is_tensor(found):
                    rows.setdefault(name, []).append(found)
                    continue
                value, count = found
                pair = torch.stack([value.double(), torch.as_tensor(count, device=value.device).double()])
                sums[name] = sums[name] + pair if name in sums else pair
        for _ in range(again):
            objective.shared(policy, batch, helpers)
    pairs = {name: pair if alone else added(pair) for name, pair in sums.items()}
    helpers.shared = {name: (pair[0] / pair[1].clamp_min(1e-12)).float() for name, pair in pairs.items()}
    for name, parts in rows.items():
        helpers.shared[name], helpers.places = _put_together(parts, alone)


def _put_together(parts: Sequence[torch.Tensor], alone: bool) -> tuple[torch.Tensor, list[slice]]:
    """(the rows of all passes of all ranks, or of this one alone; where those of each own pass lie)."""
    whole, start = torch.cat(list(parts)), 0
    if ranks() > 1 and not alone:
        of_ranks = gathered(whole.cpu())
        start = sum(len(rows) for rows in of_ranks[: rank()])
        whole = torch.cat(of_ranks).to(whole.device)
    ends = np.cumsum([start, *(len(part) for part in parts)]).tolist()
    return whole, [slice(*bounds) for bounds in pairwise(ends)]


def _weightless(unit: Unit) -> Unit:
    """The same Unit with nothing trained on."""
    return replace(unit, examples=tuple(replace(e, weights=np.zeros_like(e.weights)) for e in unit.examples))


@torch.no_grad()
def measure(
    policy: Any,
    objective: Any,
    units: Sequence[Unit],
    *,
    pass_tokens: int | None = None,
    helpers: Any = None,
    redone: bool = False,
) -> Measured:
    """Sums and counts of an objective's figures and loss without gradients, and the mean loss of each Unit.

    Sums are streamed, logits never kept, so the result does not depend on how many Units go through at a time. Where there are
    several ranks each measures all of `units`.
    redone  as in `backward`, of ranks that all measure at once
    """
    seen: list[dict[str, tuple[float, float]]] = []
    terms: list[dict[str, tuple[float, float]]] = [
        {name: (0.0, n) for name, n in _own_weights(objective, units).items()}
    ]
    of_units: list[torch.Tensor] = []
    helpers = Helpers() if helpers is None else helpers
    passes = passes_of(policy, units, pass_tokens)
    if hasattr(objective, "shared"):
        batches = (policy.batch([units[i] for i in chosen]) for chosen in passes)
        look_once(policy, objective, batches, helpers, alone=True, redone=redone)
    with told_to_all(redone):
        for batch in _batches(policy, units, passes, helpers):
            out = objective.loss(policy, batch, helpers)
            seen.append({name: (float(value), float(count)) for name, (value, count) in out.stats.items()})
            terms.append({name: (float(value), 0.0) for name, value in out.terms.items()})
            of_units.append(_of_units(batch, out))
    return Measured(_summed(seen), _summed(terms), _in_order(passes, of_units, len(units)))


BUCKET = 1 << 20
"""Elements of gradients that travel together at most: a message each would cost small ones more than their bytes."""


def reduce_gradients(parameters: Sequence[torch.Tensor]) -> None:
    """Add (never average) gradients over all ranks: every term is already divided by the global weight."""
    if ranks() == 1:
        return
    for parameter in parameters:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    for bucket in _buckets([parameter.grad for parameter in parameters if parameter.grad is not None]):
        if len(bucket) == 1:
            dist.all_reduce(bucket[0])
            continue
        together = torch.cat([gradient.flatten() for gradient in bucket])
        dist.all_reduce(together)
        for gradient, part in zip(bucket, together.split([gradient.numel() for gradient in bucket])):
            gradient.copy_(part.view_as(gradient))


def _buckets(gradients: Sequence[torch.Tensor]) -> Iterator[list[torch.Tensor]]:
    """Neighbours of one format and device, `BUCKET` elements together at most; a larger one is alone."""
    held: list[torch.Tensor] = []
    for gradient in gradients:
        alike = not held or (gradient.dtype, gradient.device) == (held[0].dtype, held[0].device)
        if held and (not alike or sum(one.numel() for one in held) + gradient.numel() > BUCKET):
            yield held
            held = []
        held.append(gradient)
    if held:
        yield held


def _of_units(batch: Any, out: Any) -> torch.Tensor:
    """The loss of each Unit, (units,): the method's own, else the weighted mean of -log p over its tokens, else NaN."""
    if out.per_unit is not None:
        return out.per_unit.detach().float()
    if out.per_target is None:
        return torch.full((batch.num_units,), torch.nan)
    return batch.per_unit(-out.per_target.detach()).float()


def _in_order(passes: Sequence[Sequence[int]], of_units: Sequence[torch.Tensor], number: int) -> np.ndarray:
    """What was kept of each pass, at the places of its Units: float32 (number,)."""
    found = np.full(number, np.nan, dtype=np.float32)
    for chosen, values in zip(passes, of_units):
        found[chosen] = values.cpu().numpy()
    return found
