"""kto: TRL's values and gradients, z of answers to other prompts over the whole step, weights, both kinds of rows."""

from types import SimpleNamespace

import pytest
import torch

from tunesmith.core.errors import SettingError
from tunesmith.objectives.kto import Kto
from tunesmith.step.step import backward
from tunesmith.testing import check_objective
from tunesmith.text.encode import Text

CASES = {
    "kto": Kto(),
    "kto weights": Kto(beta=0.3, desirable_weight=1.5, undesirable_weight=0.7),
    "kto kl clamped": Kto(),
}


@pytest.mark.parametrize("case", CASES)
def test_values_and_gradients_are_trls(trl, case):
    figures = trl.compare(CASES[case], case, swap="clamped" in case)
    assert figures["kl"] == pytest.approx(trl.found[case]["kl"], abs=1e-9)
    assert (figures["kl"] == 0.0) == ("clamped" in case)


def test_keeps_what_the_shelf_promises(preferences):
    check_objective(Kto())
    check_objective(Kto(desirable_weight=1.3), rows=preferences)


def test_a_unit_is_the_answer_and_another_rows_answer_to_the_same_prompt(pico, ratings, units_of):
    units = units_of(Kto(), ratings, pico.tokenizer)
    answers = {row["messages"][-1]["content"] for row in ratings}
    for unit, row in zip(units, ratings, strict=True):
        own, other = unit.examples
        assert own.ids[: unit.shared_prompt].tolist() == other.ids[: unit.shared_prompt].tolist()
        said = [pico.tokenizer.decode(e.ids[e.weights > 0].tolist()) for e in unit.examples]
        assert said[0] == row["messages"][-1]["content"] and said[1] in answers - {said[0]}
        assert own.columns["good"] == float(row["label"]) and unit.origin == row["origin"]


def test_preferences_are_one_good_and_one_bad_answer(pico, preferences, units_of):
    units = units_of(Kto(), preferences, pico.tokenizer)
    assert [unit.examples[0].columns["good"] for unit in units] == [1.0, 0.0] * len(preferences)
    said = [pico.tokenizer.decode(u.examples[0].ids[u.examples[0].weights > 0].tolist()) for u in units]
    assert said == [row[side][0]["content"] for row in preferences for side in ("chosen", "rejected")]


def test_an_answer_too_long_is_cut_only_where_it_is_another_rows(pico, ratings):
    row, text = ratings[2], Text(pico.tokenizer, length=30, too_long="drop")
    draw = SimpleNamespace(
        other=lambda: {**row, "messages": [row["messages"][0], {"role": "assistant", "content": "x" * 99}]}
    )
    (unit,) = Kto().units(row, text, draw)
    assert len(unit.examples[1]) == 30 and unit.examples[1].num_trained == 30 - unit.shared_prompt
    own = pico.tokenizer.decode(unit.examples[0].ids[unit.examples[0].weights > 0].tolist())
    assert own == row["messages"][-1]["content"]
    empty = {**row, "messages": [row["messages"][0], {"role": "assistant", "content": ""}]}
    assert Kto().units(empty, text, draw).dropped == ("the answer is empty",)


def test_z_has_no_gradient_and_no_part_of_the_mismatched_answers_is_learned(pico, ratings, start, units_of, trl):
    batch = pico.policy.batch(trl.numbered(units_of(Kto(), ratings, pico.tokenizer)))
    kl, count = Kto().shared(pico.policy, batch, start)["kl"]
    logp = pico.policy.logprobs(batch).detach().requires_grad_(True)
    helpers = SimpleNamespace(reference=start.reference, shared={"kl": (kl / count).detach()})
    policy = SimpleNamespace(batch=pico.policy.batch, logprobs=lambda some: logp[some.columns["number"].long()])
    out = Kto().loss(policy, batch, helpers)
    (gradient,) = torch.autograd.grad(out.terms["answer"], [logp])
    mismatched = batch.example % 2 == 1
    assert float(count) == len(ratings) and not gradient[mismatched].any() and gradient[~mismatched].all()


def test_each_answer_is_read_once_a_step(pico, ratings, start, units_of, monkeypatch):
    """The answers with gradient, those of other prompts without: neither goes through beside the other."""
    units, read = units_of(Kto(), ratings, pico.tokenizer), {True: 0, False: 0}
    policy = pico.policy
    own = policy.predicting

    def counted(batch):
        read[torch.is_grad_enabled()] += batch.ids.numel()
        return own(batch)

    monkeypatch.setattr(policy, "predicting", counted)
    backward(policy, Kto(), units, helpers=start)
    answers, others = (sum(len(unit.examples[which]) for unit in units) for which in (0, 1))
    assert read == {True: answers, False: others}


@pytest.mark.parametrize("settings", [{"beta": 0}, {"desirable_weight": -1}, {"undesirable_weight": -1}])
def test_settings_that_mean_nothing_are_refused(settings):
    with pytest.raises(SettingError):
        Kto(**settings)
