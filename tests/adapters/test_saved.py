"""The number format of an adapter's file: that of the base's own, so that it stays small beside it; fp32 where asked for."""

import json
from pathlib import Path

import peft
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

import tunesmith
from tunesmith.adapters.lora import Lora
from tunesmith.adapters.qlora import Qlora
from tunesmith.adapters.store import attach, open_run, save_adapter
from tunesmith.model.load import load
from tunesmith.model.save import save

ROWS = [{"question": f"What is {i} plus {i}?", "answer": f"It is {2 * i}."} for i in range(24)]
IDS = torch.tensor([[2, 40, 300, 77, 5, 3, 900, 41, 5]])


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> dict[str, Path]:
    """Two equal runs of mini with the default LoRA, kept in either format."""
    folder = tmp_path_factory.mktemp("saved")
    keys = {"model": "mini", "steps": 12, "lr": 3e-3, "quiet": True, "train.sample": 0, "data.dev": 0, "data.test": 0}
    for name, adapter in (("base", "lora"), ("fp32", {"lora": {"saved": "fp32"}})):
        tunesmith.train(data=ROWS, adapter=adapter, out=str(folder / name), **keys)
    return {name: folder / name for name in ("base", "fp32")}


def test_the_default_lora_of_mini_is_small_beside_it(runs):
    """Under 5 % of the parameters train, and the file has under 5 % of the bytes of mini's own."""
    counts = json.loads((runs["base"] / "parameters.json").read_text())
    assert counts["trainable"] / (counts["trainable"] + counts["frozen"]) < 0.05
    (own,) = load("mini").source.glob("*.safetensors")
    assert (runs["base"] / "adapter/adapter_model.safetensors").stat().st_size < 0.05 * own.stat().st_size
    kinds = {tensor.dtype for tensor in load_file(runs["base"] / "adapter/adapter_model.safetensors").values()}
    assert kinds == {torch.bfloat16}


def test_nothing_but_the_rounding_of_the_matrices_differs(runs):
    """A checkpoint is fp32 either way; the logits move by less than a bf16 of their own would."""
    one, other = (load_file(path / "adapter/adapter_model.safetensors") for path in runs.values())
    assert all(other[name].to(torch.bfloat16).equal(one[name]) for name in other)
    for path in runs.values():
        (last,) = [p for p in (path / "checkpoints").rglob("*.safetensors") if "param" in str(load_file(p).keys())][-1:]
        assert {t.dtype for n, t in load_file(last).items() if n.startswith("param.")} == {torch.float32}
    with torch.no_grad():
        rounded, exact = (open_run(path).net(input_ids=IDS).logits for path in runs.values())
        plain = load("mini").net(input_ids=IDS).logits
    assert (exact - plain).abs().max() > 0.5  # it did learn
    assert (rounded - exact).abs().max() <= 2**-8 * exact.abs().max()


def test_peft_reads_it(runs):
    base = AutoModelForCausalLM.from_pretrained(load("mini").source, dtype=torch.float32)
    theirs = peft.PeftModel.from_pretrained(base, runs["base"] / "adapter")
    with torch.no_grad():
        wanted = open_run(runs["base"]).net(input_ids=IDS).logits
        assert torch.allclose(theirs(input_ids=IDS).logits, wanted, atol=1e-4)


def test_an_opened_run_is_written_again_as_it_was(runs, tmp_path):
    for name, path in runs.items():
        model = open_run(path)
        again = save_adapter(model, model.adapter, model.facts["targets"], tmp_path / name, base="mini")
        before, after = (load_file(folder / "adapter_model.safetensors") for folder in (path / "adapter", again))
        assert all(before[key].equal(after[key]) and before[key].dtype == after[key].dtype for key in before)


@pytest.mark.parametrize(
    ("stored", "kept"), [("fp32", torch.float32), ("fp16", torch.float16), ("bf16", torch.bfloat16)]
)
@pytest.mark.parametrize("adapter", [Lora(rank=2), Qlora(rank=2)])
def test_the_format_is_that_of_the_bases_file(adapter, stored, kept, tmp_path):
    pico = load("pico")
    save(pico.net, pico.tokenizer, tmp_path / "base", dtype=stored)
    model = load(tmp_path / "base", base="nf4" if isinstance(adapter, Qlora) else "")
    folder = save_adapter(model, adapter, attach(adapter, model), tmp_path / "a", base=str(tmp_path / "base"))
    assert {tensor.dtype for tensor in load_file(folder / "adapter_model.safetensors").values()} == {kept}
