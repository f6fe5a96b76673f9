"""reward: TRL's values, transformers' scores at the last token, the same for any batch, sides swapped is the sign swapped."""

from types import SimpleNamespace

import pytest
import torch
import transformers

from tunesmith.core.errors import SettingError
from tunesmith.model.batch import pack
from tunesmith.model.load import load
from tunesmith.model.policy import Policy
from tunesmith.objectives.reward import Reward
from tunesmith.step.step import backward, term_weights
from tunesmith.testing import check_objective
from tunesmith.text.example import Example, Unit

CASES = {
    "reward": Reward(centring=0.0, margin=0.0),
    "reward margin": Reward(centring=0.0),
    "reward centred": Reward(centring=0.01),
}


@pytest.fixture
def scorer():
    """A fresh model in fp64 with a head for one score."""
    model = load("pico", kind="classify", labels=Reward.labels, problem=Reward.problem, dtype="fp64", seed=1)
    model.net.requires_grad_(True)
    return model


@pytest.mark.parametrize("case", CASES)
def test_values_and_gradients_are_trls(trl, case):
    objective, given, found = CASES[case], trl.given, trl.found[case]
    scores = torch.tensor(given["scores"], dtype=torch.float64).reshape(-1, 1).requires_grad_(True)
    units = [Unit(tuple(Example.of([7, 8], [0.0, 1.0], margin=m) for _ in range(2))) for m in given["margins"]]
    out = objective.loss(SimpleNamespace(scores=lambda batch: scores), pack(units), None)
    weights = term_weights(objective, units)
    loss = torch.stack([value / weights[term] for term, value in out.terms.items()]).sum()
    (gradient,) = torch.autograd.grad(loss, [scores])
    assert loss.item() == pytest.approx(found["loss"], rel=1e-7)
    torch.testing.assert_close(gradient.view(-1, 2), torch.tensor(found["gradients"]).double(), rtol=1e-6, atol=1e-7)
    figures = {name: float(value / count) for name, (value, count) in out.stats.items()}
    assert figures["accuracy"] == pytest.approx(found["accuracy"])
    assert figures["margin"] == pytest.approx(found["margin"])


def test_keeps_what_the_shelf_promises(preferences):
    check_objective(Reward(), rows=[{**row, "margin": 0.1 * i} for i, row in enumerate(preferences)])


def test_scores_are_transformers_own_at_the_last_token(scorer, preferences, units_of):
    """Its own classifier, one answer at a time."""
    units = units_of(Reward(), preferences, scorer.tokenizer)
    ours = scorer.policy.scores(scorer.policy.batch(units))[:, 0]
    net = transformers.LlamaForSequenceClassification._from_config(
        scorer.net.config, attn_implementation="eager"
    ).double()
    net.load_state_dict(scorer.net.state_dict())
    examples = [example for unit in units for example in unit.examples]
    with torch.no_grad():
        alone = torch.cat([net(input_ids=torch.tensor(e.ids[None].tolist())).logits[:, 0] for e in examples])
    torch.testing.assert_close(ours.detach().double(), alone, rtol=1e-6, atol=1e-6)


def test_a_score_does_not_know_what_it_was_batched_with(scorer, preferences, units_of):
    units = units_of(Reward(), preferences, scorer.tokenizer)
    together = scorer.policy.scores(scorer.policy.batch(units))
    alone = torch.cat([scorer.policy.scores(scorer.policy.batch([unit])) for unit in units])
    padded = Policy(scorer.net, layout="padded", pad_id=int(units[0].examples[0].ids[-1]))
    for other in (alone, padded.scores(padded.batch(units))):
        torch.testing.assert_close(together, other, rtol=1e-6, atol=1e-6)


def test_the_score_is_read_at_the_end_of_turn(scorer, preferences, units_of):
    for unit in units_of(Reward(), preferences, scorer.tokenizer):
        for example in unit.examples:
            assert example.weights.tolist() == [0.0] * (len(example) - 1) + [1.0]
            assert int(example.ids[-1]) in scorer.tokenizer.eos_ids


def test_sides_swapped_is_the_sign_swapped(scorer, preferences, units_of):
    swapped = [{**row, "chosen": row["rejected"], "rejected": row["chosen"]} for row in preferences]
    one, other = (
        backward(scorer.policy, Reward(), units_of(Reward(), rows, scorer.tokenizer)).figures
        for rows in (preferences, swapped)
    )
    assert one["margin"] == pytest.approx(-other["margin"], rel=1e-5)
    assert one["accuracy"] == pytest.approx(1 - other["accuracy"])
    assert one["centring_loss"] == pytest.approx(other["centring_loss"], rel=1e-5)


def test_scored_answers_become_all_pairs(scorer):
    answers = [{"content": word, "score": score} for word, score in (("a", 1), ("b", 2), ("c", 3))]
    row = {"messages": [{"role": "user", "content": "q"}], "answers": answers, "origin": "x:1"}
    from tunesmith.text.encode import Text

    units = Reward().units(row, Text(scorer.tokenizer), None)
    assert len(units) == 3 and len(Reward(pairs="best").units(row, Text(scorer.tokenizer), None)) == 2


def test_training_tells_the_answers_apart(scorer, preferences, units_of):
    from tunesmith.train.loop import loop
    from tunesmith.train.optim import Optimizer

    units = units_of(Reward(), preferences, scorer.tokenizer)
    optimizer = Optimizer(scorer.net.named_parameters())
    steps = list(loop(scorer.policy, Reward(), units, optimizer, steps=30, batch_size=4, lr=3e-3))
    assert steps[-1].stats.figures["accuracy"] == 1.0 and steps[-1].stats.figures["margin"] > 1.0


@pytest.mark.parametrize("settings", [{"centring": -1}, {"margin": -1}])
def test_settings_that_mean_nothing_are_refused(settings):
    with pytest.raises(SettingError):
        Reward(**settings)
