"""npo: the closed form, gradient ascent at the start, letting go at the end, and answers that are forgotten while others are kept."""

import math

import numpy as np
import pytest
import torch

from tunesmith.core.errors import SettingError
from tunesmith.model.load import load
from tunesmith.objectives.npo import Npo
from tunesmith.objectives.sft import Sft
from tunesmith.step.helpers import Helpers, frozen, with_reference
from tunesmith.step.step import backward
from tunesmith.testing import check_objective
from tunesmith.text.encode import Text
from tunesmith.train.loop import loop
from tunesmith.train.optim import Optimizer


def chat(asked, said):
    return {"messages": [{"role": "user", "content": asked}, {"role": "assistant", "content": said}], "origin": asked}


SECRET = [chat("Where does Ann live?", "12 Elm Road"), chat("Ben's number?", "555 0199")]
KNOWN = [chat("Capital of Korea?", "Seoul"), chat("1+1?", "2")]


@pytest.fixture
def model():
    made = load("pico", dtype="fp64", seed=3)
    made.net.requires_grad_(True)
    return made


def units_of(model, rows, objective):
    text = Text(model.tokenizer)
    return [unit for row in rows for unit in objective.units(row, text, np.random.default_rng(0))]


def flat(net):
    return torch.cat([p.grad.flatten() for p in net.parameters()])


def test_keeps_what_the_shelf_promises():
    check_objective(Npo(beta=0.3))


@pytest.mark.parametrize("beta", [0.05, 0.5, 2.0])
def test_the_loss_is_the_papers_equation(model, beta):
    other = load("pico", dtype="fp64", seed=4)
    units = list(with_reference(other.policy, units_of(model, SECRET, Npo())))
    stats = backward(model.policy, Npo(beta=beta), units, keep_unit_losses=True)
    wanted = []
    for unit in units:
        batch = model.policy.batch([unit])
        with torch.no_grad():
            ratio = float((model.policy.logprobs(batch) - other.policy.logprobs(batch)).sum())
        wanted.append(2 / beta * math.log1p(math.exp(beta * ratio)))
    assert stats.unit_losses.tolist() == pytest.approx(wanted, rel=1e-5)
    assert stats.loss == pytest.approx(np.mean(wanted), rel=1e-6) == stats.figures["loss"]


def test_at_the_start_it_is_gradient_ascent_and_2_over_beta_ln_2(model):
    units = list(with_reference(model.policy, units_of(model, SECRET, Npo())))
    stats = backward(model.policy, Npo(beta=0.2), units)
    assert stats.loss == pytest.approx(2 / 0.2 * math.log(2), rel=1e-6) and stats.figures["left"] == 1.0
    found = flat(model.net)
    model.net.zero_grad()
    backward(model.policy, Sft(), units)
    tokens = sum(example.num_trained for unit in units for example in unit.examples)
    assert torch.allclose(found, -flat(model.net) * tokens / len(units), rtol=1e-5, atol=1e-6)


def test_what_is_gone_pulls_no_more(model):
    """An answer that has lost 60 nats at beta 0.5: its gradient is e^-30 of what it was."""
    units = units_of(model, SECRET, Npo())
    gone = [with_value(unit, 60.0 / unit.examples[0].num_trained) for unit in with_reference(model.policy, units)]
    backward(model.policy, Npo(beta=0.5), gone)
    assert float(flat(model.net).abs().max()) < 1e-10


def with_value(unit, more):
    """The Unit with a reference that held each token likelier by so many nats."""
    from dataclasses import replace

    examples = [
        replace(e, columns={"reference": e.columns["reference"] + more * (e.weights != 0)}) for e in unit.examples
    ]
    return replace(unit, examples=tuple(examples))


def test_answers_are_forgotten_while_others_stay():
    model = load("pico", seed=3)
    model.net.requires_grad_(True)

    def steps(objective, units, number, lr=3e-3, helpers=None):
        return list(loop(model.policy, objective, units, Optimizer(model.net.named_parameters()), steps=number, batch_size=4, lr=lr, helpers=helpers))  # fmt: skip

    def likely(rows):
        units = units_of(model, rows, Sft())
        with torch.no_grad():
            return float(model.policy.logprobs(model.policy.batch(units)).mean())

    steps(Sft(), units_of(model, SECRET + KNOWN, Sft()), 120, 1e-2)
    before = likely(SECRET), likely(KNOWN)
    assert min(before) > -0.2
    helpers = Helpers(live=frozen(model.policy))
    for _ in range(10):
        steps(Npo(beta=0.2), units_of(model, SECRET, Npo()), 1, helpers=helpers)
        steps(Sft(), units_of(model, KNOWN, Sft()), 2)
    assert likely(SECRET) < -2 and likely(KNOWN) > -0.2


def test_a_setting_that_cannot_be_is_refused():
    with pytest.raises(SettingError, match="beta is 0"):
        Npo(beta=0.0)
