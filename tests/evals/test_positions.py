"""Loss by position: every token counted once at its place, whatever the batch; differences are paired."""

import math

import numpy as np
import pytest
import torch

from tunesmith.core.errors import DataError, SpaceError
from tunesmith.evals.perplexity import perplexity
from tunesmith.evals.positions import by_position, compare
from tunesmith.model.load import load

TEXTS = ["a" * 50 + "b" * 30, "가나다라마바사" * 3, "short"]


@pytest.fixture(scope="module")
def pico():
    return load("pico", seed=1)


def test_the_sum_is_that_of_the_whole_text(pico):
    found = by_position(pico, TEXTS, length=128, stretches=4)
    assert found.edges == (0, 32, 64, 96, 128)
    whole = perplexity(pico, TEXTS, context=512)
    assert found.nats.sum() == pytest.approx(whole.nll, rel=1e-6)
    assert found.tokens.sum() == whole.tokens
    assert found.tokens[2].tolist() == [4, 0, 0, 0]
    assert found.tokens[0].tolist() == [31, 32, 16, 0]
    assert np.isnan(found.loss()[3])


def test_each_token_is_counted_where_it_stands(pico):
    found = by_position(pico, TEXTS[:1], length=80, stretches=80)
    ids = torch.tensor([pico.tokenizer.encode(TEXTS[0])])
    with torch.no_grad():
        logp = torch.log_softmax(pico.net(input_ids=ids).logits[0, :-1].double(), -1)
    expected = -logp.gather(1, ids[0, 1:, None])[:, 0].numpy()
    assert found.nats[0, 1:] == pytest.approx(expected, rel=1e-4)
    assert found.tokens[0].tolist() == [0] + [1] * 79


def test_batches_change_nothing(pico):
    one = by_position(pico, TEXTS, length=128, pass_tokens=1)
    other = by_position(pico, TEXTS, length=128)
    assert one.nats == pytest.approx(other.nats, rel=1e-5)


def test_differences_are_paired_by_text(pico):
    found = by_position(pico, TEXTS, length=64, stretches=2)
    other = by_position(load("pico", seed=2), TEXTS, length=64, stretches=2)
    value, low, high = found.minus(other)[0]
    each = (found.nats[:, 0] - other.nats[:, 0]) / found.tokens[:, 0]
    assert value == pytest.approx(each.mean())
    assert low < value < high
    assert found.minus(found)[0] == (0, 0, 0)
    table = compare([("before", found), ("after", other)])
    assert "0-31" in table and f"{found.loss()[0]:.3f}" in table and "to" in table
    with pytest.raises(DataError):
        found.minus(by_position(pico, TEXTS, length=32, stretches=2))


def test_a_model_that_knows_nothing_is_flat():
    model = load("pico", seed=3)
    model.net.get_input_embeddings().weight.data.zero_()
    found = by_position(model, TEXTS[:2], length=48, stretches=3)
    assert found.loss() == pytest.approx([math.log(model.tokenizer.vocab_size)] * 3, rel=1e-6)


def test_more_than_the_context_is_refused(pico):
    with pytest.raises(SpaceError, match="yarn"):
        by_position(pico, TEXTS, length=4096)
    with pytest.raises(DataError):
        by_position(pico, [""])
