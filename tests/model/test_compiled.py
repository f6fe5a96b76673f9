"""Attention's own kernel against softmax attention by the book in fp64, and what happens where it cannot be built."""

from itertools import accumulate

import pytest
import torch

from tunesmith.model import compiled
from tunesmith.model.segments import Segments, attend

SIZES = (1, 5, 16, 17, 64, 130, 3, 0, 300, 33)
built = pytest.mark.skipif(bool(compiled.why_not()), reason=f"no kernel here: {compiled.why_not()}")


def by_the_book(query, key, value, bounds, scale):
    groups = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(groups, dim=1), value.repeat_interleave(groups, dim=1)
    scores = torch.einsum("ihd,jhd->hij", query, key) * scale
    document = torch.bucketize(torch.arange(len(query)), torch.tensor(bounds[1:]), right=True)
    place = torch.arange(len(query))
    seen = (document[:, None] == document[None]) & (place[:, None] >= place[None])
    return torch.einsum("hij,jhd->ihd", torch.softmax(scores.masked_fill(~seen, float("-inf")), dim=-1), value)


def parts_of(heads, groups, dim, dtype, tokens, seed=0):
    made = torch.Generator().manual_seed(seed)
    return [torch.randn(tokens, h, dim, generator=made).to(dtype).requires_grad_() for h in (heads, groups, groups)]


@built
@pytest.mark.parametrize("shape", [(4, 2, 32), (8, 4, 64), (3, 1, 16), (2, 2, 128), (4, 4, 80)])
@pytest.mark.parametrize(("dtype", "room"), [(torch.float32, 5e-6), (torch.bfloat16, 1.5e-2)])
def test_the_kernel_is_attention_and_its_gradient(shape, dtype, room):
    bounds = (0, *accumulate(SIZES))
    parts = parts_of(*shape, dtype, bounds[-1])
    assert compiled.attends(parts[0])
    out = attend(*parts, Segments(bounds), 0.3)
    wide = [x.detach().double().requires_grad_() for x in parts]
    wanted = by_the_book(*wide, bounds, 0.3)
    assert out.dtype == dtype
    assert (out - wanted).abs().max() <= room * max(1.0, float(wanted.abs().max()))
    given = torch.randn(out.shape, generator=torch.Generator().manual_seed(1)).to(dtype)
    for mine, theirs in zip(torch.autograd.grad(out, parts, given), torch.autograd.grad(wanted, wide, given.double())):
        assert (mine - theirs).abs().max() <= room * float(theirs.abs().max())


@built
def test_a_later_token_and_another_document_change_not_a_bit():
    bounds = (0, 40, 90)
    parts, others = parts_of(4, 2, 32, torch.float32, 90), parts_of(4, 2, 32, torch.float32, 90, seed=1)
    changed = [torch.cat([a[:60], b[60:]]) for a, b in zip(parts, others)]
    before, after = (attend(*x, Segments(bounds), 0.3) for x in (parts, changed))
    assert torch.equal(before[:60], after[:60]) and not torch.equal(before[60:], after[60:])
    for gradient in torch.autograd.grad(before[40:].sum(), parts):
        assert not gradient[:40].any()


@built
def test_the_number_of_threads_changes_not_a_bit():
    bounds = (0, *accumulate(SIZES))
    parts, threads = parts_of(4, 2, 32, torch.float32, bounds[-1]), torch.get_num_threads()
    made = []
    try:
        for number in (1, 2):
            torch.set_num_threads(number)
            out = attend(*parts, Segments(bounds), 0.3)
            made.append([out, *torch.autograd.grad(out.square().sum(), parts)])
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(a, b) for a, b in zip(*made))


@built
def test_scores_far_apart_and_infinite_losses_stay_what_they_are():
    parts = parts_of(2, 2, 16, torch.float32, 40)
    out = attend(*(x * 100 for x in parts), Segments((0, 40)), 1.0)
    assert torch.isfinite(out).all()
    broken = [x.detach().clone() for x in parts]
    broken[2][3] = float("nan")
    out = attend(*broken, Segments((0, 20, 40)), 0.3)
    assert torch.isnan(out[3:20]).all() and torch.isfinite(out[20:]).all()


@pytest.fixture
def without(monkeypatch):
    """A machine that was never built on, in this process."""

    def set_up(**environment):
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        compiled.library.cache_clear()
        compiled._reasons.clear()

    yield set_up
    monkeypatch.undo()
    compiled.library.cache_clear()
    compiled._reasons.clear()


def test_switched_off_torch_computes_it(without):
    without(TUNESMITH_KERNELS="off")
    parts = parts_of(4, 2, 32, torch.float32, 50)
    assert not compiled.attends(parts[0]) and compiled.why_not() == "TUNESMITH_KERNELS=off"
    wanted = by_the_book(*(x.double() for x in parts), (0, 20, 50), 0.3)
    assert torch.allclose(attend(*parts, Segments((0, 20, 50)), 0.3).double(), wanted, atol=1e-5)


def test_without_a_compiler_or_with_a_broken_one_torch_computes_it(without, tmp_path):
    without(PATH=str(tmp_path), CC="none-there", XDG_CACHE_HOME=str(tmp_path / "cache"), TUNESMITH_KERNELS="")
    assert "no C compiler" in compiled.why_not()
    liar = tmp_path / "cc"
    liar.write_text("#!/bin/sh\nexit 1\n")
    liar.chmod(0o755)
    without(CC=str(liar))
    assert "could not build" in compiled.why_not()
    assert not compiled.attends(torch.zeros(1, 2, 16))


def test_what_it_cannot_do_is_left_to_torch():
    assert not compiled.attends(torch.zeros(1, 2, 24)) and not compiled.attends(
        torch.zeros(1, 2, 16, dtype=torch.float64)
    )
