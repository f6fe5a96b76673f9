"""States in eight bits: bitsandbytes' codes, convergence beside fp32, memory, checkpoints."""

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from tunesmith.core.errors import SettingError
from tunesmith.model.dynamic8 import codebook
from tunesmith.train import states8
from tunesmith.train.optim import Optimizer
from tunesmith.train.settings import TrainSettings
from tunesmith.train.states8 import dequantise, quantise

RECORDED = json.loads(Path(__file__).with_name("states8.json").read_text())


def numbers(count, seed):
    """The same numbers everywhere, without a random generator: over eight powers of ten, with zeros."""
    at = torch.arange(count, dtype=torch.float64)
    drawn = torch.sin((at + 1) * (12.9898 + seed)) * 43758.5453
    drawn = drawn - drawn.floor() - 0.5
    return (drawn * 10.0 ** (-(at % 9)) * (at % 7 != 0)).float()


@pytest.mark.parametrize("signed", [True, False])
def test_the_values_are_those_of_bitsandbytes(signed):
    found = codebook(signed)
    assert len(found) == 256 and list(found) == sorted(found)
    assert found == pytest.approx(RECORDED["codebook"]["signed" if signed else "unsigned"], rel=1e-7, abs=0)


@pytest.mark.parametrize("case", RECORDED["cases"], ids=lambda case: f"{case['count']}-{case['signed']}")
def test_codes_and_scales_are_those_of_bitsandbytes(case):
    """Recorded by states8_by_bitsandbytes.py."""
    values = numbers(case["count"], case["seed"])
    values = values if case["signed"] else values.abs()
    codes, scales = quantise(values, case["signed"])
    assert codes.tolist() == case["codes"]
    assert scales.tolist() == pytest.approx(case["scales"], rel=1e-7)
    assert dequantise(codes, scales, case["signed"]).tolist() == pytest.approx(case["back"], rel=1e-6, abs=0)


def test_a_value_moves_by_no_more_than_half_the_distance_to_its_neighbour():
    values = numbers(10_000, 3).view(100, 100)
    codes, scales = quantise(values, True)
    table = torch.tensor(codebook(True))
    back = dequantise(codes, scales, True)
    assert back.shape == values.shape
    scale = scales.repeat_interleave(256)[:10_000].view(100, 100)
    widest = torch.diff(table)[(codes.int()).clamp(max=254).long()].maximum(
        torch.diff(table)[(codes.int() - 1).clamp(min=0).long()]
    )
    assert ((back - values).abs() <= 0.5001 * widest * scale).all()


def convex(kind, states, steps=300, count=8192, **settings):
    """sum(c (w - t)^2) / 2 with curvatures over two powers of ten, noisy gradients; the loss at the end over that at the start."""
    draw = torch.Generator().manual_seed(0)
    curvature = torch.logspace(-1, 1, count)
    target = torch.randn(count, generator=draw)
    weight = nn.Parameter(torch.zeros(count))
    optimizer = Optimizer([("w", weight)], kind=kind, states=states, **settings)
    for number in range(steps):
        noise = 0.1 * torch.randn(count, generator=draw)
        weight.grad = curvature * (weight.detach() - target) + noise
        optimizer.step(lr=0.03 * (1 - number / steps))
    loss = (curvature * (weight.detach() - target) ** 2).sum() / (curvature * target**2).sum()
    return float(loss), optimizer


@pytest.mark.parametrize(("kind", "settings"), [("adamw", {}), ("adam", {}), ("sgd", {"momentum": 0.9})])
def test_converges_as_fp32_does(kind, settings):
    exact, _ = convex(kind, "fp32", **settings)
    packed, optimizer = convex(kind, "8bit", **settings)
    assert exact < 0.01 and packed < 2 * exact + 1e-4
    assert {v.dtype for k, v in optimizer.state().items() if k.endswith("_codes.w")} == {torch.uint8}


def test_memory_is_a_quarter_and_as_predicted():
    weight, small, rows = (
        nn.Parameter(torch.zeros(100, 100)),
        nn.Parameter(torch.zeros(30)),
        nn.Parameter(torch.zeros(64, 64)),
    )
    named = [("w", weight), ("b", small), ("embed", rows)]
    optimizer = Optimizer(named, states="8bit", embeddings=frozenset({"embed"}))
    predicted = optimizer.predicted_state_bytes()
    for p in (weight, small, rows):
        p.grad = torch.ones_like(p)
    optimizer.step(lr=1e-3)
    assert predicted == optimizer.num_state_bytes() == 2 * (states8.packed_bytes(10_000) + 4 * 30 + 4 * 4096)
    assert states8.packed_bytes(10_000) == 10_000 + 4 * 40


@pytest.mark.parametrize("settings", [{}, {"precision": "bf16", "masters": "stochastic"}, {"precision": "bf16"}])
def test_a_resumed_run_is_the_uninterrupted_one_bit_by_bit(train, same_weights, run_folder, settings, monkeypatch):
    monkeypatch.setattr(states8, "LEAST", 256)  # pico's matrices are small
    settings = {"states": "8bit", "lr": 1e-3, **settings}
    _, straight = train("a", **settings)
    train("b", stop_after=3, **settings)
    _, resumed = train("b", resume=True, **settings)
    assert same_weights(straight, resumed)
    saved = max(run_folder("b").path.glob("checkpoints/*/state.safetensors"))
    from safetensors.torch import load_file

    assert any(v.dtype == torch.uint8 for v in load_file(saved).values())


def test_it_is_another_run_than_fp32_and_near_it(train, monkeypatch):
    monkeypatch.setattr(states8, "LEAST", 256)
    exact, _ = train("a", lr=1e-3)
    packed, _ = train("b", lr=1e-3, states="8bit")
    assert exact.last_loss != packed.last_loss and packed.last_loss == pytest.approx(exact.last_loss, rel=0.02)


def test_settings_without_sense_are_told():
    with pytest.raises(SettingError, match="keeps no states"):
        TrainSettings(states="8bit", optimizer="sgd", momentum=0.0)
    with pytest.raises(SettingError, match="not known"):
        Optimizer([], states="4bit")
