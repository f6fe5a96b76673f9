import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from tunesmith.model.sampling import choose, draw, nucleus, penalise, uniforms


def test_penalties_are_openais():
    logits = torch.tensor([[1.0, 1.0, 1.0, -2.0]])
    counts = torch.tensor([[0.0, 1.0, 3.0, 2.0]])
    found = penalise(logits, counts, frequency=0.5, presence=0.25)
    # mu[j] - c[j] * alpha_frequency - float(c[j] > 0) * alpha_presence
    assert found.tolist() == [[1.0, 1 - 0.5 - 0.25, 1 - 1.5 - 0.25, -2 - 1.0 - 0.25]]


def test_presence_penalty_is_flat_and_frequency_grows_with_the_count():
    counts = torch.tensor([[0.0, 1.0, 7.0]])
    presence = penalise(torch.zeros(1, 3), counts, frequency=0.0, presence=1.5)
    frequency = penalise(torch.zeros(1, 3), counts, frequency=1.5, presence=0.0)
    assert presence.tolist() == [[0.0, -1.5, -1.5]]
    assert frequency.tolist() == [[0.0, -1.5, -10.5]]


def smallest_set(probs: list[float], top_p: float) -> set[int]:
    """By definition: add the likeliest until the mass is there."""
    chosen, mass = set(), 0.0
    for token in sorted(range(len(probs)), key=lambda i: -probs[i]):
        if mass >= top_p:
            break
        chosen.add(token)
        mass += probs[token]
    return chosen


@given(st.lists(st.floats(-6, 6), min_size=1, max_size=40), st.floats(0.01, 0.99))
@settings(max_examples=100, deadline=None)
def test_nucleus_is_the_smallest_set_with_that_mass(scores, top_p):
    probs = torch.tensor([scores], dtype=torch.float64).softmax(-1)
    found = nucleus(probs, top_p)[0]
    kept, dropped = probs[0][found > 0], probs[0][found == 0]
    assert torch.equal(found[found > 0], kept)
    assert kept.sum() >= top_p - 1e-12
    assert kept.sum() - kept.min() < top_p + 1e-12  # without any of them the mass would not be there
    assert not len(dropped) or kept.min() >= dropped.max()


def test_nucleus_looks_beyond_its_first_try():
    probs = torch.full((2, 1000), 1 / 1000)
    probs[1] = torch.tensor([0.9] + [0.1 / 999] * 999)
    kept = (nucleus(probs, 0.6005) > 0).sum(-1)
    assert kept.tolist() == [601, 1]


def test_draw_follows_the_probabilities():
    probs = torch.tensor([0.05, 0.0, 0.4, 0.25, 0.3])
    number = torch.from_numpy(uniforms([1] * 20_000, range(20_000)))
    tokens = draw(probs.expand(20_000, 5), number)
    counts = np.bincount(tokens.numpy(), minlength=5)
    assert counts[1] == 0
    assert chisquare(counts[[0, 2, 3, 4]], 20_000 * np.array([0.05, 0.4, 0.25, 0.3])).pvalue > 1e-4


@pytest.mark.parametrize("uniform", [0.0, 0.5, 1 - 2**-53])
def test_draw_never_takes_a_token_without_probability(uniform):
    probs = torch.tensor([[0.0, 0.3, 0.0, 0.7, 0.0]])
    assert draw(probs, torch.tensor([uniform], dtype=torch.float64)).item() in (1, 3)


def test_every_drawn_token_is_in_the_nucleus():
    torch.manual_seed(0)
    logits = torch.randn(1, 50).expand(5000, 50)
    allowed = smallest_set(logits[0].double().softmax(-1).tolist(), 0.7)
    tokens, _, _ = choose(logits, torch.from_numpy(uniforms(range(5000), [0] * 5000)), temperature=1.0, top_p=0.7)
    assert set(tokens.tolist()) == allowed


def test_temperature_zero_takes_the_largest_and_repeats():
    torch.manual_seed(0)
    logits = torch.randn(6, 30)
    for _ in range(3):
        tokens, logprobs, sampled = choose(logits, None, temperature=0.0)
        assert torch.equal(tokens, logits.argmax(-1))
        assert torch.allclose(logprobs, logits.log_softmax(-1).amax(-1))
        assert sampled.tolist() == [0.0] * 6


def test_tiny_temperature_is_greedy_not_nan():
    logits = torch.tensor([[1.0, 60.0, 59.0]])
    tokens, _, sampled = choose(logits, torch.tensor([0.99]), temperature=1e-30)
    assert tokens.tolist() == [1] and sampled.tolist() == [0.0]


def test_entropy_rises_with_temperature():
    torch.manual_seed(0)
    logits = (2 * torch.randn(1, 40)).expand(4000, 40)
    uniform = torch.from_numpy(uniforms(range(4000), [3] * 4000))
    entropies = []
    for temperature in (0.0, 0.3, 0.7, 1.0, 1.5, 3.0):
        tokens, _, _ = choose(logits, uniform, temperature=temperature)
        share = np.bincount(tokens.numpy(), minlength=40) / 4000
        entropies.append(-sum(p * math.log(p) for p in share if p))
    assert entropies[0] == 0.0
    assert all(low + 0.05 < high for low, high in pairwise(entropies))


def test_both_logprobs_are_of_the_distributions_they_name():
    torch.manual_seed(0)
    logits, counts = torch.randn(1, 12), torch.zeros(1, 12)
    counts[0, 3] = 2
    settings = {"temperature": 0.7, "top_p": 0.8, "frequency_penalty": 0.4, "presence_penalty": 0.3}
    token, logprob, sampled = choose(logits, torch.tensor([0.6]), counts=counts, **settings)
    plain = logits.log_softmax(-1)
    shaped = logits.clone()
    shaped[0, 3] -= 2 * 0.4 + 0.3
    shaped = (shaped / 0.7).softmax(-1)[0]
    inside = smallest_set(shaped.tolist(), 0.8)
    mass = sum(shaped[i].item() for i in inside)
    assert token.item() in inside
    assert logprob.item() == pytest.approx(plain[0, token].item(), abs=1e-6)
    assert sampled.item() == pytest.approx(math.log(shaped[token].item() / mass), abs=1e-5)


def test_uniforms_depend_on_seed_and_step_only():
    together = uniforms([5, 9, -3, 2**70], [0, 4, 1, 2])
    alone = [uniforms([seed], [step])[0] for seed, step in zip([5, 9, -3, 2**70], [0, 4, 1, 2])]
    assert together.tolist() == alone
    assert ((together >= 0) & (together < 1)).all()
    assert len(set(uniforms(range(100), [0] * 100))) == 100


@pytest.mark.parametrize("along", ["seeds", "steps"])
def test_uniforms_are_uniform(along):
    same, counting = [7] * 20_000, range(20_000)
    numbers = uniforms(counting, same) if along == "seeds" else uniforms(same, counting)
    assert chisquare(np.histogram(numbers, bins=50, range=(0, 1))[0]).pvalue > 1e-4
    assert abs(np.corrcoef(numbers[:-1], numbers[1:])[0, 1]) < 0.03
