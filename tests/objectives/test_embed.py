"""embed: InfoNCE by hand, one step's negatives whatever the passes, and a model that learns who belongs together."""

import numpy as np
import pytest
import torch

from tunesmith.core.errors import SettingError
from tunesmith.model.load import load
from tunesmith.model.policy import Policy
from tunesmith.model.vectors import vectors
from tunesmith.objectives.embed import Embed
from tunesmith.step.step import backward
from tunesmith.testing import check_objective
from tunesmith.text.encode import Text
from tunesmith.train.loop import loop
from tunesmith.train.optim import Optimizer

PAIRS = [
    ("how do I pay?", "payment"),
    ("where is it?", "the place"),
    ("who", "a person called Kim"),
    ("why not", "a reason"),
]
ROWS = [{"text": a, "text2": b, "origin": f"a:{n}"} for n, (a, b) in enumerate(PAIRS)]


def ready(name="pico", rows=ROWS, dtype="fp64", **settings):
    model, objective = load(name, kind="embed", dtype=dtype, seed=1), Embed(**settings)
    model.net.requires_grad_(True)
    text = Text(model.tokenizer, length=64)
    return (
        model,
        objective,
        [u for n, row in enumerate(rows) for u in objective.units(row, text, np.random.default_rng([0, n]))],
    )


def by_hand(model, rows, temperature=0.05, both_ways=True):
    """Mean cross-entropy of the partner among all other texts of the step."""
    states = []
    for row in rows:
        for key in ("text", "text2"):
            ids = torch.tensor([model.tokenizer.around(row[key])[0]])
            states.append(model.net(input_ids=ids).last_hidden_state[0].mean(0))
    states = torch.nn.functional.normalize(torch.stack(states), dim=1)
    scores = (states @ states.T / temperature).fill_diagonal_(-1e9)
    right = torch.arange(len(states)).view(-1, 2).flip(1).flatten()
    each = torch.nn.functional.cross_entropy(scores, right, reduction="none")
    return each.mean() if both_ways else each[::2].mean()


def test_keeps_what_the_shelf_promises():
    check_objective(Embed())


@pytest.mark.parametrize("name", ["pico", "pico-encoder"])
@pytest.mark.parametrize("both_ways", [True, False])
def test_the_loss_is_infonce_over_the_step(name, both_ways, gradients):
    model, objective, units = ready(name, both_ways=both_ways)
    stats = backward(model.policy, objective, units)
    got = gradients(model.net)
    loss = by_hand(model, ROWS, both_ways=both_ways)
    assert stats.loss == pytest.approx(float(loss.detach()), abs=1e-6)
    loss.backward()
    for key, wanted in gradients(model.net).items():
        assert (got[key] - wanted).abs().max() < 1e-5 * max(1.0, float(wanted.abs().max())), key
    assert set(stats.figures) == set(objective.figures)


@pytest.mark.parametrize("name", ["pico", "pico-encoder"])
def test_passes_layout_and_order_cannot_change_loss_or_gradient(name, gradients):
    model, objective, units = ready(name)
    whole = backward(model.policy, objective, units)
    wanted = gradients(model.net)
    policies = (
        [model.policy] if name == "pico-encoder" else [model.policy, Policy(model.net, layout="padded", pad_id=40)]
    )
    for policy in policies:
        for pass_tokens, order in ((1, units), (60, units[::-1])):
            part = backward(policy, objective, order, pass_tokens=pass_tokens)
            assert part.num_passes > 1 and part.loss == pytest.approx(whole.loss, abs=1e-9)
            assert part.figures == pytest.approx(whole.figures, abs=1e-6)
            for key, value in gradients(model.net).items():
                assert (value - wanted[key]).abs().max() < 1e-8 * max(1.0, float(wanted[key].abs().max())), key


def test_texts_of_one_meaning_are_no_strangers():
    """Two pairs with the same second text: neither is told to push the other away."""
    twice = [{**ROWS[0]}, {"text": "what does it cost", "text2": "payment", "origin": "a:9"}]
    model, objective, units = ready(rows=twice)
    assert backward(model.policy, objective, units).loss == pytest.approx(0.0, abs=1e-9)  # nobody else to be nearer


def test_given_negatives_are_candidates_that_do_not_search():
    rows = [{**ROWS[0], "negatives": ["a house", "a hat"]}]
    model, objective, units = ready(rows=rows)
    assert len(units[0].examples) == 4
    states = torch.nn.functional.normalize(vectors(model.policy, model.policy.batch(units)), dim=1)
    scores = (states @ states.T / 0.05).fill_diagonal_(-1e9)
    wanted = torch.nn.functional.cross_entropy(scores[:2], torch.tensor([1, 0]))
    assert backward(model.policy, objective, units).loss == pytest.approx(float(wanted.detach()), abs=1e-6)


def test_pairs_are_drawn_from_groups_and_low_scores_left_out():
    rows = [{"texts": ["a b", "c d", "e f"], "group": "1", "origin": "g:1"}, {"texts": ["alone"], "origin": "g:2"}]
    _, objective, units = ready(rows=rows, pairs_of_group=5)
    assert len(units) == 5 and all(len(unit.examples) == 2 for unit in units)
    assert len({tuple(unit.examples[0].ids) for unit in units}) > 1
    text = Text(load("pico").tokenizer)
    left = objective.units({**ROWS[0], "score": 0.2}, text, np.random.default_rng(0))
    assert not left and left.dropped == ("score below 0.5",)


@pytest.mark.parametrize("layout", ["packed", "padded"])
def test_a_vector_is_the_mean_of_its_own_tokens(layout):
    model, _, units = ready()
    policy = Policy(model.net, layout=layout, pad_id=40)
    got = vectors(policy, policy.batch(units))
    for states, example in zip(got, (e for unit in units for e in unit.examples)):
        wanted = model.net(input_ids=torch.tensor(example.ids, dtype=torch.int64)[None]).last_hidden_state[0].mean(0)
        assert (states - wanted).abs().max() < 1e-5


def test_it_learns_who_belongs_together():
    model, objective, units = ready(dtype="fp32")
    optimizer = Optimizer(list(model.net.named_parameters()), kind="adamw", lr=1e-2)
    steps = list(loop(model.policy, objective, units, optimizer, steps=60, batch_size=4, lr=1e-2, seed=0))
    assert steps[-1].stats.figures["accuracy"] == 1.0 and steps[-1].stats.loss < 0.1


def test_impossible_settings_are_refused():
    for wrong in ({"temperature": 0.0}, {"pairs_of_group": 0}):
        with pytest.raises(SettingError):
            Embed(**wrong)
