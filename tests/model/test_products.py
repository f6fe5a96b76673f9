"""Products of layers that share an input, by the kernel, against the formula in fp64."""

import pytest
import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode

from tunesmith.model import products
from tunesmith.model.compiled import why_not
from tunesmith.model.parts import gated

pytestmark = pytest.mark.skipif(bool(why_not("products")), reason=f"no kernel here: {why_not('products')}")


def layers(rows, inputs, outputs, rank=0):
    draw = torch.Generator().manual_seed(rows + inputs)
    x = torch.randn(rows, inputs, generator=draw)
    weights = [torch.randn(width, inputs, generator=draw) for width in outputs]
    downs = [torch.randn(rank, inputs, generator=draw) for _ in outputs] if rank else []
    ups = [torch.randn(width, rank, generator=draw) for width in outputs] if rank else []
    return x, weights, downs, ups, [0.1 + number for number in range(len(outputs))] if rank else []


def effective(weights, downs, ups, scales):
    if not scales:
        return [w.double() for w in weights]
    return [w.double() + s * b.double() @ a.double() for w, a, b, s in zip(weights, downs, ups, scales, strict=True)]


def close(made, wanted):
    return made.shape == wanted.shape and (made - wanted).abs().max() <= 2e-6 * wanted.abs().max()


@pytest.mark.parametrize("rank", [0, 1, 6])
@pytest.mark.parametrize("outputs", [(32,), (7,), (40, 16, 19), (130, 80)])
@pytest.mark.parametrize(("rows", "inputs"), [(1, 16), (5, 3), (97, 33), (400, 48), (131, 1500)])
def test_it_is_the_formula(rows, inputs, outputs, rank, lanes):
    x, *given = layers(rows, inputs, outputs, rank)
    whole, made = effective(*given), products.multiply(x, *given, False)
    assert all(close(y, x.double() @ w.T) for y, w in zip(made, whole, strict=True))
    dx = products.multiply_backward(made, *given)
    assert close(dx, sum(y.double() @ w for y, w in zip(made, whole, strict=True)))


def test_a_depth_or_a_width_beyond_what_is_packed_at_once(lanes):
    x, *given = layers(50, 2900, (300, 1300), 4)
    made = products.multiply(x, *given, False)
    assert all(close(y, x.double() @ w.T) for y, w in zip(made, effective(*given), strict=True))
    assert close(products.multiply_backward(made, *given), sum(y.double() @ w for y, w in zip(made, effective(*given))))
    x, *given = layers(40, 64, (9000,))
    (y,) = products.multiply(x, *given, False)
    assert close(y, x.double() @ given[0][0].double().T)


def test_neither_threads_nor_the_rows_beside_change_a_bit():
    x, *given = layers(500, 1500, (96, 35), 3)
    threads, made = torch.get_num_threads(), []
    try:
        for number in (1, 2, 3):
            torch.set_num_threads(number)
            made.append(products.multiply(x, *given, False))
    finally:
        torch.set_num_threads(threads)
    some = products.multiply(x[100:211].contiguous(), *given, False)
    for each in range(2):
        assert torch.equal(made[0][each], made[1][each]) and torch.equal(made[0][each], made[2][each])
        assert torch.equal(made[0][each][100:211], some[each])


@pytest.mark.parametrize(("rows", "inputs", "width"), [(97, 33, 48), (131, 1500, 16), (50, 64, 8192)])
def test_a_gate_made_on_the_way_is_the_gate(rows, inputs, width, lanes):
    x, *given = layers(rows, inputs, (width, width), 2)
    gate, up, z = products.multiply(x, *given, True)
    assert all(map(torch.equal, (gate, up), products.multiply(x, *given, False)))
    assert torch.equal(z, gated(gate, up))


@pytest.fixture
def everywhere(monkeypatch):
    """The kernel on any processor, for products of any size."""
    monkeypatch.setattr(products, "WORK", 0)
    monkeypatch.setattr(products, "faster_here", lambda: True)


def test_gradients_are_those_of_torch_s_linear(everywhere):
    x, weights, *_ = layers(70, 24, (20, 9))
    wanted, made = [], []
    for kept, forward in ((wanted, lambda x, ws: [F.linear(x, w) for w in ws]), (made, products.projected)):
        leaves = [t.clone().requires_grad_() for t in (x, *weights)]
        sum((y.sin() * y).sum() for y in forward(leaves[0], leaves[1:])).backward()
        kept += [leaf.grad for leaf in leaves]
    assert all(close(one, other) for one, other in zip(made, wanted, strict=True))


def test_frozen_weights_and_inputs_without_gradient_have_none(everywhere):
    x, weights, *_ = layers(70, 24, (20, 9))
    weights[0].requires_grad_()
    first, second = products.projected(x, weights)
    (first.sum() + second.sum()).backward()
    assert x.grad is None and weights[1].grad is None and close(weights[0].grad, x.sum(0).expand(20, 24))


def test_an_output_that_nothing_reads_adds_nothing(everywhere):
    x, weights, *_ = layers(70, 24, (20, 9))
    leaf = x.clone().requires_grad_()
    products.projected(leaf, weights)[1].sum().backward()
    assert close(leaf.grad, torch.ones(70, 9) @ weights[1])


def test_what_is_planned_for_another_device_is_torch_s(everywhere):
    x, weights, *_ = layers(70, 24, (20, 9))
    with products.left_to_torch():
        assert not products.fits(x, *weights)
    assert products.fits(x, *weights)


def test_a_gate_has_its_gradients_from_the_layers_and_is_left_out_where_it_does_not_fit(everywhere):
    x, weights, *_ = layers(70, 24, (32, 32))
    made = []
    for whole in (True, False):
        leaf = x.clone().requires_grad_()
        gate, up, *z = products.projected(leaf, weights, gate=whole)
        assert len(z) == whole and not any(each.requires_grad for each in z)
        gated(gate, up, *z).sin().sum().backward()
        made.append(leaf.grad)
    assert torch.equal(*made)
    x, weights, *_ = layers(70, 24, (20, 20))
    assert len(products.linears(x, weights, gate=True)) == 2
    x, weights, *_ = layers(70, 24, (32, 32))
    assert len(products.linears(x, weights, [torch.ones(32), None], gate=True)) == 2


def test_biases_are_added(everywhere):
    x, weights, *_ = layers(70, 24, (20, 9))
    bias = torch.arange(9.0)
    first, second = products.linears(x, weights, [None, bias])
    assert close(first, x @ weights[0].T) and close(second, x @ weights[1].T + bias)


def test_what_it_does_not_know_or_what_would_not_pay_is_torch_s(everywhere, monkeypatch):
    x, weights, *_ = layers(70, 24, (20, 9))
    assert products.fits(x, *weights)
    assert not products.fits(x.double(), *(w.double() for w in weights))
    assert not products.fits(x.bfloat16(), *(w.bfloat16() for w in weights))
    assert not products.fits(x[None], *weights)
    assert not products.fits(x, torch.randn(24, 20).T)
    assert not products.fits(x, *weights * products.LAYERS)
    monkeypatch.setattr(products, "WORK", 70 * 24 * 29 + 1)
    assert not products.fits(x, *weights)
    assert torch.equal(products.linears(x, weights)[1], F.linear(x, weights[1]))


def test_it_is_used_only_where_it_was_measured_to_be_faster(monkeypatch):
    monkeypatch.setattr(products, "WORK", 0)
    monkeypatch.setattr(products, "faster_here", lambda: False)
    x, weights, *_ = layers(70, 24, (20, 9))
    assert not products.fits(x, *weights)


def test_plans_know_its_sizes_and_its_work():
    from torch._subclasses import FakeTensorMode

    x, *given = layers(100, 24, (20, 9), 2)
    with FlopCounterMode(display=False) as counter:
        made = products.multiply(x, *given, False)
        products.multiply_backward(made, *given)
    assert counter.get_total_flops() == 2 * (2 * 100 * 24 * 29)
    with FakeTensorMode() as mode:
        fake = [mode.from_tensor(x), *([mode.from_tensor(t) for t in some] for some in given[:3]), given[3]]
        sizes = products.multiply(*fake, False)
        assert [y.shape for y in sizes] == [(100, 20), (100, 9)]
        assert products.multiply_backward(sizes, *fake[1:]).shape == (100, 24)
