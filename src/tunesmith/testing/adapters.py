"""check_adapter: does an adapter keep what training, checkpoints and serving rely on?

>>> check_adapter(Lora(rank=4))
"""

from typing import Any

import torch
from torch import nn

from tunesmith.adapters.store import attach, open_adapter, save_adapter
from tunesmith.core.errors import ModelError
from tunesmith.model.load import Model, load
from tunesmith.model.save import save
from tunesmith.model.virtual import virtual_ids
from tunesmith.objectives.sft import Sft
from tunesmith.step.step import backward
from tunesmith.testing.items import check_item, holds
from tunesmith.testing.objectives import random_units
from tunesmith.train.optim import Optimizer
from tunesmith.train.run import embedding_names

IDS = torch.arange(40, 70)[None]
STARTS = {"equal": "to the last bit", "near": "to 1e-5", "elsewhere": ""}


def check_adapter(adapter: Any, model: str = "pico") -> None:
    """Raise AssertionError when a promise of the shelf is broken.

    model   the base to attach it to (default: pico, a one-layer Llama)

    What does not hold for every adapter, its class says: `start` = "equal" (default), "near" or "elsewhere" (its first
    logits are the base's to the last bit, to 1e-5, or not); `merges` = False (it cannot be put into the weights, and says so).

    Checked: it is an item of a shelf (see items.py); it starts where it says; equal seeds give equal starts; something
    trains, all of it gets a gradient in a few steps and the loss falls; what does not train keeps its bytes; merging gives
    the same logits (1e-5) and leaves a plain network; what is saved comes back the same; a new head trains beside it.
    """
    check_item(adapter)
    name = type(adapter).__name__
    holds(
        getattr(adapter, "file", None) in ("adapter", "model"), f'{name}.file says what is kept: "adapter" or "model"'
    )
    start = getattr(adapter, "start", "equal")
    holds(start in STARTS, f"{name}.start is one of {', '.join(STARTS)}")
    base, one, two = (load(model, seed=1) for _ in range(3))
    targets = attach(adapter, one, seed=5)
    attach(adapter, two, seed=5)
    first, wanted = _logits(one), _logits(base)
    holds(
        start == "elsewhere" or torch.equal(first, wanted) or (start == "near" and _close(first, wanted)),
        f"{name}: the first logits are those of the base, {STARTS[start]}",
    )
    same = zip(one.net.state_dict().items(), two.net.state_dict().items())
    holds(
        all(a == b and torch.equal(x, y) for (a, x), (b, y) in same),
        f"{name}.attach gives the same start for the same seed",
    )
    _trains(one, name)
    _saves(adapter, one, targets, name, model)
    _merges(adapter, one, base, name)
    _heads(adapter, name, model)


def _close(one: torch.Tensor, other: torch.Tensor) -> bool:
    return bool((one - other).abs().max() <= 1e-5 * max(1.0, other.abs().max().item()))


def _logits(model: Model) -> torch.Tensor:
    """Of the same words for every adapter: what a soft prompt puts before them is left out."""
    model.net.eval()
    front = torch.tensor([virtual_ids(model.net)], dtype=torch.int64)
    with torch.no_grad():
        ids = torch.cat([front, IDS], 1).to(model.policy.device)
        return model.net(input_ids=ids, use_cache=False).logits[:, front.shape[1] :]


def _trains(model: Model, name: str) -> None:
    """A few steps of sft: the loss falls, all that trains moves, the rest stays."""
    trained = {n: p for n, p in model.net.named_parameters() if p.requires_grad}
    holds(bool(trained), f"{name}.attach marks something to train")
    before = {n: p.detach().clone() for n, p in model.net.named_parameters()}
    buffers = {n: b.detach().clone() for n, b in model.net.named_buffers()}
    started = _logits(model)
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
    moved += [n for n, b in model.net.named_buffers() if not torch.equal(b, buffers[n])]
    holds(not moved, f"{name}: what is frozen keeps its bytes; these moved: {moved[:3]}")
    holds(not torch.equal(_logits(model), started), f"{name}: training changes the logits")


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


def _merges(adapter: Any, model: Model, base: Model, name: str) -> None:
    """Put into the weights, the logits are the same and the network is plain; or it is refused in words."""
    if not getattr(adapter, "merges", True):
        try:
            adapter.merge(model.net)
        except ModelError:
            return
        holds(False, f"{name}.merges is False, and merge raises a ModelError that says why")
    adapted = _logits(model)
    adapter.merge(model.net)
    holds(torch.allclose(_logits(model), adapted, atol=1e-5), f"{name}.merge gives the same logits")
    holds(set(model.net.state_dict()) == set(base.net.state_dict()), f"{name}.merge leaves a plain network")


def _heads(adapter: Any, name: str, base: str) -> None:
    """What is new on the network trains as a whole, under every adapter."""
    model = load(base, seed=1)
    size = model.net.get_input_embeddings().weight.shape[1]
    model.net.add_module("value_head", nn.Linear(size, 1))
    model.facts["heads"] = ["value_head"]
    targets = attach(adapter, model, seed=5)
    holds("value_head" not in targets, f"{name} leaves new heads alone: they train as they are")
    head = model.net.get_submodule("value_head")
    holds(
        type(head) is nn.Linear and all(p.requires_grad for p in head.parameters()),
        f"{name}: new heads train beside it",
    )
