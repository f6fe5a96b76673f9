"""Attention over packed documents against plain softmax attention, on every path: short, fused, windowed, softcapped, GQA."""

from itertools import accumulate, pairwise

import pytest
import torch

from tunesmith.model.attention import segment_attention
from tunesmith.model.segments import SHORT, Segments, attend


def reference(query, key, value, scale, softcap=None, window=None):
    """(time, heads, dim): attention of one document, by the book, in its dtype."""
    groups = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(groups, dim=1), value.repeat_interleave(groups, dim=1)
    scores = torch.einsum("ihd,jhd->hij", query, key) * scale
    if softcap is not None:
        scores = softcap * torch.tanh(scores / softcap)
    distance = torch.arange(len(query))[:, None] - torch.arange(len(query))[None]
    seen = (distance >= 0) & (distance < (window or len(query)))
    return torch.einsum("hij,jhd->ihd", torch.softmax(scores.masked_fill(~seen, float("-inf")), dim=-1), value)


def draw(tokens, heads=4, groups=2, dim=8, dtype=torch.float64, seed=0):
    torch.manual_seed(seed)
    shapes = ((tokens, heads, dim), (tokens, groups, dim), (tokens, groups, dim))
    return [torch.randn(s, dtype=dtype).requires_grad_() for s in shapes]


def by_document(parts, bounds, **settings):
    return torch.cat([reference(*(x[a:b] for x in parts), **settings) for a, b in pairwise(bounds)])


BOUNDS = {
    "one": (0, 9),
    "ragged": (0, 1, 6, 13),
    "equal": (0, 5, 10, 15),
    "mixed": (0, 4, 8, 15, 16, 17),
    "long": (0, 3, 3 + SHORT[torch.float32] + 9),
    "short_and_long": (0, 4, 8, 8 + SHORT[torch.float32] + 5, 8 + 2 * (SHORT[torch.float32] + 5)),
}


@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("name", BOUNDS)
def test_values_and_gradients_in_float64(name, groups):
    bounds = BOUNDS[name]
    parts = draw(bounds[-1], groups=groups)
    ours, wanted = attend(*parts, Segments(bounds), 0.3), by_document(parts, bounds, scale=0.3)
    assert torch.allclose(ours, wanted, rtol=1e-9, atol=1e-10)
    weight = torch.randn_like(wanted)
    for mine, theirs in zip(
        torch.autograd.grad((ours * weight).sum(), parts), torch.autograd.grad((wanted * weight).sum(), parts)
    ):
        assert torch.allclose(mine, theirs, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize(
    "settings", [{}, {"softcap": 1.5}, {"sliding_window": 4}, {"softcap": 1.5, "sliding_window": 4}]
)
@pytest.mark.parametrize("name", ["one", "mixed", "ragged"])
def test_the_function_given_to_transformers(name, settings):
    bounds = BOUNDS[name]
    parts = draw(bounds[-1])
    laid = [x.transpose(0, 1)[None] for x in parts]  # (1, heads, time, dim)
    ours, none = segment_attention(torch.nn.Module(), *laid, None, scaling=0.3, segments=bounds, **settings)
    wanted = by_document(
        parts, bounds, scale=0.3, softcap=settings.get("softcap"), window=settings.get("sliding_window")
    )
    assert none is None
    assert torch.allclose(ours[0], wanted, rtol=1e-6, atol=1e-7)
    weight = torch.randn_like(wanted)
    for mine, theirs in zip(
        torch.autograd.grad((ours[0] * weight).sum(), parts), torch.autograd.grad((wanted * weight).sum(), parts)
    ):
        assert torch.allclose(mine, theirs, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_low_precision_stays_near_float64(dtype):
    bounds = BOUNDS["mixed"]
    parts = draw(bounds[-1], dtype=dtype)
    wanted = by_document([p.detach().double() for p in parts], bounds, scale=0.3)
    tolerance = 1e-5 if dtype == torch.float32 else 3e-2
    assert (attend(*parts, Segments(bounds), 0.3).double() - wanted).abs().max() <= tolerance


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("name", ["equal", "mixed", "short_and_long"])
def test_nothing_crosses_a_border(name, dtype):
    """Other tokens in the first document: the others' outputs keep every bit, and their loss gives it no gradient."""
    bounds = BOUNDS[name]
    parts, others = draw(bounds[-1], dtype=dtype), draw(bounds[-1], dtype=dtype, seed=1)
    cut = bounds[1]
    changed = [torch.cat([o[:cut], p[cut:]]) for p, o in zip(parts, others)]
    before, after = (attend(*x, Segments(bounds), 0.3) for x in (parts, changed))
    assert torch.equal(before[cut:], after[cut:])
    for gradient in torch.autograd.grad(before[cut:].float().sum(), parts):
        assert not gradient[:cut].any()


def test_a_later_token_changes_nothing_before_it():
    parts, others = draw(9), draw(9, seed=1)
    changed = [torch.cat([p[:6], o[6:]]) for p, o in zip(parts, others)]
    assert torch.equal(attend(*parts, Segments((0, 9)), 0.3)[:6], attend(*changed, Segments((0, 9)), 0.3)[:6])


def groups_of(sizes, short=144):
    return Segments((0, *accumulate(sizes))).layout(short, 4, 2, torch.device("cpu")).groups


def test_documents_of_like_length_are_computed_together_wherever_they_lie():
    assert groups_of([12, 300, 10, 12]) == ((1, 300, True), (3, 12, False))
    few, many = groups_of([140] * 4 + [20] * 4), groups_of([140, 100, 60, 20] * 8)
    assert few == ((4, 140, False), (4, 20, False))
    assert len(many) > 1 and sum(number for number, _, _ in many) == 32
    assert groups_of([0, 7, 0]) == ((1, 7, False),)


@pytest.mark.parametrize("seed", range(5))
def test_documents_filled_up_to_a_group_equal_them_one_by_one(seed):
    rng = torch.Generator().manual_seed(seed)
    sizes = torch.randint(1, 30, (23,), generator=rng).tolist()
    bounds = (0, *accumulate(sizes))
    assert any(number > 1 for number, _, _ in groups_of(sizes))
    parts = draw(bounds[-1], seed=seed)
    together, alone = attend(*parts, Segments(bounds), 0.3), by_document(parts, bounds, scale=0.3)
    assert torch.allclose(together, alone, rtol=1e-12, atol=1e-13)
    out = torch.randn(together.shape, dtype=together.dtype, generator=rng)
    for mine, theirs in zip(torch.autograd.grad(together, parts, out), torch.autograd.grad(alone, parts, out)):
        assert torch.allclose(mine, theirs, rtol=1e-11, atol=1e-12)


def test_arguments_that_are_not_implemented_are_refused():
    laid = [x.transpose(0, 1)[None] for x in draw(5)]
    with pytest.raises(NotImplementedError, match="s_aux"):
        segment_attention(torch.nn.Module(), *laid, None, segments=(0, 5), s_aux=torch.zeros(4))
    with pytest.raises(ValueError, match="one row of 9 tokens"):
        segment_attention(torch.nn.Module(), *laid, None, segments=(0, 9))
