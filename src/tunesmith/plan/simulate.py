"""One training step on fake tensors: the real model class, adapter, objective, loss and optimiser, without their numbers.

    seen = simulate(make_policy, Sft(), units, make_optimizer=make, pass_tokens=4096)
    seen.peak.bytes, seen.peak.kinds, seen.peak.op, seen.flops

Nothing is approximated here: the code that trains is the code that runs. What a device adds on top is in devices.py.
"""

import gc
import sys
from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from tunesmith.model.packed import kind_of, num_weights
from tunesmith.model.products import left_to_torch
from tunesmith.plan.shards import Groups, groups
from tunesmith.plan.track import Log, Peak, Tracker, highest
from tunesmith.step.helpers import Helpers
from tunesmith.step.step import backward, cut, look_once, passes_of
from tunesmith.text.example import Unit

PHASES = ("forward", "backward begins", "backward ends", "update")
AFTER = ("evaluation", "save", "result")
WHOLE = ("weights", "masters", "gradients", "optimizer")  # what several processes can cut among them


@dataclass(frozen=True, eq=False)
class Simulation:
    """What a step needs. Bytes as an allocator without rounding counts them.

    peak         the highest moment of the steady state: optimiser states are there from the start
    weights      bytes of parameters and buffers; held what lives between steps (weights, masters, states)
    largest      numbers of the largest weight that learns;  loaded  bytes of the network before it is cast for training; packing: int8, nf4 or streamed, where its base is held so
    phases       the highest moments of the forward passes, of both halves of the backward passes, and of the update
    after        those of what comes between steps and at the end, AFTER: a pass of an evaluation, where there is one; what a checkpoint is
                 made of; the network put back into fp32 for the result
    rest         of `phases` and `after` the highest moments of all but weights, masters, gradients and states (WHOLE)
    groups       what the weights are cut into over ranks;  accumulated  gradients of earlier passes are held from the start
    work         calls by (passes or update, number format, floating-point operations, bytes moved); see rates.py
    """

    peak: Peak
    phases: dict[str, int]
    weights: int
    held: int
    trainable: int
    largest: int
    parameters: int
    work: dict[tuple[str, str, int, int], int]
    num_passes: int
    num_tokens: int
    num_ops: int
    log: Log | None
    after: dict[str, int]
    rest: dict[str, int]
    groups: Groups
    accumulated: bool
    loaded: int = 0
    packing: str = ""

    @property
    def flops(self) -> int:
        """Floating-point operations of the step."""
        return sum(each * times for (_, _, each, _), times in self.work.items())


def simulate(
    make_policy: Callable[[], Any],
    objective: Any,
    units: Sequence[Unit],
    *,
    make_optimizer: Callable[[Any], Any],
    pass_tokens: int | None = None,
    make_helpers: Callable[[Any], Any] | None = None,
    clip: float | None = 1.0,
    device: str = "cpu",
    accumulated: bool = False,
    around: Callable[[Any], AbstractContextManager[None]] = nullcontext,
    make_others: Callable[[], Sequence[Any]] = tuple,
    evaluated: Sequence[Unit] = (),
) -> Simulation:
    """Run one step over `units` on fake tensors.

    make_policy     () -> Policy, adapter attached, called under fake tensors: it may draw weights, none is kept
    make_optimizer  net -> train.optim.Optimizer; it may cast the network first, as training does
    make_helpers    policy -> step.helpers.Helpers of the objective (a frozen start, a teacher), or None
    device          "cpu" or "cuda": whose kernels
    around          net -> what the passes run within: activations that wait elsewhere (train/offload.py)
    make_others     () -> networks that are held beside the step and take no part in it (reward models)
    accumulated     gradients of earlier passes of the step are held already; see `heaviest`
    evaluated       the Units of an evaluation's largest pass, () = there is none
    """
    _forget()
    try:
        with FakeTensorMode(allow_non_fake_inputs=True), nullcontext() if device == "cpu" else left_to_torch():
            return _simulate(
                make_policy,
                objective,
                units,
                make_optimizer,
                pass_tokens,
                make_helpers,
                clip,
                device,
                accumulated,
                around,
                make_others,
                evaluated,
            )
    finally:
        _forget()


def looked_at(make_policy: Callable[[], Any], look: Callable[[Any], Any]) -> Any:
    """look(policy) of a policy on fake tensors, before any step: what can be said of it without running it."""
    _forget()
    try:
        with FakeTensorMode(allow_non_fake_inputs=True), Tracker():
            return look(make_policy())
    finally:
        _forget()


def _forget() -> None:
    """Empty the caches in which modules keep masks and tables: fake tensors must not meet real ones."""
    rooms = ("tunesmith.model.", "tunesmith.adapters.", "tunesmith.objectives.")
    for name, module in list(sys.modules.items()):
        if name.startswith(rooms) and not name.endswith(".varlen"):  # what a card has proved stays proved
            for value in list(vars(module).values()):
                if hasattr(value, "cache_clear"):
                    value.cache_clear()


def _simulate(
    make_policy: Callable[[], Any],
    objective: Any,
    units: Sequence[Unit],
    make_optimizer: Callable[[Any], Any],
    pass_tokens: int | None,
    make_helpers: Callable[[Any], Any] | None,
    clip: float | None,
    device: str,
    accumulated: bool,
    around: Callable[[Any], AbstractContextManager[None]],
    make_others: Callable[[], Sequence[Any]],
    evaluated: Sequence[Unit],
) -> Simulation:
    with Tracker():  # it answers what is read out of tensors; what is made here is counted below
        policy = make_policy()
        net = policy.net.train()
        loaded = {t.untyped_storage()._cdata: t.untyped_storage().nbytes() for t in (*net.parameters(), *net.buffers())}
        helpers = make_helpers(policy) if make_helpers else None  # before the cast, as a run makes them
        others = make_others()
        optimizer = make_optimizer(net)
    gc.collect()
    tracker = Tracker({id(module): name for name, module in net.named_modules() if name}, device)
    parameters = list(net.parameters())
    tracker.hold([*parameters, *net.buffers()], "weights")
    tracker.hold([m for m, p in zip(optimizer.masters, optimizer.parameters) if m is not p], "masters")
    beside = [
        helper.net
        for helper in (getattr(helpers, "live", None), getattr(helpers, "teacher", None))
        if helper is not None
    ]
    for other in (*beside, *others):
        tracker.hold([*other.parameters(), *other.buffers()], "helpers")
    weights = tracker.live
    with tracker:
        _first_update(optimizer, tracker, clip)
        tracker.restart()
        tracker.work.clear()
        tracker.num_ops = 0
        held = tracker.live
        if accumulated:
            optimizer.reserve()
        tracker.hold(_gradients(optimizer), "gradients")
        tracker.at("step")
        optimizer.begin(1e-3)
        with around(net):
            backward(policy, objective, units, pass_tokens=pass_tokens, helpers=helpers)
        tracker.hold(_gradients(optimizer), "gradients")
        tracker.at("update")
        tracker.updating = True
        optimizer.step(lr=1e-3, clip=clip)
        tracker.updating = False
        tracker.at("end")
        peak, work, num_ops = tracker.peak("step"), dict(tracker.work), tracker.num_ops
        if evaluated:
            _evaluate(policy, objective, evaluated, helpers)
        tracker.at("evaluated")
        between = tracker.live
        if not optimizer.pages:  # those are read from where they wait
            optimizer.state()
        tracker.at("saved")
        optimizer.lift(net)
        tracker.at("lifted")
    tops, rest = _tops(tracker.log), _tops(tracker.log, WHOLE)
    after = {"save": held + tops["save"] - between, "result": tops["result"]}
    return Simulation(
        peak=peak,
        phases={name: tops[name] for name in PHASES},
        weights=weights,
        held=held,
        trainable=sum(p.numel() for p in optimizer.parameters),
        largest=max((p.numel() for p in optimizer.parameters), default=0),
        parameters=num_weights(net),
        work=work,
        num_passes=len(passes_of(policy, units, pass_tokens)),
        num_tokens=sum(unit.num_tokens for unit in units),
        num_ops=num_ops,
        log=tracker.log,
        after=after | ({"evaluation": tops["evaluation"]} if evaluated else {}),
        rest=rest,
        groups=groups(net),
        accumulated=accumulated,
        loaded=sum(loaded.values()),
        packing=kind_of(net),
    )


@torch.no_grad()
def _evaluate(policy: Any, objective: Any, units: Sequence[Unit], helpers: Helpers | None) -> None:
    """A pass of an evaluation: what step.measure makes, up to the numbers that it reads out."""
    policy.net.eval()
    helpers, batch = helpers or Helpers(), policy.batch(units)
    if hasattr(objective, "shared"):
        look_once(policy, objective, [batch], helpers)
    out = objective.loss(policy, batch, helpers)
    if out.per_unit is None and out.per_target is not None:
        batch.per_unit(-out.per_target)


def _first_update(optimizer: Any, tracker: Tracker, clip: float | None) -> None:
    """An update over zero gradients makes the optimiser's states: from the second step on they are there."""
    tracker.updating = True
    for master in optimizer.masters:
        master.grad = torch.zeros_like(master)
    optimizer.step(lr=1e-3, clip=clip)
    states = [v for inner in optimizer.inner for s in inner.state.values() for v in s.values() if torch.is_tensor(v)]
    tracker.hold(states, "optimizer")
    tracker.updating = False


def _gradients(optimizer: Any) -> list[torch.Tensor]:
    return [m.grad for m in optimizer.masters if m.grad is not None]


def _tops(log: Log, without: Collection[str] = ()) -> dict[str, int]:
    """The highest moment of each of PHASES and AFTER, storages of the kinds `without` left out."""
    begin, update, *others = (log.marks[name] for name in ("step", "update", "end", "evaluated", "saved", "lifted"))
    turns = [i for i, (number, sign) in enumerate(log.events[begin:update], begin) if sign > 0 and _back(log, number)]
    turn = turns[0] if turns else update
    found = highest(log, [begin, turn, (turn + update) // 2, update, *others], without)
    return dict(zip((*PHASES, *AFTER), found))


def _back(log: Log, number: int) -> bool:
    return log.storages[number].phase == "backward"


def heaviest(units: Sequence[Unit], pass_tokens: int | None, *, padded: bool = False) -> tuple[list[Unit], bool]:
    """The Units of the largest pass among those a step of `units` is cut into, and whether there are more passes: then the
    gradients of an earlier one are held meanwhile (`accumulated`)."""
    passes = cut(units, pass_tokens, padded=padded)
    chosen = max(passes, key=lambda some: tokens_of([units[i] for i in some], padded=padded))
    return [units[i] for i in chosen], len(passes) > 1


def tokens_of(units: Sequence[Unit], *, padded: bool) -> int:
    """Tokens of a pass, padding counted."""
    if not padded:
        return sum(unit.num_tokens for unit in units)
    examples = [example for unit in units for example in unit.examples]
    return len(examples) * max(len(example) for example in examples)
