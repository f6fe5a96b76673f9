"""orpo: TRL's values and gradients, the closed form, finite where an answer is certain."""

import math
from types import SimpleNamespace

import pytest
import torch

from tunesmith.core.errors import SettingError
from tunesmith.model.batch import pack
from tunesmith.objectives.orpo import Orpo, log_odds
from tunesmith.step.step import backward
from tunesmith.testing import check_objective
from tunesmith.text.example import Example, Unit


def test_values_and_gradients_are_trls(trl):
    trl.compare(Orpo(weight=0.1), "orpo", tolerance=2e-6)  # TRL computes the odds in fp32


def test_keeps_what_the_shelf_promises():
    check_objective(Orpo())


def test_the_loss_is_a_token_term_and_a_pair_term(pico, preferences, units_of):
    units = units_of(Orpo(), preferences, pico.tokenizer)
    stats = backward(pico.policy, Orpo(weight=0.7), units)
    with torch.no_grad():
        batch = pico.policy.batch(units)
        logp = pico.policy.logprobs(batch)
    sides = [logp[batch.example == i] for i in range(batch.num_examples)]

    def odds(values):
        p = math.exp(float(values.mean()))
        return p / (1 - p)

    pairs = list(zip(sides[::2], sides[1::2]))
    preference = sum(-math.log(1 / (1 + 1 / (odds(a) / odds(b)))) for a, b in pairs) / len(pairs)
    answers = -float(sum(a.sum() for a, _ in pairs)) / sum(len(a) for a, _ in pairs)
    assert stats.loss == pytest.approx(answers + 0.7 * preference, rel=1e-9)
    assert stats.figures["odds_loss"] == pytest.approx(preference, rel=1e-9)
    assert stats.figures["answer_loss"] == pytest.approx(answers, rel=1e-9)
    assert stats.figures["loss"] == pytest.approx(
        0.7 * preference - sum(float(a.mean()) for a, _ in pairs) / len(pairs), rel=1e-9
    )


def test_log_odds_lose_no_digits():
    """Against logarithms of exact numbers: p = 1 - 1e-12 and p = 1e-12 have log odds of +-ln((1 - p) / p)."""
    p = torch.tensor([1e-12, 0.1, 0.4999, 0.5, 0.5001, 0.9, 1 - 1e-6], dtype=torch.float64)
    torch.testing.assert_close(log_odds(torch.log(p)), torch.log(p) - torch.log1p(-p), rtol=1e-9, atol=1e-9)
    tiny = torch.tensor([-1e-12], dtype=torch.float64)  # p = 1 - 1e-12 to the last digit
    assert float(log_odds(tiny)) == pytest.approx(-math.log(1e-12), rel=1e-9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("certain", [0.0, -1e-12, -1e-7])
def test_finite_where_an_answer_is_certain(dtype, certain):
    columns = {"margin": 0.0, "chosen_tokens": 2.0}
    unit = Unit(tuple(Example.of([7, 7, 7], [0.0, 1.0, 1.0], **columns) for _ in range(2)))
    for chosen, rejected in ((certain, -3.0), (-3.0, certain), (certain, certain), (certain, -200.0)):
        values = torch.tensor([chosen, chosen, rejected, rejected], dtype=dtype, requires_grad=True)
        out = Orpo().loss(SimpleNamespace(logprobs=lambda batch, values=values: values), pack([unit]), None)
        total = torch.stack(list(out.terms.values())).sum()
        (gradient,) = torch.autograd.grad(total, [values])
        assert torch.isfinite(total) and torch.isfinite(gradient).all()
        assert all(torch.isfinite(value) for value, _ in out.stats.values())


def test_a_negative_weight_is_refused():
    with pytest.raises(SettingError):
        Orpo(weight=-0.1)
