"""qlora: LoRA over a four-bit base. Equal to LoRA over the dequantised base, in logits, gradients, merging and on disk."""

import json

import pytest
import torch

from tunesmith.adapters.lora import Lora
from tunesmith.adapters.qlora import Qlora
from tunesmith.adapters.store import attach, merge, open_adapter, save_adapter
from tunesmith.core.errors import SettingError
from tunesmith.model.load import load
from tunesmith.model.packed import PackedLinear, dequantise_network, is_quantised, quantise_network, weight_bytes
from tunesmith.model.save import save
from tunesmith.objectives.sft import Sft
from tunesmith.step.step import backward
from tunesmith.testing import check_adapter


def over_dequantised(new_model, kind, adapter, dtype="fp32"):
    model = new_model(kind, dtype)
    quantise_network(model.net)
    dequantise_network(model.net)
    attach(adapter, model, seed=3)
    return model


@pytest.mark.parametrize("kind", ["llama", "tied", "gpt2", "mixtral"])
def test_logits_and_gradients_are_those_of_lora_on_the_dequantised_base(
    kind, new_model, shake, make_units, logits, near
):
    model = new_model(kind)
    attach(Qlora(rank=4), model, seed=3)
    wanted = over_dequantised(new_model, kind, Lora(rank=4))
    for net in (model.net, wanted.net):
        shake(net)
    assert near(logits(model.net), logits(wanted.net), 1e-6)
    units = make_units([5, 17, 9])
    for one in (model, wanted):
        backward(one.policy, Sft(), units)
    expected = {n: p.grad for n, p in wanted.net.named_parameters() if p.requires_grad}
    found = {n: p.grad for n, p in model.net.named_parameters() if p.requires_grad}
    assert found.keys() == expected.keys()
    assert all(near(found[name], expected[name]) and found[name].any() for name in found)


def test_it_starts_at_the_quantised_base_bit_by_bit(new_model, logits):
    for dtype in ("fp32", "bf16"):
        model, base = new_model("llama", dtype), new_model("llama", dtype)
        attach(Qlora(), model)
        quantise_network(base.net)
        assert torch.equal(logits(model.net), logits(base.net))


def test_merged_into_the_dequantised_base_all_layers_are_ordinary_again(new_model, shake, logits, near, tmp_path):
    model = new_model("llama")
    attach(Qlora(rank=2, targets=("q_proj", "down_proj")), model)
    shake(model.net)
    wanted = logits(model.net)
    Qlora().merge(model.net)
    assert not is_quantised(model.net) and near(logits(model.net), wanted)
    save(model.net, model.tokenizer, tmp_path / "m", dtype="fp32")
    assert near(logits(load(tmp_path / "m").net), wanted)


def test_its_file_is_loras_and_the_four_bits_are_remembered_beside_it(
    new_model, base_of, shake, logits, near, tmp_path
):
    import peft
    from transformers import AutoModelForCausalLM

    model, adapter, base = new_model("llama"), Qlora(rank=2), base_of("llama")
    names = attach(adapter, model)
    shake(model.net)
    folder = save_adapter(model, adapter, names, tmp_path / "a", base=str(base))
    assert json.loads((folder / "tunesmith.json").read_text()) == {"base": "nf4"}
    opened = open_adapter(folder)
    assert isinstance(opened.net.get_submodule(names[0]).quantised, PackedLinear)
    wanted = logits(model.net)
    assert near(logits(opened.net), wanted, 1e-6)
    merged = merge(opened)
    assert near(logits(merged.net), wanted)
    dequantised = over_dequantised(new_model, "llama", Lora(rank=1, targets=("q_proj",)))
    Lora(rank=1).merge(dequantised.net)
    theirs = AutoModelForCausalLM.from_pretrained(base, attn_implementation="eager")
    theirs.load_state_dict(dequantised.net.state_dict())
    assert near(logits(peft.PeftModel.from_pretrained(theirs, folder)), wanted)


def test_lora_over_base_nf4_is_the_same(shake, logits):
    one, two = load("pico", base="nf4", seed=1), load("pico", seed=1)
    attach(Lora(rank=2), one, seed=4)
    attach(Qlora(rank=2), two, seed=4)
    shake(one.net)
    shake(two.net)
    assert torch.equal(logits(one.net), logits(two.net))


def test_the_base_takes_half_a_byte_a_weight_and_the_backward_pass_keeps_no_whole_one(new_model, make_units):
    model = new_model("llama")
    whole = sum(p.numel() * 4 for n, p in model.net.named_parameters() if "proj" in n)
    names = attach(Qlora(rank=1), model)
    assert weight_bytes(model.net)["nf4"] < 0.14 * whole  # 0.52 / 4, and a little for small matrices
    layer = model.net.get_submodule(names[0])
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.numel()) or t, lambda t: t):
        layer(torch.randn(3, layer.in_features, requires_grad=True)).sum().backward()
    assert max(kept) < layer.in_features * layer.out_features


def test_settings_without_sense_are_told():
    with pytest.raises(SettingError):
        Qlora(dropout=1.5)


@pytest.mark.parametrize("adapter", [Qlora(), Qlora(rank=2, dropout=0.2, targets=("q_proj",))])
def test_keeps_what_the_shelf_promises(adapter):
    check_adapter(adapter)
