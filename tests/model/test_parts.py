"""Norm, rotary embedding and gated activation by the kernel, and by torch where there is none, against the book in fp64."""

import pytest
import torch
import torch.nn.functional as F

from tunesmith.model import parts
from tunesmith.model.compiled import shared_library, why_not

EPS = 1e-5
built = pytest.mark.skipif(bool(why_not("parts")), reason=f"no kernel here: {why_not('parts')}")
DTYPES = [(torch.float32, 2e-6), (torch.bfloat16, 1.2e-2), (torch.float64, 1e-12)]


@pytest.fixture(params=["8", "16", "torch"])
def way(request, monkeypatch, with_lanes):
    """All ways of computing: the kernel with vectors of so many floats, and torch, which is what happens without a compiler."""
    if request.param == "torch":
        monkeypatch.setattr(parts, "reads", lambda library, *tensors: False)
    elif why_not("parts"):
        pytest.skip(f"no kernel here: {why_not('parts')}")
    else:
        with_lanes(request.param)
    return request.param


def some(*shape, dtype, seed=0, size=1.0):
    made = torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * size
    return made.to(dtype).requires_grad_()


def wide(*tensors):
    return [x.detach().double().requires_grad_() for x in tensors]


def near(mine, theirs, room):
    for a, b in zip(mine, theirs, strict=True):
        assert a.shape == b.shape
        if a.numel():
            assert (a.double() - b).abs().max() <= room * max(1.0, float(b.abs().max()))


def rms_norm(x, weight):
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + EPS) * weight


@pytest.mark.parametrize("shape", [(1, 16), (130, 256), (7, 3, 32), (65, 720), (0, 64), (9, 20)])
@pytest.mark.parametrize(("dtype", "room"), DTYPES)
def test_norm_is_the_book_s(way, shape, dtype, room):
    x, weight = some(*shape, dtype=dtype, size=3.0), some(shape[-1], dtype=dtype, seed=1)
    wide_x, wide_weight = wide(x, weight)
    y, wanted = parts.norm(x, weight, EPS), rms_norm(wide_x, wide_weight)
    assert y.dtype == dtype
    near([y.detach()], [wanted.detach()], room)
    grad = some(*shape, dtype=dtype, seed=2).detach()
    mine = torch.autograd.grad(y, [x, weight], grad)
    near(mine, torch.autograd.grad(wanted, [wide_x, wide_weight], grad.double()), room)
    assert [g.dtype for g in mine] == [dtype, dtype]


@pytest.mark.parametrize(("dtype", "room"), DTYPES)
@pytest.mark.parametrize("learns", [True, False])
def test_a_sum_and_its_norm_have_the_gradients_of_both(way, dtype, room, learns):
    x, delta, weight = (some(*s, dtype=dtype, seed=n) for n, s in enumerate([(70, 64), (70, 64), (64,)]))
    weight.requires_grad_(learns)
    wide_x, wide_delta, wide_weight = wide(x, delta, weight)
    total, y = parts.add_norm(x, delta, weight, EPS)
    wide_total = wide_x + wide_delta
    wanted = rms_norm(wide_total, wide_weight)
    near([total.detach(), y.detach()], [wide_total.detach(), wanted.detach()], room)
    grads = [some(70, 64, dtype=dtype, seed=n).detach() for n in (7, 8)]
    own, theirs = [x, delta, *[weight] * learns], [wide_x, wide_delta, *[wide_weight] * learns]
    mine = torch.autograd.grad([total, y], own, grads)
    near(mine, torch.autograd.grad([wide_total, wanted], theirs, [g.double() for g in grads]), room)


def test_only_the_sum_or_only_its_norm_may_be_read(way):
    x, delta, weight = (some(*s, dtype=torch.float32, seed=n) for n, s in enumerate([(5, 32), (5, 32), (32,)]))
    total, _ = parts.add_norm(x, delta, weight, EPS)
    for gradient in torch.autograd.grad(total.sum(), [x, delta]):
        assert torch.equal(gradient, torch.ones(5, 32))
    _, y = parts.add_norm(x, delta, weight, EPS)
    one, other = torch.autograd.grad(y.square().sum(), [x, delta])
    assert torch.equal(one, other) and one.any()
    same, y = parts.add_norm(x, None, weight, EPS)
    assert torch.equal(same, x) and torch.equal(y, parts.norm(x, weight, EPS))
    (both,) = torch.autograd.grad([same, y], x, [torch.ones_like(x), torch.ones_like(y)])
    assert torch.allclose(both, 1 + torch.autograd.grad(parts.norm(x, weight, EPS).sum(), x)[0], atol=1e-6)


@pytest.mark.parametrize(("heads", "dim"), [(8, 32), (3, 64), (2, 16), (4, 20)])
@pytest.mark.parametrize(("dtype", "room"), DTYPES)
def test_rotating_is_a_product_of_complex_numbers(way, heads, dim, dtype, room):
    x = some(11, heads, dim, dtype=dtype)
    angles = torch.arange(11)[:, None] * torch.logspace(0, -2, dim // 2)[None]
    cos, sin = angles.cos().to(dtype), angles.sin().to(dtype)

    def book(x):
        pairs = torch.complex(*x.chunk(2, dim=-1)) * torch.complex(cos.double(), sin.double())[:, None]
        return torch.cat([pairs.real, pairs.imag], dim=-1)

    (wide_x,) = wide(x)
    out, wanted = parts.rotated(x, cos, sin), book(wide_x)
    near([out.detach()], [wanted.detach()], room)
    grad = some(11, heads, dim, dtype=dtype, seed=3).detach()
    near(torch.autograd.grad(out, x, grad), torch.autograd.grad(wanted, wide_x, grad.double()), room)


@pytest.mark.parametrize("shape", [(3, 704), (130, 48), (2, 5), (0, 16)])
@pytest.mark.parametrize(("dtype", "room"), DTYPES)
def test_the_gate_is_silu_times_up(way, shape, dtype, room):
    gate, up = some(*shape, dtype=dtype, size=6.0), some(*shape, dtype=dtype, seed=1)
    wide_gate, wide_up = wide(gate, up)
    y, wanted = parts.gated(gate, up), F.silu(wide_gate) * wide_up
    near([y.detach()], [wanted.detach()], room)
    grad = some(*shape, dtype=dtype, seed=2).detach()
    mine = torch.autograd.grad(y, [gate, up], grad)
    near(mine, torch.autograd.grad(wanted, [wide_gate, wide_up], grad.double()), room)


@built
def test_gates_far_out_neither_overflow_nor_hide_what_is_no_number():
    gate = torch.tensor([-1e4, -90.0, -20.0, -0.0, 0.0, 20.0, 90.0, 1e4] * 2)
    up = torch.ones(16)
    assert torch.allclose(parts.gated(gate, up), F.silu(gate), rtol=1e-6, atol=1e-30)
    d_gate, d_up = parts.gate_up_backward(gate, up, torch.ones(16))
    assert torch.isfinite(d_gate).all() and torch.isfinite(d_up).all()
    gate[3], gate[5] = float("nan"), float("inf")
    for made in (parts.gated(gate, up), parts.gated(gate.bfloat16(), up.bfloat16())):
        assert made[3].isnan() and made[5].isinf() and made[[0, 1, 2, 4, 6, 7]].isfinite().all()
    x = torch.randn(4, 32)
    x[2, 5] = float("nan")
    y = parts.norm(x.bfloat16(), torch.ones(32, dtype=torch.bfloat16), EPS)
    assert y[2].isnan().all() and y[[0, 1, 3]].isfinite().all()


@built
def test_bf16_is_rounded_to_the_nearest_as_torch_does():
    values = torch.cat([torch.randn(4096) * 10.0**n for n in range(-30, 31, 10)])
    zero = torch.zeros(16, dtype=torch.bfloat16)
    low = values.bfloat16()
    total, _, _ = parts.normed(low.view(-1, 16), low.roll(1).view(-1, 16), zero, EPS)
    assert torch.equal(total.view(-1), low + low.roll(1))


@built
def test_the_number_of_threads_changes_not_a_bit():
    x, delta, weight = (some(*s, dtype=torch.float32, seed=n) for n, s in enumerate([(300, 64), (300, 64), (64,)]))
    threads, made = torch.get_num_threads(), []
    try:
        for number in (1, 2, 3):
            torch.set_num_threads(number)
            total, y = parts.add_norm(x, delta, weight, EPS)
            made.append([total, y, *torch.autograd.grad((parts.gated(total, y) ** 2).sum(), [x, delta, weight])])
    finally:
        torch.set_num_threads(threads)
    for others in made[1:]:
        assert all(torch.equal(a, b) for a, b in zip(made[0], others))


@built
def test_a_plan_knows_the_sizes():
    from torch._subclasses import FakeTensorMode

    with FakeTensorMode():
        x, weight = torch.empty(40, 64, requires_grad=True), torch.empty(64, requires_grad=True)
        total, y = parts.add_norm(x, torch.empty(40, 64), weight, EPS)
        z = parts.gated(total, y)
        turned = parts.rotated(z.view(40, 2, 32), torch.empty(40, 16), torch.empty(40, 16))
        turned.sum().backward()
        assert x.grad.shape == x.shape and weight.grad.shape == weight.shape


def test_other_shapes_and_kinds_go_torch_s_way():
    assert not parts.fits(torch.zeros(2, 20)) and not parts.fits(torch.zeros(2, 32, dtype=torch.float64))
    assert not parts.fits(torch.zeros(2, 32), torch.zeros(32, dtype=torch.bfloat16))
    assert parts.fits(torch.zeros(2, 32), None) == (shared_library("parts") is not None)
