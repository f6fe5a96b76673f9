"""sft: the loss of the answers, divided by their tokens; every turn's stop is learned, and learned to be said."""

import math

import numpy as np
import pytest
import torch

from tunesmith.model.load import load
from tunesmith.objectives.sft import Sft
from tunesmith.step.step import backward
from tunesmith.testing import check_objective
from tunesmith.text.encode import Text
from tunesmith.train.loop import loop
from tunesmith.train.optim import Optimizer

ROWS = [
    {
        "messages": [{"role": "user", "content": f"say {word}"}, {"role": "assistant", "content": word}],
        "origin": f"a.jsonl:{i}",
    }
    for i, word in enumerate(["red", "blue", "yes", "no"], start=1)
]


@pytest.fixture(scope="module")
def pico():
    return load("pico", seed=1)


def units_of(model, rows=ROWS, **settings):
    text = Text(model.tokenizer, **settings)
    return [unit for row in rows for unit in Sft().units(row, text, np.random.default_rng(0))]


def test_keeps_what_the_shelf_promises():
    check_objective(Sft())


def test_the_loss_is_the_mean_over_the_answers_tokens(pico):
    """Closed form: a model that gives each of V tokens the same probability has the loss ln V."""
    model = load("pico", seed=3)
    model.net.get_input_embeddings().weight.data.zero_()  # tied: all logits are 0
    stats = backward(model.policy, Sft(), units_of(model))
    assert stats.loss == pytest.approx(math.log(model.tokenizer.vocab_size), rel=1e-6)
    assert stats.figures == pytest.approx({"loss": stats.loss, "accuracy": 0.0})


def test_prompts_are_read_and_not_trained_on(pico):
    units = units_of(pico)
    for unit, row in zip(units, ROWS):
        example = unit.examples[0]
        trained = example.ids[example.weights > 0]
        assert pico.tokenizer.decode(trained.tolist()) == row["messages"][1]["content"]
        assert int(trained[-1]) in pico.tokenizer.eos_ids
        assert unit.origin == row["origin"]


def test_changing_prompt_tokens_that_nobody_predicts_moves_no_target(pico):
    batch = pico.policy.batch(units_of(pico))
    assert len(batch.target) == sum(len(row["messages"][1]["content"].encode()) + 1 for row in ROWS)


def test_every_turn_is_trained_on_unless_it_says_no(pico):
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "bb"}, {"role": "user", "content": "c"},
             {"role": "assistant", "content": "dddd"}]  # fmt: skip

    def trained(messages):
        return sum(e.num_trained for u in units_of(pico, [{"messages": messages, "origin": "x:1"}]) for e in u.examples)

    assert trained(turns) == 3 + 5
    assert trained([turns[0], {**turns[1], "train": False}, *turns[2:]]) == 5


def test_after_training_greedy_decoding_says_the_answer_and_stops():
    from tunesmith.model.generate import generate

    model = load("pico", seed=1)
    text, units = Text(model.tokenizer), units_of(model)
    optimizer = Optimizer(model.net.named_parameters())
    steps = list(loop(model.policy, Sft(), units, optimizer, steps=200, batch_size=4, lr=1e-2))
    assert steps[-1].stats.loss < 0.1
    model.net.eval()
    prompts = [text.prompt(row["messages"][:1]) for row in ROWS]
    answers = generate(model, prompts, max_tokens=20, eos_ids=text.stops)
    assert [answer.text for answer in answers] == [row["messages"][1]["content"] for row in ROWS]
    assert {answer.finish for answer in answers} == {"stop"}


def test_accuracy_counts_tokens_above_one_half(pico):
    units = units_of(pico)
    with torch.no_grad():
        logp = pico.policy.logprobs(pico.policy.batch(units))
    figures = backward(pico.policy, Sft(), units).figures
    pico.net.zero_grad(set_to_none=True)
    assert figures["accuracy"] == pytest.approx(float((logp > math.log(0.5)).float().mean()))
