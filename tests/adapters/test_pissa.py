"""PiSSA: starts at the base (1e-5) with the largest directions trained, PEFT's factors, saved as plain LoRA of twice the rank."""

import json

import peft
import pytest
import torch

from tunesmith.adapters.lora import Lora
from tunesmith.adapters.pissa import Pissa
from tunesmith.adapters.store import attach, merge, open_adapter, save_adapter
from tunesmith.core.errors import SettingError
from tunesmith.model.packed import quantise_network
from tunesmith.testing import check_adapter

CASES = {
    "llama": ("llama", {"rank": 4}),
    "alpha": ("llama", {"rank": 4, "alpha": 9.0, "targets": ("q_proj", "down_proj")}),
    "pattern": ("llama", {"rank": 4, "rank_pattern": {"down_proj": 2}}),
    "pattern_alpha": ("llama", {"rank": 4, "alpha": 6.0, "rank_pattern": {"down_proj": 2}}),
    "rounds": ("llama", {"rank": 4, "rounds": 8}),
    "tied_head": ("tied", {"rank": 4, "targets": ("lm_head", "q_proj")}),
    "conv1d": ("gpt2", {"rank": 3}),
}


@pytest.mark.parametrize("case", CASES)
def test_base_and_adapter_together_are_the_base(case, new_model, logits, near):
    name, settings = CASES[case]
    model, base = new_model(name), new_model(name)
    names = attach(Pissa(**settings), model, seed=1)
    assert near(logits(model.net), logits(base.net))
    for name in names:
        layer, whole = model.net.get_submodule(name), base.net.get_submodule(name).weight
        whole = whole.T if layer.transposed else whole
        assert torch.allclose(layer.effective_weight(), whole, atol=1e-5)
        # what trains are the largest directions
        values = torch.linalg.svdvals(whole)
        found, off = torch.linalg.svdvals(layer.delta())[: layer.rank], 0.05 if case == "rounds" else 1e-3
        assert torch.allclose(found, values[: layer.rank], rtol=off)
    if case == "tied_head":  # the embeddings keep their bytes
        assert torch.equal(model.net.get_input_embeddings().weight, base.net.get_input_embeddings().weight)


def test_the_factors_are_pefts(new_model, plain_net):
    model = new_model("llama")
    names = attach(Pissa(rank=4), model)
    config = peft.LoraConfig(
        task_type="CAUSAL_LM", r=4, lora_alpha=4, init_lora_weights="pissa", target_modules="all-linear"
    )
    theirs = peft.get_peft_model(plain_net("llama"), config).base_model.model
    for name in names:
        ours, other = model.net.get_submodule(name), theirs.get_submodule(name)
        product = other.lora_B["default"].weight @ other.lora_A["default"].weight
        assert torch.allclose(ours.delta(), product, atol=1e-5)
        assert torch.allclose(
            ours.lora_A @ ours.lora_A.T, other.lora_A["default"].weight @ other.lora_A["default"].weight.T, atol=1e-4
        )
        assert torch.allclose(ours.weight, other.base_layer.weight, atol=1e-5)


@pytest.mark.parametrize("case", CASES)
def test_saved_it_is_plain_lora_over_the_original_base(
    case, new_model, plain_net, base_of, shake, logits, near, tmp_path
):
    name, settings = CASES[case]
    model, adapter = new_model(name), Pissa(**settings)
    names = attach(adapter, model, seed=1)
    shake(model.net)
    wanted = logits(model.net)
    folder = save_adapter(model, adapter, names, tmp_path / "a", base=str(base_of(name)))
    opened = open_adapter(folder)
    assert type(opened.adapter) is Lora and opened.adapter.rank == 2 * adapter.rank
    assert near(logits(opened.net), wanted)
    theirs = peft.PeftModel.from_pretrained(plain_net(name), folder)
    assert near(logits(theirs), wanted)
    assert "init_lora_weights" not in json.loads((folder / "adapter_config.json").read_text())
    assert near(logits(merge(opened).net), wanted)
    adapter.merge(model.net)
    assert near(logits(model.net), wanted)


def test_a_base_in_four_bits_is_told(new_model):
    model = new_model("llama")
    quantise_network(model.net)
    with pytest.raises(SettingError, match="packed"):
        attach(Pissa(), model)


@pytest.mark.parametrize("settings", [{"rank": 0}, {"dropout": 1.0}, {"rounds": 0}])
def test_settings_without_sense_are_told(settings):
    with pytest.raises(SettingError):
        Pissa(**settings)


@pytest.mark.parametrize("adapter", [Pissa(rank=4), Pissa(rank=4, rounds=4, targets=("lm_head", "q_proj"))])
def test_keeps_what_the_shelf_promises(adapter):
    check_adapter(adapter)
