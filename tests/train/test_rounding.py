"""bf16 alone: small updates are not lost, runs resume, memory is what is promised."""

import pytest
import torch
from torch import nn

from tunesmith.core.errors import SettingError
from tunesmith.train.optim import Optimizer
from tunesmith.train.rounding import join, split, stochastic


def numbers(n=4096):
    draw = torch.Generator().manual_seed(0)
    return torch.randn(n, generator=draw) * torch.logspace(-20, 20, n)


def test_high_and_low_are_the_number_and_high_is_the_nearest():
    values = torch.cat([numbers(), torch.tensor([0.0, -0.0, 1.0, -1.0, 3.0e38])])
    high, low = split(values)
    assert torch.equal(join(high, low), values)
    assert (high.float() - values).abs().le((values.to(torch.bfloat16).float() - values).abs()).all()


def test_chance_takes_one_of_the_two_neighbours_and_is_right_in_the_mean():
    value = torch.full((200_000,), 1.0 + 0.3 / 128)
    found = stochastic(value, torch.Generator().manual_seed(1)).float()
    assert set(found.tolist()) == {1.0, 1.0 + 1 / 128}
    assert float((found > 1).float().mean()) == pytest.approx(0.3, abs=4 * (0.3 * 0.7 / 200_000) ** 0.5)
    exact = numbers().to(torch.bfloat16).float()
    assert torch.equal(stochastic(exact, torch.Generator().manual_seed(2)).float(), exact)


def run(dtype, keep, gradients, start, kind, lr=1e-6):
    weight = nn.Parameter(start.to(dtype, copy=True))
    optimizer = Optimizer([("w", weight)], kind=kind, keep=keep)
    for gradient in gradients:
        weight.grad = None
        for master in optimizer.gradients():
            master.grad = gradient.expand(len(start)).clone() if gradient.ndim == 0 else gradient.clone()
        optimizer.step(lr=lr)
    return optimizer.weights()["w"] - start.float(), weight


@pytest.mark.parametrize("kind", ["adamw", "sgd"])
def test_a_thousand_steps_of_1e_6_move_bf16_weights_as_far_as_fp32(kind):
    """Masters and kahan: bit by bit. Stochastic rounding: in the mean, within 1 %. Plain bf16 would not move at all."""
    start = torch.full((20_000,), 0.01, dtype=torch.bfloat16)
    gradients = torch.randn(1000, generator=torch.Generator().manual_seed(3)).abs() + 0.5
    few, exact = start[:64], None
    for dtype, keep in ((torch.float32, "fp32"), (torch.bfloat16, "fp32"), (torch.bfloat16, "kahan")):
        moved, _ = run(dtype, keep, gradients, few, kind)
        exact = moved if exact is None else exact
        assert moved.norm() > 0
        assert torch.equal(moved, exact), (dtype, keep)
    moved, _ = run(torch.bfloat16, "stochastic", gradients, start, kind)
    assert float(moved.double().mean()) == pytest.approx(float(exact.double().mean()), rel=0.01)
    plain = few.clone()
    plain -= 1e-6
    assert torch.equal(plain, few)


def test_kahan_equals_masters_for_every_optimiser_and_penalty():
    start = torch.randn(8, 8, generator=torch.Generator().manual_seed(0)).to(torch.bfloat16)
    gradients = torch.randn(20, 8, 8, generator=torch.Generator().manual_seed(1))
    for settings in (
        {"kind": "adamw", "weight_decay": 0.1},
        {"kind": "sgd", "momentum": 0.9, "weight_decay": 0.1},
        {"kind": "muon", "momentum": 0.9},
        {"kind": "adam", "l1": 1e-3, "l2": 1e-2},
    ):
        found = []
        for keep in ("fp32", "kahan"):
            weight = nn.Parameter(start.clone())
            optimizer = Optimizer([("w", weight)], keep=keep, **settings)
            for gradient in gradients:
                optimizer.masters[0].grad = gradient.clone()
                optimizer.step(lr=1e-3, clip=1.0)
            found.append(optimizer.weights()["w"])
            assert torch.equal(weight.float(), found[0].to(torch.bfloat16).float())
        assert torch.equal(*found), settings


@pytest.mark.parametrize(("keep", "behind"), [("fp32", 4), ("kahan", 2), ("stochastic", 0)])
def test_memory_behind_the_weights(keep, behind):
    layer = nn.Linear(16, 8).to(torch.bfloat16)
    optimizer = Optimizer(layer.named_parameters(), keep=keep)
    assert optimizer.num_master_bytes() == behind * 136
    layer(torch.randn(2, 16, dtype=torch.bfloat16)).sum().backward()
    optimizer.step(lr=0.1)
    assert optimizer.num_master_bytes() == behind * 136
    assert optimizer.num_state_bytes() == optimizer.predicted_state_bytes() == 8 * 136
    assert {p.dtype for p in layer.parameters()} == {torch.bfloat16}


@pytest.mark.parametrize("keep", ["fp32", "kahan", "stochastic"])
def test_a_resumed_run_goes_on_bit_by_bit(keep):
    start = torch.randn(5, 7, generator=torch.Generator().manual_seed(0)).to(torch.bfloat16)
    gradients = torch.randn(10, 5, 7, generator=torch.Generator().manual_seed(1))

    def made(weights):
        layer = nn.Parameter(weights.clone())
        return layer, Optimizer([("w", layer)], keep=keep, seed=3)

    def go(optimizer, some):
        for gradient in some:
            optimizer.masters[0].grad = gradient.clone()
            optimizer.step(lr=1e-3)

    whole, optimizer = made(start)
    go(optimizer, gradients)
    first, before = made(start)
    go(before, gradients[:4])
    saved = {key: value.clone() for key, value in before.state().items()}
    second, after = made(torch.zeros_like(start))
    after.load_state(saved.items())
    assert torch.equal(second, first)
    go(after, gradients[4:])
    assert torch.equal(second, whole)
    assert torch.equal(after.weights()["w"], optimizer.weights()["w"])


def test_lifting_puts_the_masters_into_the_network():
    layer = nn.Linear(4, 4).to(torch.bfloat16)
    layer.bias.requires_grad_(False)
    optimizer = Optimizer(layer.named_parameters(), keep="kahan")
    layer(torch.ones(1, 4, dtype=torch.bfloat16)).sum().backward()
    optimizer.step(lr=1e-5)
    exact = optimizer.weights()["weight"]
    optimizer.lift(layer)
    assert {p.dtype for p in layer.parameters()} == {torch.float32}
    assert torch.equal(layer.weight, exact)
    assert not torch.equal(exact, exact.to(torch.bfloat16).float())


def test_fp16_weights_need_masters():
    with pytest.raises(SettingError, match="float16"):
        Optimizer(nn.Linear(2, 2).half().named_parameters(), keep="kahan")
    with pytest.raises(SettingError, match="none"):
        Optimizer(nn.Linear(2, 2).named_parameters(), keep="none")
