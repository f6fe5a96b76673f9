"""Every adapter of the shelf through whole runs: stopped and resumed bit by bit, in bf16, read back, answering."""

import pytest
import torch

from tunesmith.adapters.store import attach, open_adapter, save_adapter
from tunesmith.core.runs import RunFolder
from tunesmith.core.shelf import shelf
from tunesmith.model.generate import generate
from tunesmith.model.load import load
from tunesmith.model.save import save
from tunesmith.objectives.sft import Sft
from tunesmith.train.run import fit

SPECS = {"tokens": {"tokens": {"ids": (40, 41, 42, 43, 44, 45)}}, "top": {"top": {"layers": 1}}}
NAMES = [item.name for item in shelf("adapters").items().values() if item.origin == "built in"]
every = pytest.mark.parametrize("name", NAMES)


def tuned(name, make_units, folder, *parts, **settings):
    """A pico trained by the adapter `name`, in as many parts as settings are given: (model, adapter, its targets)."""
    for part in parts or ({},):
        adapter = shelf("adapters").make(SPECS.get(name, name))
        model = load("pico", seed=1)
        targets = attach(adapter, model, seed=2)
        run = RunFolder.open(folder) if part.get("resume") else RunFolder.create(folder, project={}, verb="train")
        fit(
            model,
            Sft(),
            make_units([9, 14, 6, 11]),
            None,
            folder=run,
            steps=4,
            batch_size=2,
            lr=1e-2,
            **settings,
            **part,
        )
    return model, adapter, targets


@every
def test_a_run_that_was_stopped_goes_on_bit_by_bit(name, make_units, tmp_path):
    whole, _, _ = tuned(name, make_units, tmp_path / "whole")
    parts, _, _ = tuned(name, make_units, tmp_path / "parts", {"stop_after": 2}, {"resume": True})
    moved = {n: p for n, p in whole.net.named_parameters() if p.requires_grad}
    assert moved and all(torch.equal(p, parts.net.get_parameter(n)) for n, p in moved.items())
    start = load("pico", seed=1)
    attach(shelf("adapters").make(SPECS.get(name, name)), start, seed=2)
    assert any(not torch.equal(p, start.net.get_parameter(n)) for n, p in moved.items())


@every
def test_in_bf16_what_an_adapter_adds_stays_fp32_and_the_result_answers(name, make_units, tmp_path):
    model, adapter, targets = tuned(name, make_units, tmp_path / "run", precision="bf16")
    kept = {n: p.dtype for n, p in model.net.named_parameters() if getattr(p, "adapter", False)}
    assert set(kept.values()) <= {torch.float32}
    assert all(p.isfinite().all() for p in model.net.parameters())
    if adapter.file == "adapter":
        base = load("pico", seed=1)
        save(base.net, base.tokenizer, tmp_path / "base", dtype="fp32")
        saved = save_adapter(model, adapter, targets, tmp_path / "adapter", base=str(tmp_path / "base"))
        model = open_adapter(saved)
    answers = generate(model, [[5, 6, 7], [9, 8, 7, 6]], max_tokens=3, eos_ids=())
    assert [len(answer.ids) for answer in answers] == [3, 3]
