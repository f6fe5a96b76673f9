"""check_adapter: does an adapter keep what training, checkpoints and serving rely on?

>>> check_adapter(Lora(rank=4))
"""

from typing import Any

import torch

from tunesmith.adapters.store import open_adapter, save_adapter
from tunesmith.model.load import Model, load
from tunesmith.model.save import save
from tunesmith.objectives.sft import Sft
from tunesmith.step.step import backward
from tunesmith.testing.items import check_item, holds
from tunesmith.testing.objectives import random_units
from tunesmith.train.optim import Optimizer
from tunesmith.train.run import embedding_names

IDS = torch.arange(40, 70)[None]


def check_adapter(adapter: Any, model: str = "pico") -> None:
    """Raise AssertionError when a promise of the shelf is broken.

    model   the base to attach it to (default: pico, a one-layer Llama)

    Checked: it is an item of a shelf (see items.py); it starts at the base to the last bit; equal seeds give equal starts;
    something trains, all of it gets a gradient in a few steps and the loss falls; what does not train keeps its bytes;
    merging gives the same logits (1e-4) and leaves a plain network; what is saved comes back the same.
    """
    check_item(adapter)
    name = type(adapter).__name__
    holds(
        getattr(adapter, "file", None) in ("adapter", "model"), f'{name}.file says what is kept: "adapter" or "model"'
    )
    base, one, two = (load(model, seed=1) for _ in range(3))
    targets = adapter.attach(one.net, seed=5)
    adapter.attach(two.net, seed=5)
    holds(torch.equal(_logits(one), _logits(base)), f"{name}: the first logits are those of the base, to the last bit")
    same = zip(one.net.state_dict().items(), two.net.state_dict().items())
    holds(
        all(a == b and torch.equal(x, y) for (a, x), (b, y) in same),
        f"{name}.attach gives the same start for the same seed",
    )
    _trains(one, base, name)
    _saves(adapter, one, targets, name, model)
    adapted = _logits(one)
    adapter.merge(one.net)
    holds(torch.allclose(_logits(one), adapted, atol=1e-4), f"{name}.merge gives the same logits")
    holds(set(one.net.state_dict()) == set(base.net.state_dict()), f"{name}.merge leaves a plain network")


def _logits(model: Model) -> torch.Tensor:
    model.net.eval()
    with torch.no_grad():
        return model.net(input_ids=IDS.to(model.policy.device)).logits


def _trains(model: Model, base: Model, name: str) -> None:
    """A few steps of sft: the loss falls, all that trains moves, the rest stays."""
    trained = {n: p for n, p in model.net.named_parameters() if p.requires_grad}
    holds(bool(trained), f"{name}.attach marks something to train")
    before = {n: p.detach().clone() for n, p in model.net.named_parameters()}
    units = random_units((9, 14, 6, 11), seed=7)
    optimizer = Optimizer(trained.items(), embeddings=embedding_names(model.net))
    model.net.train()
    losses = []
    for number in range(12):
        torch.manual_seed(number)
        losses.append(backward(model.policy, Sft(), units).loss)
        if not number:
            stray = [n for n, p in model.net.named_parameters() if p.grad is not None and n not in trained]
            holds(not stray, f"{name}: what is frozen gets no gradient: {stray[:3]}")
        optimizer.step(lr=1e-2)
    holds(losses[-1] < losses[0], f"{name}: the loss falls in twelve steps ({losses[0]:.3f} to {losses[-1]:.3f})")
    still = [n for n in trained if torch.equal(model.net.get_parameter(n), before[n])]
    holds(not still, f"{name}: all that trains moves; these did not: {still[:3]}")
    moved = [n for n in before if n not in trained and not torch.equal(model.net.get_parameter(n), before[n])]
    holds(not moved, f"{name}: what is frozen keeps its bytes; these moved: {moved[:3]}")
    holds(not torch.equal(_logits(model), _logits(base)), f"{name}: training changes the logits")


def _saves(adapter: Any, model: Model, targets: list[str], name: str, base: str) -> None:
    """Written and read again, the logits are the same."""
    import tempfile
    from pathlib import Path

    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "saved"
        if adapter.file == "adapter":
            untouched = load(base, seed=1)
            save(untouched.net, untouched.tokenizer, Path(folder) / "base", dtype="fp32")
            save_adapter(model, adapter, targets, place, base=str(Path(folder) / "base"))
            again = open_adapter(place)
        else:
            save(model.net, model.tokenizer, place, dtype="fp32")
            again = load(place)
        holds(
            torch.allclose(_logits(again), _logits(model), atol=1e-5),
            f"{name}: saved and read again, the logits are the same",
        )
