"""check_objective: does a method keep what the loop relies on?

>>> check_objective(Sft())
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from tunesmith.adapters.store import attach
from tunesmith.core.errors import SettingError
from tunesmith.core.shelf import shelf
from tunesmith.model.generate import generate
from tunesmith.model.load import Model, load
from tunesmith.model.policy import Policy
from tunesmith.model.value_head import add_value_head
from tunesmith.objectives._contract import network
from tunesmith.step.helpers import Helpers, frozen
from tunesmith.step.step import backward, measure
from tunesmith.testing.items import check_item, holds
from tunesmith.text.draw import Draw
from tunesmith.text.encode import Text
from tunesmith.text.example import Example, Unit
from tunesmith.train.feed import units_from_tensors, units_to_tensors

BASES = {"masked": "pico-encoder", "seq2seq": "pico-t5"}  # the tiny network of a kind, where pico cannot be it
QUESTIONS = (
    ("1+1?", "2"),
    ("Capital of Korea?", "Seoul, a city of nine million people."),
    ("부산은 어디에 있나요?", "남동쪽 바닷가에 있습니다."),
    ("Say yes.", "yes"),
    ("Count.", "one two three four five six seven"),
)


def _asked(number: int) -> list[dict[str, str]]:
    return [{"role": "user", "content": QUESTIONS[number][0]}]


def _said(words: str) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": words}]


def _rows(make: Callable[[int, str, str], dict[str, Any]]) -> tuple[dict[str, Any], ...]:
    """Five rows of a kind; the next question's answer is the worse one."""
    last = len(QUESTIONS) - 1
    return tuple(
        {**make(n, answer, QUESTIONS[n - 1 if n else last][1]), "origin": f"rows.jsonl:{n + 1}", "id": f"{n:016x}"}
        for n, (_, answer) in enumerate(QUESTIONS)
    )


ROWS: dict[str, tuple[dict[str, Any], ...]] = {
    "chat": _rows(lambda n, good, bad: {"messages": [*_asked(n), *_said(good)]}),
    "text": _rows(lambda n, good, bad: {"text": f"{QUESTIONS[n][0]} {good}"}),
    "text+label": _rows(
        lambda n, good, bad: {"text": QUESTIONS[n][0], "label": ("long" if len(good) > 9 else "short")}
    ),
    "preference": _rows(lambda n, good, bad: {"messages": _asked(n), "chosen": _said(good), "rejected": _said(bad)}),
    "rated": _rows(
        lambda n, good, bad: {"messages": [*_asked(n), *_said(good if n % 2 else bad)], "label": bool(n % 2)}
    ),
    "scored": _rows(
        lambda n, good, bad: {
            "messages": _asked(n),
            "answers": [{"content": good, "score": 1.0}, {"content": bad, "score": 0.2}],
        }
    ),
    "prompt": _rows(lambda n, good, bad: {"messages": _asked(n), "answer": good}),
    "infill": _rows(lambda n, good, bad: {"prefix": QUESTIONS[n][0], "middle": good, "suffix": bad}),
    "pair": _rows(lambda n, good, bad: {"text": QUESTIONS[n][0], "text2": f"Answer: {good}"}),
    "group": _rows(lambda n, good, bad: {"texts": [QUESTIONS[n][0], f"Answer: {good}"]}),
}


def random_units(lengths: Sequence[int], seed: int = 0, vocab: int = 288) -> list[Unit]:
    """One Unit a length: random tokens, of which the first third is not trained on."""
    draw = np.random.default_rng(seed)
    return [
        Unit(
            (Example.of(draw.integers(3, vocab, size=n).tolist(), (np.arange(n) >= n // 3).astype(float).tolist()),),
            origin=f"rows:{i}",
        )
        for i, n in enumerate(lengths, start=1)
    ]


def check_objective(
    objective: Any,
    rows: Sequence[Mapping[str, Any]] | None = None,
    *,
    helpers: Any = None,
    adapters: Sequence[str] = ("full", "lora", "head"),
) -> None:
    """Raise AssertionError when a promise of the shelf is broken.

    rows      rows the method can read (default: five of its `shape`)
    helpers   what the method is given as helpers (default: a reference that is another model, where it asks for one)
    adapters  under each of which a step is cut in all ways; one that cannot train this kind of network is left out

    A method that samples answers the prompts itself, greedily enough to end, and is paid by their length.

    Checked: it is an item of a shelf (see items.py); a row gives the same Units twice and something to train on; a loss
    is made of sums whose weights are known beforehand: one pass, two, eight, or one for each Unit give the same loss and
    gradients, packed or padded, under each adapter; nothing changes when rows of the step are exchanged; only what trains has
    gradients, they are finite, and equal finite differences; figures are explained, and the same without gradients.
    """
    check_item(objective)
    name = type(objective).__name__
    holds(bool(objective.per), f"{name}.per says what each term of the loss is divided by")
    given = helpers
    for adapter in adapters:
        try:
            made = step_of(objective, rows, helpers=given, adapter=shelf("adapters").make(adapter))
        except SettingError:  # an encoder's body has no head that could train
            continue
        _check_sums(*made, f"{name} under {adapter}")
    objective, model, units, helpers = step_of(objective, rows, helpers=given)
    _check_gradient(objective, model, units, helpers, name)
    _check_figures(objective, model, units, helpers, name)


def step_of(
    objective: Any, rows: Sequence[Mapping[str, Any]] | None = None, *, helpers: Any = None, adapter: Any = None
) -> tuple[Any, Model, list[Unit], Any]:
    """(the objective, a tiny model in fp64, Units and helpers of a step): what `backward` wants, made as a run makes it.

    adapter  None = every parameter trains
    """
    name = type(objective).__name__
    shape = objective.shape if isinstance(objective.shape, str) else objective.shape[0]
    given = ROWS[shape] if rows is None else rows
    if hasattr(objective, "learn_labels"):
        objective = objective.learn_labels(given)
    wanted = network(objective, given)
    model = load(BASES.get(wanted["kind"], "pico"), dtype="fp64", seed=1, **wanted)
    if "value" in getattr(objective, "heads", ()):
        add_value_head(model)
        model.net.value_head.double().weight.data.normal_(0, 0.1, generator=torch.Generator().manual_seed(3))
    if adapter is None:
        model.net.requires_grad_(True)
    else:
        attach(adapter, model, seed=5)
    text = Text(model.tokenizer, length=256)
    if helpers is None:
        helpers = Helpers(state=objective.start() if hasattr(objective, "start") else {})
        if "reference" in getattr(objective, "helpers", ()):
            other = load("pico", dtype="fp64", seed=2)
            if adapter is not None:
                attach(adapter, other, seed=6)
            helpers.live = frozen(other.policy)

    def made() -> list[Unit]:
        return [u for n, row in enumerate(given) for u in objective.units(row, text, Draw([0, 0, n], given))]

    units, again = made(), made()
    samples = hasattr(objective, "collect")
    holds(
        bool(units) and (samples or all(e.num_trained for u in units for e in u.examples[:1])),
        f"{name}.units gives something to train on",
    )
    same = len(units) == len(again) and all(_equal(a, b) for a, b in zip(units, again))
    holds(same, f"{name}.units gives the same twice for the same draw")
    holds(all(unit.origin for unit in units), f"{name}.units passes the origin of the row on")
    if samples:
        units = _collected(objective, model, units, helpers, name)
    return objective, model, units, helpers


def _collected(objective: Any, model: Model, prompts: list[Unit], helpers: Any, name: str) -> list[Unit]:
    """One round of answers: a Unit for each prompt, the same twice."""

    def answer(asked: Sequence[Sequence[int]], n: int = 1) -> list[list[Any]]:
        rows = [list(prompt) for prompt in asked for _ in range(n)]
        found = generate(model, rows, max_tokens=7, temperature=objective.temperature, seeds=range(len(rows)))
        return [found[i * n : (i + 1) * n] for i in range(len(asked))]

    def reward(rows: Sequence[Any], texts: Sequence[str]) -> list[float]:
        return [len(text.encode()) / 7 + 0.1 * (number % 3) for number, text in enumerate(texts)]

    units, again = (objective.collect(model.policy, list(prompts), answer, reward, helpers) for _ in range(2))
    holds(len(units) == len(prompts), f"{name}.collect gives one Unit for each prompt")
    holds(all(_equal(a, b) for a, b in zip(units, again)), f"{name}.collect gives the same twice for the same seeds")
    back = units_from_tensors(units_to_tensors(units))
    holds(all(_equal(a, b) for a, b in zip(units, back)), f"{name}: what was collected survives a checkpoint")
    return list(units)


def _equal(one: Unit, other: Unit) -> bool:
    if len(one.examples) != len(other.examples) or one.shared_prompt != other.shared_prompt:
        return False
    pairs = zip(one.examples, other.examples)
    return all(
        np.array_equal(a.ids, b.ids)
        and np.array_equal(a.weights, b.weights)
        and set(a.columns) == set(b.columns)
        and all(np.array_equal(a.columns[name], b.columns[name]) for name in a.columns)
        for a, b in pairs
    )


def _step(
    objective: Any, policy: Any, units: Sequence[Unit], helpers: Any, **settings: Any
) -> tuple[float, torch.Tensor]:
    """(loss, all gradients as one vector) of a step."""
    torch.manual_seed(0)
    loss = backward(policy, objective, units, helpers=helpers, **settings).loss
    parameters = list(policy.net.parameters())
    stray = [n for n, p in policy.net.named_parameters() if p.grad is not None and not p.requires_grad]
    holds(not stray, f"nothing but what trains has a gradient ({', '.join(stray[:3])})")
    flat = torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in parameters])
    for parameter in parameters:
        parameter.grad = None
    return loss, flat


def _check_sums(objective: Any, model: Model, units: list[Unit], helpers: Any, name: str) -> None:
    """Micro-batches, layouts and order cannot be seen in loss or gradient."""
    loss, gradient = _step(objective, model.policy, units, helpers)
    holds(
        bool(torch.isfinite(gradient).all()) and bool(gradient.any()),
        f"{name} gives finite gradients, not all of them 0",
    )
    total = sum(unit.num_tokens for unit in units)
    ways = {
        "one pass for each Unit": (model.policy, units, {"pass_tokens": 1}),
        "about two passes": (model.policy, units, {"pass_tokens": total // 2 + 1}),
        "about eight passes": (model.policy, units, {"pass_tokens": total // 8 + 1}),
        "the Units in another order": (model.policy, units[::-1], {"pass_tokens": total // 2 + 1}),
    }
    if isinstance(model.policy, Policy):
        padded = Policy(model.net, layout="padded", pad_id=int(units[0].examples[0].ids[-1]))
        ways["padded rows, padded with a token that is trained on"] = (padded, units, {})
    for way, (policy, some, settings) in ways.items():
        other, moved = _step(objective, policy, some, helpers, **settings)
        close = abs(other - loss) <= 1e-6 * max(1.0, abs(loss)) and (moved - gradient).abs().max() <= 1e-5 * max(
            1.0, gradient.abs().max()
        )
        holds(
            bool(close), f"{name}: {way} gives the same loss and gradient as all in one pass ({loss:.8f}, {other:.8f})"
        )


def _check_gradient(objective: Any, model: Model, units: list[Unit], helpers: Any, name: str) -> None:
    """The gradient along a random direction equals the difference of two losses."""
    _, gradient = _step(objective, model.policy, units, helpers)
    if hasattr(objective, "shared"):  # what the first pass found has no gradient: it must not move with the weights
        helpers = replace(helpers, still=True)
    parameters = list(model.net.parameters())
    generator = torch.Generator().manual_seed(0)
    directions = [torch.randn(p.shape, generator=generator, dtype=p.dtype) for p in parameters]
    slope = float(gradient @ torch.cat([d.flatten() for d in directions]))
    size, losses = 1e-5, []
    for sign in (1, -1):
        with torch.no_grad():
            for parameter, direction in zip(parameters, directions):
                parameter.add_(direction, alpha=sign * size)
        losses.append(_step(objective, model.policy, units, helpers)[0])
        with torch.no_grad():
            for parameter, direction in zip(parameters, directions):
                parameter.sub_(direction, alpha=sign * size)
    measured = (losses[0] - losses[1]) / (2 * size)
    holds(
        abs(measured - slope) <= 1e-2 * max(0.1, abs(slope)),
        f"{name}: the gradient is that of the loss ({slope:.5f}, measured {measured:.5f})",
    )


def _check_figures(objective: Any, model: Model, units: list[Unit], helpers: Any, name: str) -> None:
    stats = backward(model.policy, objective, units, helpers=helpers)
    model.net.zero_grad(set_to_none=True)
    figures = getattr(objective, "figures", {})
    holds(set(stats.figures) <= set(figures), f"{name}.figures explains each of {sorted(stats.figures)}")
    totals = measure(model.policy, objective, units, helpers=helpers).figures
    for figure, value in stats.figures.items():
        total, count = totals[figure]
        holds(
            abs(total / count - value) <= 1e-6 * max(1.0, abs(value)), f"{name}: {figure} is the same without gradients"
        )
