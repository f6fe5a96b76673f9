"""A stretched context: the right frequencies from the first forward pass on, written down, reloaded with equal logits."""

import json
import math

import pytest
import torch
from transformers import AutoModelForCausalLM, GPT2Config, LlamaConfig

from tunesmith.core.errors import ModelError
from tunesmith.model.load import fresh, load
from tunesmith.model.rope import native, stretch
from tunesmith.model.save import save
from tunesmith.testing.objectives import random_units
from tunesmith.text.tokenizer import byte_tokenizer


def config(**more):
    sizes = {"hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    return LlamaConfig(vocab_size=288, max_position_embeddings=128, pad_token_id=0, **sizes, **more)


def frequencies(kind=None, factor=4.0):
    settings = {"rope": {"kind": kind, "factor": factor}} if kind else {}
    net = fresh(config(), byte_tokenizer(), name="t", **settings).net
    return net.model.rotary_emb.inv_freq.double(), float(net.model.rotary_emb.attention_scaling), net.config


def test_linear_divides_every_frequency():
    plain, _, _ = frequencies()
    found, scaling, made = frequencies("linear")
    assert torch.allclose(found, plain / 4, rtol=1e-6)
    assert scaling == 1.0
    assert made.max_position_embeddings == 512


def test_ntk_keeps_the_fastest_and_divides_the_slowest():
    """theta x factor^(d / (d - 2)) is chosen so that exactly the last frequency is divided by the factor."""
    plain, _, _ = frequencies()
    found, scaling, _ = frequencies("ntk")
    assert found[0] == plain[0]
    assert float(found[-1] / plain[-1]) == pytest.approx(1 / 4, rel=1e-5)
    assert bool((found <= plain * (1 + 1e-6)).all())
    assert scaling == 1.0


def test_yarn_keeps_what_turns_often_and_divides_what_never_finishes_a_turn():
    plain, _, _ = frequencies()
    found, scaling, _ = frequencies("yarn")
    turns = 128 * plain / (2 * math.pi)
    assert torch.allclose(
        found[turns < 1][1:], plain[turns < 1][1:] / 4, rtol=1e-5
    )  # the first may lie on the ramp: whole dimensions
    assert found[0] == plain[0]
    ratio = found / plain
    assert bool((ratio[1:] <= ratio[:-1] + 1e-9).all())
    assert 1 / 4 - 1e-6 <= float(ratio.min()) and float(ratio.max()) <= 1 + 1e-6
    assert scaling == pytest.approx(0.1 * math.log(4) + 1)


@pytest.mark.parametrize("kind", ["linear", "ntk", "yarn"])
def test_saved_and_loaded_by_anyone_the_logits_are_equal(kind, tmp_path):
    rope = {"kind": kind, "factor": 4}
    model = load("pico", seed=1, rope=rope)
    assert model.context == 2048
    ids = torch.randint(3, 288, (1, 700), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        plain = load("pico", seed=1)
        for net in (model.net, plain.net):  # a fresh model hardly looks at positions
            net.model.layers[0].self_attn.q_proj.weight.mul_(30)
        logits = model.net(input_ids=ids).logits
        save(model.net, model.tokenizer, tmp_path / "saved")
        again = load(tmp_path / "saved")
        other = AutoModelForCausalLM.from_pretrained(tmp_path / "saved").eval()
        assert torch.equal(again.net(input_ids=ids).logits, logits)
        assert torch.allclose(other(input_ids=ids).logits, logits, atol=1e-5)
        assert (logits - plain.net(input_ids=ids).logits).abs().max() > 1e-2
    assert again.context == other.config.max_position_embeddings == 2048
    written = json.loads((tmp_path / "saved" / "config.json").read_text())
    assert written["rope_parameters"]["rope_type"] == ("default" if kind == "ntk" else kind)
    same = load(tmp_path / "saved", rope=rope)  # asking again for what was done changes nothing
    assert same.net.config.rope_parameters == again.net.config.rope_parameters
    with pytest.raises(ModelError, match="stretched already"):
        load(tmp_path / "saved", rope={"kind": kind, "factor": 8})


@pytest.mark.parametrize("kind", ["linear", "ntk", "yarn"])
def test_packed_and_lean_paths_know_of_it(kind):
    """Both are proved at load; a gradient through YaRN's sharpened rotation equals transformers'."""
    model = load("pico", dtype="fp64", seed=1, rope={"kind": kind, "factor": 4})
    assert model.proof.layout == "packed" and model.proof.lean
    (unit,) = random_units([600])
    total, _ = model.policy.nll(model.policy.batch([unit]))
    total.backward()
    found = model.net.model.layers[0].self_attn.q_proj.weight.grad.clone()
    model.net.zero_grad()
    ids = torch.tensor(unit.examples[0].ids, dtype=torch.int64)[None]
    labels = torch.where(torch.tensor(unit.examples[0].weights)[None] > 0, ids, -100)
    loss = model.net(input_ids=ids, labels=labels).loss * int((labels != -100).sum())
    loss.backward()
    assert float(total.detach()) == pytest.approx(float(loss.detach()), rel=1e-6)
    assert (found - model.net.model.layers[0].self_attn.q_proj.weight.grad).abs().max() < 1e-5


def test_a_scaling_of_its_own_is_not_overwritten(tmp_path):
    llama3 = {
        "rope_type": "llama3", "rope_theta": 5e5, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64,
    }  # fmt: skip
    own = config(rope_parameters=dict(llama3))
    assert native(own) == "llama3" and native(config()) == ""
    with pytest.raises(ModelError, match="llama3"):
        stretch(own, "yarn", 4)
    assert own.rope_parameters == llama3 and own.max_position_embeddings == 128
    model = fresh(own, byte_tokenizer(), name="t")
    save(model.net, model.tokenizer, tmp_path / "own")
    assert load(tmp_path / "own").net.config.rope_parameters == llama3


def test_what_cannot_be_stretched_is_told():
    with pytest.raises(ModelError, match="no rotary positions"):
        stretch(GPT2Config(), "yarn", 2)
    with pytest.raises(ModelError, match="factor is 0.5"):
        stretch(config(), "yarn", 0.5)
    with pytest.raises(ModelError, match="'dynamic' is not known"):
        stretch(config(), "dynamic", 2)


def test_loading_in_another_format_warns(tmp_path):
    model = load("pico", seed=1)
    save(model.net, model.tokenizer, tmp_path / "wide")
    with pytest.warns(UserWarning, match="stored as fp32 and loaded as bf16"):
        load(tmp_path / "wide", dtype="bf16")


def test_an_adapter_on_a_stretched_base_is_opened_on_a_stretched_base(tmp_path):
    from tunesmith.adapters.lora import Lora
    from tunesmith.adapters.store import attach, open_run, save_adapter

    model = load("pico", rope={"kind": "yarn", "factor": 4})
    names = attach(Lora(), model)
    save_adapter(model, Lora(), names, tmp_path / "adapter", base="pico")
    again = open_run(tmp_path / "adapter")
    ids = torch.randint(3, 288, (1, 900), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(again.net(input_ids=ids).logits, model.net.eval()(input_ids=ids).logits)
    assert again.context == 2048
