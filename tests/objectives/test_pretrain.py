"""pretrain: every token of a text but the first, long texts in pieces, nothing lost."""

import math

import numpy as np
import pytest

from tunesmith.model.load import load
from tunesmith.objectives.pretrain import Pretrain
from tunesmith.step.step import backward
from tunesmith.testing import check_objective
from tunesmith.text.encode import Text


@pytest.fixture(scope="module")
def pico():
    return load("pico", seed=1)


def units_of(model, text, **settings):
    row = {"text": text, "origin": "book.txt:1"}
    return Pretrain().units(row, Text(model.tokenizer, too_long="split", **settings), np.random.default_rng(0))


def test_keeps_what_the_shelf_promises():
    check_objective(Pretrain())


def test_all_tokens_but_the_first_are_predicted_and_the_document_ends(pico):
    (unit,) = units_of(pico, "hello 세계", length=100)
    example = unit.examples[0]
    assert example.weights.tolist() == [0.0] + [1.0] * (len(example) - 1)
    assert example.ids[-1] == pico.tokenizer.eos
    assert pico.tokenizer.decode(example.ids[:-1].tolist()) == "hello 세계"
    assert unit.origin == "book.txt:1"


def test_a_long_text_is_split_and_nothing_is_lost(pico):
    text = "abcdefghij" * 12
    units = units_of(pico, text, length=32)
    assert len(units) > 1
    assert all(unit.num_tokens <= 32 for unit in units)
    ids = [int(i) for unit in units for i in unit.examples[0].ids]
    assert len(ids) >= 121
    assert pico.tokenizer.decode(ids).startswith("abcdefghij")
    whole = "".join(pico.tokenizer.decode(unit.examples[0].ids.tolist()) for unit in units)
    assert whole.count("j") >= 12


def test_the_loss_of_a_model_that_knows_nothing_is_ln_v():
    model = load("pico", seed=3)
    model.net.get_input_embeddings().weight.data.zero_()
    stats = backward(model.policy, Pretrain(), units_of(model, "some text", length=100))
    assert stats.loss == pytest.approx(math.log(model.tokenizer.vocab_size), rel=1e-6)
