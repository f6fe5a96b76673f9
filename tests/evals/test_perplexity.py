"""Perplexity against transformers' own loss, windows against a plain loop, and bits against counted bytes."""

import math

import numpy as np
import pytest
import torch

from tunesmith.core.errors import DataError, SettingError
from tunesmith.evals.perplexity import perplexity, surprises
from tunesmith.model.load import load
from tunesmith.text.tokenizer import byte_tokenizer

TEXTS = ["Hello, world.", "안녕하세요, 세상!", "a", "The quick brown fox jumps over the lazy dog. " * 3]


def nll_of(net, ids, begin):
    with torch.no_grad():
        logp = torch.log_softmax(net(input_ids=torch.tensor([ids]), use_cache=False).logits[0].float(), -1)
    return sum(-logp[i - 1, ids[i]].item() for i in range(begin, len(ids)))


def test_equals_transformers_loss(pico):
    text = TEXTS[0]
    ids = torch.tensor([pico.tokenizer.encode(text)])
    with torch.no_grad():
        loss = pico.net(input_ids=ids, labels=ids).loss.item()
    found = perplexity(pico, [text])
    assert found.cross_entropy == pytest.approx(loss, abs=1e-5) and found.perplexity == pytest.approx(
        math.exp(loss), rel=1e-5
    )
    assert (found.tokens, found.bytes, found.characters) == (12, 12, 12)  # the first byte is predicted from nothing
    assert found.bits_per_byte == pytest.approx(loss / math.log(2), abs=1e-5)


def test_sums_over_texts_bytes_and_characters(pico):
    found = perplexity(pico, TEXTS)
    wanted = sum(nll_of(pico.net, pico.tokenizer.encode(text), 1) for text in TEXTS)
    assert found.nll == pytest.approx(wanted, rel=1e-5)
    assert found.bytes == sum(len(text.encode()) - 1 for text in TEXTS) == found.tokens  # a byte is a token here
    assert found.bits_per_character > found.bits_per_byte  # Hangul has three bytes
    assert len(found.texts) == 3  # "a" has nothing to predict


def test_uniform_first_token_makes_a_code_length(pico):
    skip, uniform = perplexity(pico, TEXTS), perplexity(pico, TEXTS, first="uniform")
    vocab = pico.tokenizer.vocab_size
    assert uniform.nll == pytest.approx(skip.nll + 4 * math.log(vocab), rel=1e-6)
    assert uniform.bytes == sum(len(text.encode()) for text in TEXTS)


@pytest.mark.parametrize("context, stride", [(16, 8), (16, 1), (16, 15), (7, 3), (512, 256)])
def test_windows_predict_each_token_once_with_enough_before_it(pico, context, stride):
    text = TEXTS[3]
    ids = pico.tokenizer.encode(text)
    wanted, done, at = 0.0, 1, 0
    while done < len(ids):
        end = min(at + context, len(ids))
        wanted += nll_of(pico.net, ids[at:end], done - at)
        done, at = end, at + stride
    found = perplexity(pico, [text], context=context, stride=stride)
    assert found.nll == pytest.approx(wanted, rel=1e-5) and found.tokens == len(ids) - 1


def test_neither_batches_nor_order_change_the_sums(pico):
    whole = perplexity(pico, TEXTS)
    assert perplexity(pico, iter(TEXTS), pass_tokens=20).nll == pytest.approx(whole.nll, rel=1e-6)
    assert perplexity(pico, TEXTS[::-1]).nll == pytest.approx(whole.nll, rel=1e-6)


def test_a_model_with_bos_predicts_the_first_token_too():
    model = load("pico", seed=0)
    model.tokenizer = byte_tokenizer()
    model.tokenizer.prefix_ids = [0]
    found = perplexity(model, ["Hello"])
    assert found.tokens == found.bytes == 5 and found.first == "BOS"
    assert found.nll == pytest.approx(nll_of(model.net, [0, *model.tokenizer.encode("Hello")], 1), rel=1e-5)


def test_interval_over_texts_or_windows(pico):
    many = [f"text number {i} about {'rain' * (i % 4)}" for i in range(30)]
    summary = perplexity(pico, many).summary()
    assert summary.better == "lower" and summary.n == 30 and summary.extra["interval_over"] == "texts"
    assert summary.low < summary.value < summary.high
    ratio = np.array([perplexity(pico, [text]).bits_per_byte for text in many])
    assert summary.high - summary.low == pytest.approx(4 * ratio.std() / math.sqrt(30), rel=0.5)
    single = perplexity(pico, [TEXTS[3] * 5], context=64).summary()
    assert single.extra["interval_over"] == "windows" and single.low < single.value < single.high


def test_refusals(pico):
    for settings in ({"context": 1}, {"context": 99_999}, {"context": 16, "stride": 16}, {"stride": 0}):
        with pytest.raises(SettingError):
            perplexity(pico, TEXTS, **settings)
    with pytest.raises(DataError, match="no text"):
        perplexity(pico, ["", "a"])


def test_of_each_text_alone(pico):
    texts = ["", "a", *TEXTS]
    found = surprises(pico, texts)
    assert found[0] == found[1] == (0.0, 0, 0)  # nothing to predict
    for text, (nats, tokens, size) in zip(TEXTS, found[2:], strict=True):
        if len(text) > 1:
            alone = perplexity(pico, [text])
            assert nats == pytest.approx(alone.nll, rel=1e-5) and (tokens, size) == (alone.tokens, alone.bytes)
    assert surprises(pico, ["", "a"]) == [(0.0, 0, 0)] * 2 and surprises(pico, []) == []
