"""Recomputed activations: the more comes again, the less is kept. Equal gradients: tests/model/test_lean.py."""

import numpy as np
import pytest
from torch.profiler import ProfilerActivity, profile

from tunesmith.adapters.lora import Lora
from tunesmith.model.lean import Lean
from tunesmith.model.load import load
from tunesmith.model.policy import Policy
from tunesmith.text.example import Example, Unit
from tunesmith.train.recompute import checkpoint_activations


def most_alive(policy, batch):
    """Most bytes alive in a pass, from the profiler's allocation events."""
    policy.nll(batch)[0].backward()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        policy.nll(batch)[0].backward()
    live = top = 0
    events = [(e.start_ns(), e.nbytes()) for e in seen.profiler.kineto_results.events() if e.name() == "[memory]"]
    for _, size in sorted(events, key=lambda event: event[0]):
        live += size
        top = max(top, live)
    return top


@pytest.mark.parametrize("lean", [False, True])
def test_what_is_kept(lean):
    most = []
    for what in (False, "selective", True):
        model = load("mini")
        checkpoint_activations(model.net.train(), what)
        units = [Unit((Example.of(np.arange(n) % 250, np.ones(n)),)) for n in (120, 120, 120, 120)]
        most.append(most_alive(Policy(model.net, lean=lean), model.policy.batch(units)))
    everything, products, inputs = most
    assert everything > 1.1 * products > 1.3 * inputs, most


def test_a_wide_model_makes_them_again_of_itself(monkeypatch):
    """There selective checkpointing finds nothing more; only what is kept of a layer can still become less."""
    found = []
    for what, wide in (("selective", 1 << 20), ("selective", 0), (False, 0), (True, 0)):
        monkeypatch.setattr("tunesmith.model.lean.WIDE", wide)
        model = load("mini")
        checkpoint_activations(model.net.train(), what)
        units = [Unit((Example.of(np.arange(n) % 250, np.ones(n)),)) for n in (120, 120, 120, 120)]
        found.append(most_alive(Policy(model.net, lean=True), model.policy.batch(units)))
    *again, inputs = found
    assert max(again) < 1.02 * min(again) and min(again) > 1.8 * inputs, found


@pytest.mark.parametrize(("dropout", "again"), [(0.0, True), (0.1, False)])
def test_drops_are_made_again_by_checkpointing_alone(dropout, again):
    model = load("pico")
    Lora(rank=2, dropout=dropout).attach(model.net)
    checkpoint_activations(model.net, "selective")
    assert Lean.of(model.net).asked is again
