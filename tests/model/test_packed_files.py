"""Folders of packed networks: read again bit by bit, and by those who wrote the format first."""

import importlib.util
import json
from pathlib import Path

import pytest
import torch
import transformers as hf
from safetensors.torch import load_file, save_file

from tunesmith.core.errors import ModelError
from tunesmith.model.load import fresh, load
from tunesmith.model.packed import PackedLinear, kind_of, packed_layers, quantise_network
from tunesmith.model.save import save
from tunesmith.text.tokenizer import byte_tokenizer

IDS = torch.arange(3, 43)[None]


def made(architecture: str, kind: str):
    if architecture == "pico":
        model = load("pico", seed=1)
    elif architecture == "gpt2":  # its matrices lie transposed
        model = fresh(
            lambda size: hf.GPT2Config(vocab_size=size, n_embd=32, n_layer=2, n_head=2), byte_tokenizer(), name="gpt2"
        )
    elif architecture == "llama":  # as wide as bitsandbytes' CPU kernels want it
        sizes = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 1, "num_attention_heads": 2}
        model = fresh(lambda size: hf.LlamaConfig(vocab_size=size, **sizes), byte_tokenizer(), name="llama")
    else:  # experts are one parameter of three dimensions, the head is not tied
        sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1, "num_attention_heads": 2}
        model = fresh(
            lambda size: hf.MixtralConfig(vocab_size=size, num_key_value_heads=1, num_local_experts=2, **sizes),
            byte_tokenizer(), name="mixtral",
        )  # fmt: skip
    quantise_network(model.net, kind)
    return model


def logits(net):
    with torch.no_grad():
        return net(input_ids=IDS, use_cache=False).logits


@pytest.mark.parametrize("kind", ["int8", "nf4"])
@pytest.mark.parametrize("architecture", ["pico", "gpt2", "mixtral"])
def test_saved_and_read_again_bit_by_bit(architecture, kind, tmp_path):
    model = made(architecture, kind)
    folder = save(model.net, model.tokenizer, tmp_path / "small")
    opened = load(folder)
    assert kind_of(opened.net) == kind
    assert packed_layers(opened.net).keys() == packed_layers(model.net).keys()
    assert torch.equal(logits(opened.net), logits(model.net))
    again = load(save(opened.net, opened.tokenizer, tmp_path / "again"))
    assert torch.equal(logits(again.net), logits(model.net))
    held = load_file(folder / "model.safetensors")
    assert not [
        name for name, value in held.items() if "proj.weight" in name and value.is_floating_point() and value.ndim > 1
    ]


def test_a_classifier_takes_the_packed_body(tmp_path):
    model = made("pico", "int8")
    folder = save(model.net, model.tokenizer, tmp_path / "small")
    opened = load(folder, kind="classify", labels=("a", "b"))
    name = "model.layers.0.mlp.up_proj"
    assert isinstance(opened.net.get_submodule(name), PackedLinear) and opened.facts["heads"] == ["score"]
    assert torch.equal(opened.net.get_submodule(name).codes, model.net.get_submodule(name).codes)


@pytest.mark.parametrize("kind", ["int8", "nf4"])
def test_plain_transformers_reads_it_with_bitsandbytes_and_refuses_without(kind, tmp_path):
    model = made("llama", kind)
    folder = save(model.net, model.tokenizer, tmp_path / "small")
    if importlib.util.find_spec("bitsandbytes") is None:
        with pytest.raises((ImportError, RuntimeError)):  # and fills nothing with random numbers
            hf.AutoModelForCausalLM.from_pretrained(folder)
        return
    theirs = hf.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    away = (logits(theirs) - logits(model.net)).abs().max() / logits(model.net).abs().max()
    assert away < 0.03  # its kernels compute in bf16 on some processors, and LLM.int8 rounds what is multiplied, too


def test_what_is_not_read_is_refused_in_words(tmp_path):
    model = made("pico", "nf4")
    folder = save(model.net, model.tokenizer, tmp_path / "small")
    mark, weights = folder / "packed.json", folder / "model.safetensors"
    told, tensors = json.loads(mark.read_text()), load_file(weights)
    assert told["format"] == 1 and told["kind"] == "nf4" and len(told["layers"]) == 7
    with pytest.raises(ModelError, match="quantised as nf4 already"):
        load(folder, base="int8")

    mark.write_text(json.dumps({**told, "format": 2}))
    with pytest.raises(ModelError, match="has format 2"):
        load(folder)
    mark.write_text(json.dumps(told))
    state = next(name for name in tensors if name.endswith("bitsandbytes__nf4"))
    blocks = json.loads(bytes(tensors[state].tolist())) | {"blocksize": 128}
    save_file({**tensors, state: torch.tensor(list(json.dumps(blocks).encode()), dtype=torch.uint8)}, weights)
    with pytest.raises(ModelError, match="packed in another way: .*128"):
        load(folder)
    weight = state.removesuffix(".quant_state.bitsandbytes__nf4")
    save_file({name: value for name, value in tensors.items() if name != weight}, weights)
    with pytest.raises(ModelError, match="scales of .* and no weight"):
        load(folder)


def test_a_folder_that_only_bitsandbytes_signed_is_read(tmp_path):
    model = made("pico", "nf4")
    folder = save(model.net, model.tokenizer, tmp_path / "small")
    Path(folder / "packed.json").unlink()
    assert torch.equal(logits(load(folder).net), logits(model.net))
