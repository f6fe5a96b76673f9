"""Optimisers: state they hold, decay, L1 and L2, momentum, clipping, bf16 with fp32 masters."""

import pytest
import torch
from torch import nn

from tunesmith.core.errors import SettingError
from tunesmith.train.optim import Optimizer, total_norm
from tunesmith.train.run import embedding_names, lower


def quadratic(steps, *, kind="sgd", lr=0.02, start=5.0, **settings):
    """Steps of an optimiser on f(w) = sum(c w^2) / 2, ill conditioned; returns the losses."""
    curvature = torch.tensor([1.0, 10.0])
    w = nn.Parameter(torch.full((2,), start))
    optimizer = Optimizer([("w", w)], kind=kind, lr=lr, **settings)
    losses = []
    for _ in range(steps):
        loss = (curvature * w**2).sum() / 2
        loss.backward()
        optimizer.step(lr=lr)
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize(
    ("kind", "momentum", "numbers"), [("sgd", 0.0, 0), ("sgd", 0.9, 1), ("adam", 0.0, 2), ("adamw", 0.0, 2)]
)
def test_state_is_0_1_or_2_numbers_a_parameter_and_as_predicted(kind, momentum, numbers):
    layer = nn.Linear(7, 5)
    optimizer = Optimizer(layer.named_parameters(), kind=kind, momentum=momentum)
    predicted = optimizer.predicted_state_bytes()
    layer(torch.randn(3, 7)).sum().backward()
    optimizer.step(lr=0.1)
    assert predicted == optimizer.num_state_bytes() == numbers * 4 * (7 * 5 + 5)


def test_muon_holds_one_number_in_matrices_and_two_elsewhere(pico):
    net = pico().net
    ends = embedding_names(net)
    optimizer = Optimizer(net.named_parameters(), kind="muon", momentum=0.9, embeddings=ends)
    net(input_ids=torch.arange(5)[None]).logits.sum().backward()
    optimizer.step(lr=0.01)
    inside = sum(p.numel() for n, p in net.named_parameters() if p.ndim == 2 and n not in ends)
    every = sum(p.numel() for p in net.parameters())
    assert optimizer.predicted_state_bytes() == optimizer.num_state_bytes() == 4 * (inside + 2 * (every - inside))


def test_state_and_masters_are_fp32_when_weights_are_bf16():
    layer = nn.Linear(8, 8).to(torch.bfloat16)
    optimizer = Optimizer(layer.named_parameters(), kind="adamw")
    layer(torch.randn(2, 8, dtype=torch.bfloat16)).sum().backward()
    optimizer.step(lr=0.1)
    assert {m.dtype for m in optimizer.masters} == {torch.float32}
    assert {v.dtype for v in optimizer.state().values()} == {torch.float32}
    assert optimizer.num_state_bytes() == optimizer.predicted_state_bytes() == 2 * 4 * 72


def test_tied_weights_are_held_once(pico):
    net = pico().net
    assert net.lm_head.weight is net.model.embed_tokens.weight
    optimizer = Optimizer(net.named_parameters(remove_duplicate=False))
    assert len(optimizer.parameters) == len({id(p) for p in net.parameters()})
    assert sum(p.numel() for p in optimizer.parameters) == sum(p.numel() for p in net.parameters())


def test_frozen_parameters_are_not_held():
    layer = nn.Linear(4, 4)
    layer.bias.requires_grad_(False)
    assert Optimizer(layer.named_parameters()).names == ["weight"]


@pytest.mark.parametrize("kind", ["sgd", "adam", "adamw", "muon"])
def test_decay_spares_norms_embeddings_and_biases(pico, kind):
    """With zero gradients a step only decays: matrices shrink by exactly lr x decay, the rest keeps its bytes."""
    net = pico().net
    ends = embedding_names(net)
    before = {n: p.detach().clone() for n, p in net.named_parameters()}
    optimizer = Optimizer(net.named_parameters(), kind=kind, weight_decay=0.1, momentum=0.9, embeddings=ends)
    for p in net.parameters():
        p.grad = torch.zeros_like(p)
    optimizer.step(lr=0.5)
    for name, p in net.named_parameters():
        if p.ndim == 2 and name not in ends:
            assert torch.allclose(p, before[name] * (1 - 0.5 * 0.1), rtol=1e-6)
        else:
            assert torch.equal(p, before[name]), name
    assert "model.embed_tokens.weight" in ends
    assert "model.norm.weight" not in ends


def test_decay_all_decays_all():
    layer = nn.Linear(3, 3)
    before = layer.bias.detach().clone()
    optimizer = Optimizer(layer.named_parameters(), kind="adamw", weight_decay=0.1, decay_all=True)
    for p in layer.parameters():
        p.grad = torch.zeros_like(p)
    optimizer.step(lr=0.5)
    assert torch.allclose(layer.bias, before * 0.95)


def test_sgd_equals_the_closed_form():
    w = nn.Parameter(torch.tensor([2.0]))
    optimizer = Optimizer([("w", w)], kind="sgd", momentum=0.5, l2=0.1)
    value, velocity = 2.0, 0.0
    for gradient in (1.0, -3.0, 0.5):
        w.grad = torch.tensor([gradient])
        optimizer.step(lr=0.1)
        velocity = 0.5 * velocity + gradient + 0.1 * value
        value -= 0.1 * velocity
        assert w.item() == pytest.approx(value, rel=1e-6)


def test_adamw_equals_the_closed_form():
    w = nn.Parameter(torch.tensor([[2.0]]))
    optimizer = Optimizer([("w", w)], kind="adamw", betas=(0.9, 0.99), eps=1e-8, weight_decay=0.1)
    value, m, v = 2.0, 0.0, 0.0
    for step, gradient in enumerate((1.0, -3.0, 0.5), start=1):
        w.grad = torch.tensor([[gradient]])
        optimizer.step(lr=0.1)
        m, v = 0.9 * m + 0.1 * gradient, 0.99 * v + 0.01 * gradient**2
        value -= 0.1 * 0.1 * value
        value -= 0.1 * (m / (1 - 0.9**step)) / ((v / (1 - 0.99**step)) ** 0.5 + 1e-8)
        assert w.item() == pytest.approx(value, rel=1e-5)


def test_momentum_reaches_the_loss_sooner():
    """D3, on a quadratic with condition number 10."""
    target = 1e-3

    def needed(losses):
        return next(i for i, loss in enumerate(losses) if loss < target)

    assert needed(quadratic(600, momentum=0.9)) < 0.7 * needed(quadratic(600, momentum=0.0))


def sparse_regression(l1, l2, steps=300):
    torch.manual_seed(0)
    x = torch.randn(80, 20)
    y = x[:, :4] @ torch.tensor([3.0, -2.0, 1.5, 1.0]) + 0.1 * torch.randn(80)
    w = nn.Parameter(torch.randn(20) * 0.5)
    optimizer = Optimizer([("w", w)], kind="sgd", l1=l1, l2=l2)
    for _ in range(steps):
        ((x @ w - y) ** 2).mean().div(2).backward()
        optimizer.step(lr=0.1)
    return w.detach()


def test_l1_gives_zeros_and_l2_does_not():
    """D8: both shrink; L1 gives exact zeros on the same data."""
    free, l1, l2 = sparse_regression(0, 0), sparse_regression(0.2, 0), sparse_regression(0, 0.2)
    assert l1.abs().sum() < free.abs().sum()
    assert l2.norm() < free.norm()
    assert int((l1 == 0).sum()) >= 10
    assert int((l2 == 0).sum()) == 0
    assert int((l1.abs() < 1e-2).sum()) > int((l2.abs() < 1e-2).sum())


def test_more_regularisation_shrinks_more():
    for kind in ("l1", "l2"):
        norms = [sparse_regression(**{"l1": 0, "l2": 0, kind: value}).abs().sum() for value in (0, 0.1, 0.5)]
        assert norms[0] > norms[1] > norms[2]


def test_the_norm_is_that_before_clipping_and_the_step_is_clipped():
    w = nn.Parameter(torch.zeros(2))
    optimizer = Optimizer([("w", w)], kind="sgd")
    w.grad = torch.tensor([30.0, 40.0])
    assert optimizer.step(lr=1.0, clip=5.0) == pytest.approx(50.0)
    assert torch.allclose(w, torch.tensor([-3.0, -4.0]), rtol=1e-5)
    w.grad = torch.tensor([0.3, 0.4])
    assert optimizer.step(lr=1.0, clip=5.0) == pytest.approx(0.5)
    assert torch.allclose(w, torch.tensor([-3.3, -4.4]), rtol=1e-5)


def test_the_norm_is_over_all_parameters_together():
    assert total_norm([torch.tensor([3.0]), torch.tensor([[0.0, 4.0]])]).item() == pytest.approx(5.0)
    assert total_norm([]).item() == 0


@pytest.mark.parametrize("kind", ["adamw", "sgd"])
def test_small_learning_rates_move_bf16_weights_as_far_as_fp32(kind):
    """1,000 steps of lr 1e-6: without fp32 masters bf16 weights near 1 would not move at all."""
    torch.manual_seed(0)
    start = torch.rand(64) + 0.5
    gradients = torch.randn(1000, 64).to(torch.bfloat16)
    if kind == "sgd":
        gradients = gradients.abs()
    moved = {}
    for dtype in (torch.float32, torch.bfloat16):
        w = nn.Parameter(start.to(torch.bfloat16).to(dtype))
        optimizer = Optimizer([("w", w)], kind=kind)
        for gradient in gradients:
            (w * gradient.to(dtype)).sum().backward()
            optimizer.step(lr=1e-6)
        moved[dtype] = optimizer.masters[0].detach() - start.to(torch.bfloat16).float()
    assert moved[torch.float32].norm() > 0
    assert (moved[torch.bfloat16] - moved[torch.float32]).norm() <= 0.01 * moved[torch.float32].norm()


def test_bf16_gradients_add_up_in_fp32():
    """256 equal micro-batches: a bf16 sum would stop growing at 256 x its first value's last bit."""
    w = nn.Parameter(torch.ones(1, dtype=torch.bfloat16))
    optimizer = Optimizer([("w", w)], kind="sgd")
    for _ in range(1000):
        (w * 1.0).sum().backward()
    assert w.grad is None
    assert optimizer.masters[0].grad.item() == 1000.0


def test_lowering_keeps_fp32_masters_of_what_trains(pico):
    net = pico().net
    before = {n: p.detach().clone() for n, p in net.named_parameters()}
    net.model.norm.weight.requires_grad_(False)
    masters = lower(net)
    assert {p.dtype for p in net.parameters()} == {torch.bfloat16}
    assert masters.keys() == before.keys() - {"model.norm.weight"}
    assert all(torch.equal(masters[n], before[n]) for n in masters)
    assert net.lm_head.weight is net.model.embed_tokens.weight


def test_an_unknown_optimizer_is_told():
    with pytest.raises(SettingError, match="lion"):
        Optimizer([], kind="lion")


def test_reserved_gradients_lie_in_one_block_and_hold_the_same_sums():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(7, 5), nn.Linear(5, 3))
    rows, found = torch.randn(2, 4, 7), []
    for reserve in (False, True):
        optimizer = Optimizer(net.named_parameters())
        if reserve:
            optimizer.reserve()
            blocks = {p.grad.untyped_storage().data_ptr() for p in net.parameters()}
            assert len(blocks) == 1
        for row in rows:
            net(row).square().sum().backward()
        found.append([p.grad.clone() for p in net.parameters()])
        if reserve:
            assert {p.grad.untyped_storage().data_ptr() for p in net.parameters()} == blocks
        optimizer.clear()
        assert all(p.grad is None for p in net.parameters())
    assert all(torch.equal(a, b) for a, b in zip(*found))


def test_a_reserved_gradient_of_bf16_weights_is_that_of_their_masters():
    layer = nn.Linear(8, 3).to(torch.bfloat16)
    optimizer = Optimizer(layer.named_parameters())
    optimizer.reserve()
    for _ in range(2):
        layer(torch.ones(2, 8, dtype=torch.bfloat16)).sum().backward()
    assert all(p.grad is None for p in layer.parameters())
    assert [m.grad.flatten().tolist() for m in optimizer.masters] == [[4.0] * 24, [4.0] * 3]
    optimizer.reserve()  # what is there already stays
    assert optimizer.masters[0].grad.sum() == 96
