"""What is packed and what is not: every parameter is in one of the two, with a reason."""

import pytest
import torch
import transformers as hf

from tunesmith.core.errors import ModelError, SettingError
from tunesmith.model.load import load
from tunesmith.model.packed import packed_layers
from tunesmith.quantize.choose import choose, errors, packed_copy

SIZES = {
    "vocab_size": 288,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
}


def test_every_parameter_is_packed_or_kept_for_a_reason():
    net = hf.MixtralForCausalLM(hf.MixtralConfig(**SIZES, num_key_value_heads=2, num_local_experts=4))
    choice = choose(net, "int8", keep=("layers.1.self_attn.o_proj",))
    packed = sum(out * columns for out, columns in choice.shapes.values())
    assert packed + sum(kept.parameters for kept in choice.kept) == sum(p.numel() for p in net.parameters())
    assert len(choice.names) == 7 and "model.layers.1.self_attn.o_proj" not in choice.names
    reasons = {kept.why.partition(":")[0].partition(",")[0]: kept for kept in choice.kept}
    assert reasons["embeddings"].parameters == reasons["the output head"].parameters == 288 * 64
    assert reasons["asked for"].names == ("model.layers.1.self_attn.o_proj.weight",)
    assert {"norms and biases", "not the weight of a linear layer"} <= reasons.keys()  # experts, routers of 5.x
    assert [kept.parameters for kept in choice.kept] == sorted((k.parameters for k in choice.kept), reverse=True)


def test_a_matrix_that_would_not_get_smaller_stays():
    net = load("pico").net
    eight, four = choose(net, "int8"), choose(net, "nf4")
    assert len(eight.names) == 7
    small = {"model.layers.0.self_attn.k_proj", "model.layers.0.self_attn.v_proj"}  # 32 x 16: nf4's tables are larger
    assert set(eight.names) - set(four.names) == small
    assert any("so small" in kept.why and kept.parameters == 2 * 512 for kept in four.kept)
    with pytest.raises(ModelError, match="no matrix that int8 would make smaller"):
        choose(net, "int8", keep=("*",))


def test_a_pattern_that_means_nothing_is_told():
    with pytest.raises(SettingError, match="keep=down_poj matches no layer") as told:
        choose(load("pico").net, "int8", keep=("down_poj",))
    assert "down_proj" in told.value.wanted


def test_a_copy_is_packed_and_the_rest_rounded_and_the_original_untouched():
    net = load("pico", seed=2).net
    before = {name: value.clone() for name, value in net.state_dict().items()}
    made = packed_copy(net, "int8", choose(net, "int8").names, torch.bfloat16)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert not packed_layers(net) and len(packed_layers(made)) == 7
    table = made.get_input_embeddings().weight
    assert table.dtype == torch.float32 and torch.equal(table, before["model.embed_tokens.weight"].bfloat16().float())
    assert made.get_output_embeddings().weight is table
    assert torch.equal(made.model.rotary_emb.inv_freq, net.model.rotary_emb.inv_freq)  # in no file: not rounded
    found = errors(net, made)
    for name, error in found.items():
        weight = before[f"{name}.weight"].double()
        away = weight - made.get_submodule(name).dequantised().double()
        assert error == pytest.approx(float((away.square().sum() / weight.square().sum()).sqrt()), rel=1e-5)
    assert list(found.values()) == sorted(found.values(), reverse=True) and 0 < max(found.values()) < 0.01
