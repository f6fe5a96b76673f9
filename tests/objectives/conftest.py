"""What the tests of the preference methods share: rows, a reference, and TRL's figures to compare with."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from tunesmith.model.batch import pack
from tunesmith.model.load import load
from tunesmith.step.helpers import Helpers, frozen
from tunesmith.step.step import term_weights
from tunesmith.text.draw import Draw
from tunesmith.text.encode import Text
from tunesmith.text.example import Example, Unit, spread

PAIRS = (
    ("Say hello.", "Hello, nice to meet you.", "What do you want?"),
    ("1+1?", "2", "It is 3, as everybody knows."),
    ("부산은 어디에 있나요?", "남동쪽 바닷가에 있습니다.", "몰라요."),
    ("Count.", "one two three", "one two four"),
)


def user(text):
    return {"role": "user", "content": text}


def assistant(text):
    return {"role": "assistant", "content": text}


@pytest.fixture(scope="session")
def preferences():
    """Four preference rows."""
    return [
        {"messages": [user(asked)], "chosen": [assistant(good)], "rejected": [assistant(bad)], "origin": f"votes.jsonl:{i}"}
        for i, (asked, good, bad) in enumerate(PAIRS, start=1)
    ]  # fmt: skip


@pytest.fixture(scope="session")
def ratings():
    """Eight rated rows, good and bad."""
    return [
        {"messages": [user(asked), assistant(answer)], "label": label, "origin": f"thumbs.jsonl:{2 * i + (not label)}"}
        for i, (asked, good, bad) in enumerate(PAIRS)
        for answer, label in ((good, True), (bad, False))
    ]


@pytest.fixture(scope="session")
def units_of():
    """units_of(objective, rows, tokenizer, **text_settings) -> all their Units."""

    def make(objective, rows, tokenizer, **settings):
        text = Text(tokenizer, **settings)
        return [unit for i, row in enumerate(rows) for unit in objective.units(row, text, Draw([0, 0, i], rows))]

    return make


@pytest.fixture(scope="session")
def held():
    """held(model) -> helpers whose reference is a frozen copy of the model as it is now."""

    def make(model, **more):
        door = frozen(model.policy)

        @torch.no_grad()
        def reference(batch):
            return door.logprobs(batch)

        made = Helpers(**more)
        made.reference = reference  # type: ignore[method-assign]
        return made

    return make


@pytest.fixture
def pico():
    """A fresh model in fp64, and one with other weights as `start`."""
    model = load("pico", dtype="fp64", seed=1)
    model.net.requires_grad_(True)
    return model


@pytest.fixture(scope="session")
def start(held):
    """Helpers whose reference is a model with other weights."""
    return held(load("pico", dtype="fp64", seed=2))


def example(values, **columns):
    """One token of prompt and as many of answer as there are values."""
    return Example.of([7] * (len(values) + 1), [0.0] + [1.0] * len(values), **columns)


def numbered(units):
    """The Units with a column that counts their trained-on tokens, so that a batch of some of them knows which they are."""
    ends = np.cumsum([0, *(e.num_trained for unit in units for e in unit.examples)])
    starts = iter(ends)
    return [
        replace(unit, examples=tuple(
            replace(e, columns={**e.columns, "number": spread(next(starts) + np.arange(e.num_trained), e)})
            for e in unit.examples
        ))
        for unit in units
    ]  # fmt: skip


@pytest.fixture(scope="session")
def trl():
    """trl.compare(objective, case): loss and gradient with respect to every token's log p equal what TRL gave."""
    recorded = json.loads(Path(__file__).with_name("trl_preferences.json").read_text())
    given, found = recorded["given"], recorded["found"]

    def flat(rows):
        return torch.tensor([value for row in rows for value in row], dtype=torch.float64)

    def sides(first, second):
        return [row for pair in zip(first, second) for row in pair]

    def pairs():
        units = [
            Unit((example(a, margin=m, chosen_tokens=float(len(a))), example(b, margin=m, chosen_tokens=0.0)))
            for a, b, m in zip(given["chosen"], given["rejected"], given["margins"])
        ]
        return units, sides(given["chosen"], given["rejected"]), sides(given["ref_chosen"], given["ref_rejected"])

    def rated():
        answers, references = given["chosen"] + given["rejected"], given["ref_chosen"] + given["ref_rejected"]
        units = [
            Unit((example(a, good=float(label)), example(other, good=float(label))))
            for a, other, label in zip(answers, given["mismatched"], given["labels"])
        ]
        return units, sides(answers, given["mismatched"]), sides(references, given["ref_mismatched"])

    def compare(objective, case, swap=False, tolerance=1e-9):
        units, values, reference = rated() if case.startswith("kto") else pairs()
        leaf, fixed = flat(values).requires_grad_(True), flat(reference)
        if swap:  # the mismatched answers' log p and their reference exchanged: the KL is negative
            is_other = torch.cat([torch.full((len(v),), float(i % 2)) for i, v in enumerate(values)]).bool()
            leaf_values, fixed = (
                torch.where(is_other, fixed, leaf.detach()),
                torch.where(is_other, leaf.detach(), fixed),
            )
            leaf = leaf_values.requires_grad_(True)
        units = numbered(units)
        policy = SimpleNamespace(batch=pack, logprobs=lambda batch: leaf[batch.columns["number"].long()])
        helpers = SimpleNamespace(reference=lambda batch: fixed[batch.columns["number"].long()])
        batch = pack(units)
        if hasattr(objective, "shared"):
            with torch.no_grad():
                sums = objective.shared(policy, batch, helpers)
            helpers.shared = {name: value / count for name, (value, count) in sums.items()}
        out = objective.loss(policy, batch, helpers)
        weights = term_weights(objective, units)
        loss = torch.stack([value / weights[term] for term, value in out.terms.items()]).sum()
        assert loss.item() == pytest.approx(found[case]["loss"], rel=tolerance)
        (gradient,) = torch.autograd.grad(loss, [leaf])
        (wanted,) = found[case]["gradients"]
        if case.startswith("kto"):
            wanted = sides(wanted, [[0.0] * len(other) for other in given["mismatched"]])
        else:
            wanted = sides(wanted[: len(wanted) // 2], wanted[len(wanted) // 2 :])
        torch.testing.assert_close(gradient, flat(wanted), rtol=tolerance, atol=tolerance)
        return {name: float(value / count) for name, (value, count) in out.stats.items()}

    return SimpleNamespace(given=given, found=found, compare=compare, numbered=numbered)
