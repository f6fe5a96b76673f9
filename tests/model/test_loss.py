"""Linear + cross-entropy in chunks against float64 autograd: any chunk size, softcap, bias, scale, weights, no targets."""

import pytest
import torch
import torch.nn.functional as F

from tunesmith.model import loss as room
from tunesmith.model.loss import Head, chunk_rows, logprobs, over_logits, weighted_nll

N, DIM, VOCAB = 23, 8, 31
HEADS = {
    "plain": {},
    "bias": {"bias": True},
    "softcap": {"softcap": 2.0},
    "scale": {"scale": 0.3},
    "all": {"bias": True, "softcap": 2.0, "scale": 0.3},
}


def inputs(dtype=torch.float64, bias=False, n=N):
    torch.manual_seed(0)
    hidden = torch.randn(n, DIM, dtype=torch.float64).to(dtype).requires_grad_()
    weight = torch.randn(VOCAB, DIM, dtype=torch.float64).to(dtype).requires_grad_()
    shift = torch.randn(VOCAB, dtype=torch.float64).to(dtype).requires_grad_() if bias else None
    return hidden, weight, shift, torch.randint(0, VOCAB, (n,)), torch.rand(n, dtype=torch.float64)


def plain_logits(hidden, weight, bias, softcap=None, scale=1.0):
    logits = F.linear(hidden, weight, bias) * scale
    return logits if softcap is None else softcap * torch.tanh(logits / softcap)


@pytest.fixture(params=[1, 7, N], ids=["chunk1", "chunk7", "one_chunk"])
def chunk(request, monkeypatch):
    monkeypatch.setattr(room, "chunk_rows", lambda vocab, num: request.param)
    return request.param


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("way", ["made_in_forward", "recomputed"])
def test_equals_autograd(chunk, head, way):
    settings = {"softcap": None, "scale": 1.0, **HEADS[head]}
    hidden, weight, bias, target, coefficient = inputs(bias=settings.pop("bias", False))
    leaves = [t for t in (hidden, weight, bias) if t is not None]
    wanted = (
        F.cross_entropy(plain_logits(hidden, weight, bias, **settings), target, reduction="none") * coefficient
    ).sum()
    gradients = torch.autograd.grad(wanted * 1.7, leaves)
    ours = Head(weight, bias, **settings)
    if way == "made_in_forward":
        total, logp = weighted_nll(hidden, target, coefficient, ours)
        assert not logp.requires_grad
    else:
        logp = logprobs(hidden, target, ours)
        total = -(logp * coefficient).sum()
    assert torch.allclose(total, wanted, rtol=1e-12)
    assert torch.allclose(
        logp, -F.cross_entropy(plain_logits(hidden, weight, bias, **settings), target, reduction="none")
    )
    for mine, theirs in zip(torch.autograd.grad(total * 1.7, leaves), gradients):
        assert torch.allclose(mine, theirs, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
    "way", [lambda *a: weighted_nll(*a)[0], lambda h, t, c, head: -(logprobs(h, t, head) * c).sum()]
)
def test_frozen_parts_get_no_gradient_and_change_nothing(chunk, way):
    hidden, weight, _, target, coefficient = inputs()
    both = torch.autograd.grad(way(hidden, target, coefficient, Head(weight)), [hidden, weight])
    frozen = way(hidden, target, coefficient, Head(weight.detach()))
    assert torch.equal(torch.autograd.grad(frozen, hidden)[0], both[0])
    frozen = way(hidden.detach(), target, coefficient, Head(weight))
    assert torch.equal(torch.autograd.grad(frozen, weight)[0], both[1])


def test_tokens_of_weight_zero_change_nothing(chunk):
    hidden, weight, _, target, coefficient = inputs()
    coefficient[::2] = 0
    total, _ = weighted_nll(hidden, target, coefficient, Head(weight))
    dx, dw = torch.autograd.grad(total, [hidden, weight])
    kept = slice(1, None, 2)
    fewer, _ = weighted_nll(hidden[kept].detach().requires_grad_(), target[kept], coefficient[kept], Head(weight))
    assert torch.allclose(total, fewer)
    assert not dx[::2].any()
    assert torch.allclose(dw, torch.autograd.grad(fewer, weight)[0])


@pytest.mark.parametrize("way", ["made_in_forward", "recomputed"])
def test_no_target_gives_zero_and_zero_gradients(way):
    hidden, weight, _, target, coefficient = inputs(n=0)
    if way == "made_in_forward":
        total, logp = weighted_nll(hidden, target, coefficient, Head(weight))
    else:
        logp = logprobs(hidden, target, Head(weight))
        total = -(logp * coefficient).sum()
    assert float(total.detach()) == 0
    assert len(logp) == 0
    total.backward()
    assert hidden.grad is not None
    assert torch.isfinite(hidden.grad).all()


@pytest.mark.parametrize("way", ["made_in_forward", "recomputed"])
def test_bf16_sums_in_fp32_and_gradients_keep_the_dtype(chunk, way):
    hidden, weight, _, target, coefficient = inputs(torch.bfloat16)
    logits = plain_logits(hidden.detach().double(), weight.detach().double(), None)
    wanted = (F.cross_entropy(logits, target, reduction="none") * coefficient).sum()
    if way == "made_in_forward":
        total, _ = weighted_nll(hidden, target, coefficient.float(), Head(weight))
    else:
        total = -(logprobs(hidden, target, Head(weight)) * coefficient.float()).sum()
    assert total.dtype == torch.float32
    assert float(total.detach()) == pytest.approx(float(wanted), rel=1e-2)
    total.backward()
    assert (hidden.grad.dtype, weight.grad.dtype) == (torch.bfloat16, torch.bfloat16)
    wide = [t.detach().double().requires_grad_() for t in (hidden, weight)]
    (F.cross_entropy(plain_logits(*wide, None), target, reduction="none") * coefficient).sum().backward()
    for low, exact in zip((hidden, weight), wide):
        assert (low.grad.double() - exact.grad).norm() <= 0.02 * exact.grad.norm()


def test_over_logits_equals_autograd(chunk):
    hidden, weight, _, _, coefficient = inputs()

    def entropy(logits, weights):
        p = torch.softmax(logits, dim=-1)
        return -(p * p.log()).sum(-1) * weights

    wanted = entropy(hidden @ weight.T, coefficient).sum()
    ours = over_logits(hidden, Head(weight).logits, entropy, (coefficient,), VOCAB)
    assert ours.shape == (N,)
    for mine, theirs in zip(
        torch.autograd.grad(ours.sum(), [hidden, weight]), torch.autograd.grad(wanted, [hidden, weight])
    ):
        assert torch.allclose(mine, theirs, rtol=1e-10, atol=1e-12)


def test_chunks_bound_the_logits_in_memory():
    assert chunk_rows(150_000, 100_000) == room.CHUNK_ROWS
    assert chunk_rows(8_192, 100_000) * 8_192 <= room.CHUNK_ELEMENTS
    assert chunk_rows(288, 5) == 5
    assert chunk_rows(288, 0) == 1


def test_shift_by_one_exactly_once(model_of, make_units):
    """Equal to cross-entropy of logits[:-1] against ids[1:] (transformers makes its norms in fp32 even in a float64 model)."""
    model, unit = model_of("llama", "fp64"), make_units([19])[0]
    ids = torch.tensor(unit.examples[0].ids, dtype=torch.int64)
    with torch.no_grad():
        logits = model.net(input_ids=ids[None]).logits[0]
        each = F.cross_entropy(logits[:-1], ids[1:], reduction="none")
        wanted = (each * torch.tensor(unit.examples[0].weights[1:])).sum()
        assert float(model.policy.nll(model.policy.batch([unit]))[0]) == pytest.approx(float(wanted), rel=1e-7)
