"""check_objective: does a method keep what the loop relies on?

>>> check_objective(Sft())
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from tunesmith.model.load import Model, load
from tunesmith.model.policy import Policy
from tunesmith.step.step import backward, measure
from tunesmith.testing.items import check_item, holds
from tunesmith.text.encode import Text
from tunesmith.text.example import Example, Unit

QUESTIONS = (
    ("1+1?", "2"),
    ("Capital of Korea?", "Seoul, a city of nine million people."),
    ("부산은 어디에 있나요?", "남동쪽 바닷가에 있습니다."),
    ("Say yes.", "yes"),
    ("Count.", "one two three four five six seven"),
)
ROWS: dict[str, tuple[dict[str, Any], ...]] = {
    "chat": tuple(
        {
            "messages": [{"role": "user", "content": asked}, {"role": "assistant", "content": answer}],
            "origin": f"rows.jsonl:{number}",
        }
        for number, (asked, answer) in enumerate(QUESTIONS, start=1)
    ),
    "text": tuple({"text": f"{a} {b}", "origin": f"rows.jsonl:{n}"} for n, (a, b) in enumerate(QUESTIONS, start=1)),
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


def check_objective(objective: Any, rows: Sequence[Mapping[str, Any]] | None = None, *, helpers: Any = None) -> None:
    """Raise AssertionError when a promise of the shelf is broken.

    rows      rows the method can read (default: five of its `shape`)
    helpers   what the method is given as helpers

    Checked: it is an item of a shelf (see items.py); a row gives the same Units twice and something to train on; a loss
    is made of sums whose weights are known beforehand: one pass, two, or one for each Unit give the same loss and
    gradients, packed or padded; nothing changes when rows of the step are exchanged; gradients are finite and equal finite
    differences; figures are explained, and the same without gradients.
    """
    check_item(objective)
    name = type(objective).__name__
    holds(bool(objective.per), f"{name}.per says what each term of the loss is divided by")
    model = load("pico", dtype="fp64", seed=1)
    model.net.requires_grad_(True)
    text = Text(model.tokenizer, length=256)
    given = ROWS[objective.shape] if rows is None else rows
    units = [
        unit
        for number, row in enumerate(given)
        for unit in objective.units(row, text, np.random.default_rng([0, number]))
    ]
    again = [
        unit
        for number, row in enumerate(given)
        for unit in objective.units(row, text, np.random.default_rng([0, number]))
    ]
    holds(
        bool(units) and all(e.num_trained for u in units for e in u.examples[:1]),
        f"{name}.units gives something to train on",
    )
    holds(all(_equal(a, b) for a, b in zip(units, again)), f"{name}.units gives the same twice for the same draw")
    holds(all(unit.origin for unit in units), f"{name}.units passes the origin of the row on")
    _check_sums(objective, model, units, helpers, name)
    _check_gradient(objective, model, units, helpers, name)
    _check_figures(objective, model, units, helpers, name)


def _equal(one: Unit, other: Unit) -> bool:
    pairs = zip(one.examples, other.examples)
    return all(np.array_equal(a.ids, b.ids) and np.array_equal(a.weights, b.weights) for a, b in pairs)


def _step(
    objective: Any, policy: Policy, units: Sequence[Unit], helpers: Any, **settings: Any
) -> tuple[float, torch.Tensor]:
    """(loss, all gradients as one vector) of a step."""
    torch.manual_seed(0)
    loss = backward(policy, objective, units, helpers=helpers, **settings).loss
    parameters = list(policy.net.parameters())
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
    padded = Policy(model.net, layout="padded", pad_id=int(units[0].examples[0].ids[-1]))
    total = sum(unit.num_tokens for unit in units)
    ways = {
        "one pass for each Unit": (model.policy, units, {"pass_tokens": 1}),
        "about two passes": (model.policy, units, {"pass_tokens": total // 2 + 1}),
        "padded rows, padded with a token that is trained on": (padded, units, {}),
        "the Units in another order": (model.policy, units[::-1], {"pass_tokens": total // 2 + 1}),
    }
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
    totals, _ = measure(model.policy, objective, units, helpers=helpers)
    for figure, value in stats.figures.items():
        total, count = totals[figure]
        holds(
            abs(total / count - value) <= 1e-6 * max(1.0, abs(value)), f"{name}: {figure} is the same without gradients"
        )
