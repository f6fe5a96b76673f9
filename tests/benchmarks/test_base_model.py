"""Bits per byte: every token charged once, equal to a plain forward where one window is enough."""

import math

import numpy as np
import pytest
import torch
from benchmarks.base_model import compressors, model_bits, windows
from hypothesis import given
from hypothesis import strategies as st
from transformers import LlamaConfig, LlamaForCausalLM


@given(length=st.integers(1, 200), context=st.integers(2, 40), share=st.floats(0.05, 1))
def test_each_token_is_scored_once_and_no_window_is_too_long(length: int, context: int, share: float) -> None:
    stride = max(1, int(context * share))
    scored = []
    for begin, end, first in windows(length, context, stride):
        assert 0 <= begin <= first < end <= length
        assert end - begin <= context
        assert first == 0 or first - begin >= context - stride
        scored += range(first, end)
    assert scored == list(range(length))


@pytest.fixture(scope="module")
def model() -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=50,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=16,
    )
    return LlamaForCausalLM(config).eval()


def costs(model: LlamaForCausalLM, ids: np.ndarray) -> np.ndarray:
    """Bits of ids[1:] by one plain forward."""
    with torch.no_grad():
        logp = model(torch.tensor(ids)[None]).logits[0, :-1].log_softmax(-1)
    return -logp.gather(1, torch.tensor(ids[1:])[:, None])[:, 0].double().numpy() / math.log(2)


def test_a_short_document_costs_what_a_plain_forward_says(model: LlamaForCausalLM) -> None:
    ids = np.random.default_rng(0).integers(0, 50, 12)
    bits = model_bits(model, None, ids, 16, 8)
    assert bits[0] == math.log2(50)
    np.testing.assert_allclose(bits[1:], costs(model, ids), rtol=1e-5)
    with_start = model_bits(model, 3, ids, 16, 8)
    np.testing.assert_allclose(with_start, costs(model, np.concatenate([[3], ids])), rtol=1e-5)


def test_a_long_document_goes_through_windows(model: LlamaForCausalLM) -> None:
    ids = np.random.default_rng(1).integers(0, 50, 37)
    bits = model_bits(model, None, ids, 16, 4)
    assert len(bits) == 37
    wanted = [math.log2(50), *costs(model, ids[:16])]
    for end in (20, 24, 28, 32, 36):
        wanted += costs(model, ids[end - 16 : end])[-4:].tolist()
    wanted += costs(model, ids[37 - 16 :])[-1:].tolist()
    np.testing.assert_allclose(bits, wanted, rtol=1e-5)
    one_by_one = model_bits(model, None, ids, 16, 16)  # windows that do not overlap: their first token has no context
    assert one_by_one[16] == math.log2(50)


def test_known_text_costs_xz_almost_nothing() -> None:
    rng = np.random.default_rng(0)
    texts = ["".join(chr(97 + int(letter)) for letter in rng.integers(0, 26, 2000)) for _ in range(3)]
    sizes = compressors(texts, texts[1:2])["xz"]
    assert sizes["given_train_bytes"] < 0.1 * sizes["alone_bytes"]
