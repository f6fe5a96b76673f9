"""A base that stays in its file: the numbers of the whole one, bit by bit, and no weight in memory."""

import json

import pytest
import torch
import transformers as hf

from tunesmith.adapters.dora import Dora
from tunesmith.adapters.full import Full
from tunesmith.adapters.lora import Lora
from tunesmith.adapters.pissa import Pissa
from tunesmith.adapters.qlora import Qlora
from tunesmith.adapters.store import attach, merge, open_adapter, save_adapter
from tunesmith.adapters.top import Top
from tunesmith.core.errors import ModelError, SettingError
from tunesmith.model.load import load
from tunesmith.model.mapped import Mapped, Maps, stored_dtype
from tunesmith.model.packed import dequantise_network, kind_of, packed_layers
from tunesmith.model.save import save
from tunesmith.objectives.sft import Sft
from tunesmith.step.step import backward
from tunesmith.text.tokenizer import byte_tokenizer


@pytest.fixture(scope="module")
def folder_of(tmp_path_factory):
    """folder_of("llama", "bf16") -> a saved model of two layers."""

    def made(kind, dtype="fp32"):
        folder = tmp_path_factory.mktemp(kind)
        torch.manual_seed(0)
        size = {
            "vocab_size": byte_tokenizer().vocab_size,
            "bos_token_id": None,
            "eos_token_id": None,
            "pad_token_id": None,
        }
        if kind == "gpt2":
            none = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
            net = hf.GPT2LMHeadModel(hf.GPT2Config(n_embd=32, n_layer=2, n_head=4, n_positions=256, **none, **size))
        else:
            size |= {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
            net = hf.LlamaForCausalLM(hf.LlamaConfig(num_key_value_heads=2, tie_word_embeddings=kind == "tied", **size))
        save(net, byte_tokenizer(), folder / "m", dtype=dtype)
        return folder / "m"

    return made


def shaken(model):
    draw = torch.Generator().manual_seed(5)
    for name, parameter in model.net.named_parameters():
        if parameter.requires_grad and ("lora_B" in name or "magnitude" in name):
            parameter.data += 0.1 * torch.randn(parameter.shape, generator=draw)
    return model


@pytest.mark.parametrize("kind", ["llama", "tied", "gpt2"])
@pytest.mark.parametrize(
    "adapter", [Lora(rank=2), Lora(rank=2, targets=("*1.*proj", "*1*c_fc")), Dora(rank=2)], ids=["lora", "part", "dora"]
)
def test_losses_and_gradients_are_those_of_the_whole_base_bit_by_bit(kind, adapter, folder_of, make_units):
    folder, found = folder_of(kind), []
    for base in ("", "streamed"):
        model = load(folder, base=base)
        if isinstance(adapter.targets, tuple):
            adapter = Lora(rank=2, targets=("*h.1.mlp.c_fc",) if kind == "gpt2" else ("*layers.1.*_proj",))
        attach(adapter, model, seed=3)
        shaken(model).net.train()
        stats = backward(model.policy, Sft(), make_units([5, 17, 9, 40]), pass_tokens=64)
        found.append((stats.loss, {n: p.grad for n, p in model.net.named_parameters() if p.requires_grad}, model))
    (loss, wanted, plain), (streamed_loss, gradients, streamed) = found
    assert loss == streamed_loss and wanted.keys() == gradients.keys()
    assert all(torch.equal(wanted[name], gradients[name]) and wanted[name].any() for name in wanted)
    assert plain.proof.lean == streamed.proof.lean
    assert kind_of(streamed.net) == "streamed" and not kind_of(plain.net)


def test_a_bf16_file_computed_in_fp32_is_the_same_too(folder_of):
    folder = folder_of("llama", "bf16")
    assert stored_dtype(folder) == torch.bfloat16
    ids = torch.arange(3, 60)[None]
    whole, streamed = (load(folder, base=base).net for base in ("", "streamed"))
    assert torch.equal(whole(input_ids=ids).logits, streamed(input_ids=ids).logits)
    assert {p.dtype for p in streamed.parameters()} == {torch.float32}
    layer = streamed.model.layers[0].mlp.up_proj
    assert layer.packed.view.dtype == torch.bfloat16 and layer.dequantised().dtype == torch.float32


def test_matrices_are_no_parameters_and_lie_in_the_file(folder_of):
    net = load(folder_of("llama"), base="streamed").net
    layers = packed_layers(net)
    assert len(layers) == 14 and all(layer.layout is Mapped for layer in layers.values())
    assert not any("proj" in name for name, _ in (*net.named_parameters(), *net.named_buffers()))
    maps = Maps()
    assert all(maps.hold(layer.packed.view) for layer in layers.values())
    assert not maps.hold(next(iter(layers.values())).dequantised())
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.numel()) or t, lambda t: t):
        layers["model.layers.0.mlp.up_proj"](torch.randn(2, 32, requires_grad=True)).sum().backward()
    assert max(kept, default=0) < 32 * 48


def test_its_state_names_every_weight_and_whole_again_it_is_the_plain_one(folder_of):
    folder = folder_of("gpt2")
    net, plain = load(folder, base="streamed").net, load(folder).net
    assert net.state_dict().keys() == plain.state_dict().keys()
    assert all(torch.equal(value, plain.state_dict()[name]) for name, value in net.state_dict().items())
    dequantise_network(net)
    ids = torch.arange(3, 60)[None]
    assert torch.equal(net(input_ids=ids).logits, plain(input_ids=ids).logits)


def test_a_saved_adapter_is_opened_beside_the_file_and_merged(folder_of, tmp_path):
    base = folder_of("llama")
    model, adapter = load(base, base="streamed"), Lora(rank=2)
    names = attach(adapter, model)
    shaken(model)
    folder = save_adapter(model, adapter, names, tmp_path / "a", base=str(base))
    assert json.loads((folder / "tunesmith.json").read_text()) == {"base": "streamed"}
    opened, ids = open_adapter(folder), torch.arange(3, 60)[None]
    wanted = model.net.eval()(input_ids=ids).logits
    assert kind_of(opened.net) == "streamed" and torch.equal(opened.net(input_ids=ids).logits, wanted)
    merged = merge(opened)
    assert not kind_of(merged.net) and torch.allclose(merged.net(input_ids=ids).logits, wanted, atol=1e-5)


@pytest.mark.parametrize(
    "adapter", [Full(), Top(layers=1), Pissa(rank=2), Qlora(rank=2)], ids=["full", "top", "pissa", "qlora"]
)
def test_what_trains_or_changes_the_base_is_refused(adapter, folder_of):
    with pytest.raises(SettingError):
        attach(adapter, load(folder_of("llama"), base="streamed"))


def test_a_model_without_a_file_is_refused():
    with pytest.raises(ModelError, match="no file"):
        load("pico", base="streamed")
