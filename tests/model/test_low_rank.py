"""Gradients of low-rank updates by the kernel against the formula in fp64."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from tunesmith.model.compiled import why_not
from tunesmith.model.low_rank import LAYERS, fits, gradients, low_rank

pytestmark = pytest.mark.skipif(bool(why_not("low_rank")), reason=f"no kernel here: {why_not('low_rank')}")


def layers(rows, inputs, outputs, ranks):
    draw = torch.Generator().manual_seed(rows + inputs)
    x = torch.randn(rows, inputs, generator=draw)
    grads = [torch.randn(rows, width, generator=draw) for width in outputs]
    downs = [torch.randn(rank, inputs, generator=draw) for rank in ranks]
    ups = [torch.randn(width, rank, generator=draw) for width, rank in zip(outputs, ranks, strict=True)]
    return x, grads, downs, ups, [0.5 + number for number in range(len(ranks))]


def by_the_book(x, grads, downs, ups, scales):
    x, made = x.double(), []
    for dy, a, b, scale in zip(grads, downs, ups, scales, strict=True):
        dy, a, b = dy.double(), a.double(), b.double()
        made.append((scale * (dy @ b).T @ x, scale * dy.T @ (x @ a.T)))
    return made


@pytest.mark.parametrize(
    ("outputs", "ranks"),
    [
        ((32,), (8,)),
        ((48, 16, 19), (16, 16, 16)),
        ((112, 80), (5, 3)),
        ((16,), (1,)),
        ((32, 32), (40, 17)),
        ((16,) * 16, (2,) * 16),
    ],
)
@pytest.mark.parametrize(("rows", "inputs"), [(64, 16), (131, 48), (777, 31), (3001, 112)])
def test_it_is_the_formula(rows, inputs, outputs, ranks, lanes):
    given = layers(rows, inputs, outputs, ranks)
    assert fits(*given[:3])
    das, dbs = gradients(*given)
    for da, db, (wanted_a, wanted_b) in zip(das, dbs, by_the_book(*given), strict=True):
        assert da.shape == wanted_a.shape and (da - wanted_a).abs().max() <= 1e-6 * wanted_a.abs().max() + 1e-5
        assert db.shape == wanted_b.shape and (db - wanted_b).abs().max() <= 1e-6 * wanted_b.abs().max() + 1e-5


def test_the_number_of_threads_changes_not_a_bit():
    given, made, threads = layers(1000, 64, (96, 32), (16, 8)), [], torch.get_num_threads()
    try:
        for number in (1, 2, 3):
            torch.set_num_threads(number)
            das, dbs = gradients(*given)
            made.append([*das, *dbs])
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(one, other) for each in made[1:] for one, other in zip(made[0], each, strict=True))


def test_tensors_that_do_not_lie_whole_are_read_as_they_are():
    x, grads, downs, ups, scales = layers(200, 32, (48,), (8,))
    apart = [torch.empty(t.shape[1], t.shape[0]).T.copy_(t) for t in (x, grads[0], downs[0], ups[0])]
    made = gradients(apart[0], [apart[1]], [apart[2]], [apart[3]], scales)
    wanted = gradients(x, grads, downs, ups, scales)
    assert torch.equal(made[0][0], wanted[0][0]) and torch.equal(made[1][0], wanted[1][0])


def test_what_it_does_not_know_goes_another_way():
    x, grads, downs, _, _ = layers(200, 32, (48,), (8,))
    assert fits(x, grads, downs)
    assert not fits(x[:20], [grads[0][:20]], downs)
    assert not fits(x.double(), [grads[0].double()], downs)
    assert not fits(x.bfloat16(), [grads[0].bfloat16()], downs)
    assert not fits(x, grads * (LAYERS + 1), downs * (LAYERS + 1))


def test_plans_know_its_sizes_and_its_work():
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode(), FlopCounterMode(display=False) as counted:
        x, dy, a, b = (torch.empty(*shape) for shape in ((100, 32), (100, 48), (8, 32), (48, 8)))
        da, db = low_rank(x, [dy], [a], [b], [1.0])
    assert da.shape == (8, 32) and db.shape == (48, 8)
    assert counted.get_total_flops() == 2 * 100 * 8 * (2 * 32 + 2 * 48)
