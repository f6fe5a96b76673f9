"""simpo: TRL's values and gradients, the closed form, no reference asked for."""

import math

import pytest
import torch

from tunesmith.core.errors import SettingError
from tunesmith.objectives.simpo import Simpo
from tunesmith.step.step import backward
from tunesmith.testing import check_objective


def test_values_and_gradients_are_trls(trl):
    trl.compare(Simpo(beta=2.0, gamma=1.0), "simpo", tolerance=1e-6)


@pytest.mark.parametrize("objective", [Simpo(), Simpo(sft_weight=0.5)], ids=["plain", "sft"])
def test_keeps_what_the_shelf_promises(objective):
    check_objective(objective)


def test_the_loss_is_that_of_the_means(pico, preferences, units_of):
    units = units_of(Simpo(), preferences, pico.tokenizer)
    stats = backward(pico.policy, Simpo(beta=2.5, gamma=0.8, sft_weight=0.3), units)
    with torch.no_grad():
        batch = pico.policy.batch(units)
        logp = pico.policy.logprobs(batch)
    sums = [logp[batch.example == i] for i in range(batch.num_examples)]
    losses = [
        -math.log(1 / (1 + math.exp(-(2.5 * float(a.mean() - b.mean()) - 0.8)))) for a, b in zip(sums[::2], sums[1::2])
    ]
    answers = -float(sum(a.sum() for a in sums[::2])) / sum(len(a) for a in sums[::2])
    assert stats.figures["loss"] == pytest.approx(sum(losses) / len(losses), rel=1e-9)
    assert stats.figures["answer_loss"] == pytest.approx(answers, rel=1e-9)
    assert stats.loss == pytest.approx(sum(losses) / len(losses) + 0.3 * answers, rel=1e-9)


def test_repeating_an_answer_does_not_change_what_it_is_worth(trl):
    """The mean, not the sum: a reward of the same log p per token is the same for one token and for many."""
    from types import SimpleNamespace

    from tunesmith.model.batch import pack
    from tunesmith.text.example import Example, Unit

    def loss(num):
        weights = [0.0] + [1.0] * num
        columns = {"margin": 0.0, "chosen_tokens": float(num)}
        long, short = Example.of([7] * (num + 1), weights, **columns), Example.of([7, 7], [0.0, 1.0], **columns)
        values = torch.tensor([-0.5] * num + [-0.9], dtype=torch.float64)
        return float(
            Simpo()
            .loss(SimpleNamespace(logprobs=lambda b: values), pack([Unit((long, short))]), None)
            .terms["preference"]
        )

    assert loss(1) == pytest.approx(loss(9), rel=1e-12)


@pytest.mark.parametrize("settings", [{"beta": -1}, {"gamma": -0.1}, {"sft_weight": -1}])
def test_settings_that_mean_nothing_are_refused(settings):
    with pytest.raises(SettingError):
        Simpo(**settings)
