"""bottleneck: Houlsby's small networks. PEFT has none, so the oracle is the formula, layer by layer."""

import pytest
import torch
import torch.nn.functional as F
import transformers as hf

from tunesmith.adapters._bottleneck import BottleneckLinear
from tunesmith.adapters.bottleneck import Bottleneck
from tunesmith.adapters.store import attach, merge, open_adapter, save_adapter
from tunesmith.core.errors import ModelError, SettingError
from tunesmith.model.generate import generate
from tunesmith.testing import check_adapter


@pytest.mark.parametrize("activation", ["gelu", "relu", "silu", "tanh"])
def test_a_layer_is_the_formula_with_its_gradients(activation):
    torch.manual_seed(0)
    layer = BottleneckLinear(torch.nn.Linear(6, 5).double(), 3, activation)
    for parameter in layer.parameters():
        parameter.data.normal_()
    x = torch.randn(4, 6, dtype=torch.float64)
    function = {"gelu": F.gelu, "relu": F.relu, "silu": F.silu, "tanh": torch.tanh}[activation]
    z = x @ layer.weight.T + layer.bias
    wanted = z + function(z @ layer.down.T + layer.down_bias) @ layer.up.T + layer.up_bias
    assert torch.allclose(layer(x), wanted, atol=1e-12)
    assert torch.autograd.gradcheck(layer, (x.requires_grad_(),))
    layer.enabled = False
    assert torch.allclose(layer(x), z, atol=1e-12)


def test_it_stands_behind_attention_and_feed_forward_of_every_architecture(new_model):
    ends = {"llama": ("o_proj", "down_proj"), "gpt2": ("attn.c_proj", "mlp.c_proj")}
    for kind, wanted in ends.items():
        names = Bottleneck().attach(new_model(kind).net)
        assert len(names) == 4 and all(name.endswith(wanted) for name in names)
    small = {
        "vocab_size": 40,
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 24,
    }
    layer = "bert.encoder.layer.0"
    bert = hf.BertForMaskedLM(hf.BertConfig(**small))
    assert Bottleneck().attach(bert) == [f"{layer}.attention.output.dense", f"{layer}.output.dense"]
    t5 = hf.T5ForConditionalGeneration(
        hf.T5Config(vocab_size=40, d_model=16, d_kv=8, d_ff=24, num_layers=1, num_heads=2)
    )
    assert len(Bottleneck().attach(t5)) == 5


def test_the_first_logits_are_the_bases_and_files_come_back(new_model, base_of, shake, logits, tmp_path):
    for kind in ("llama", "gpt2"):
        model, base, adapter = new_model(kind), new_model(kind), Bottleneck(size=4, activation="relu")
        names = attach(adapter, model, seed=1)
        assert torch.equal(logits(model.net), logits(base.net))
        shake(model.net)
        folder = save_adapter(model, adapter, names, tmp_path / kind, base=str(base_of(kind)))
        opened = open_adapter(folder)
        assert torch.equal(logits(opened.net), logits(model.net))
        assert (opened.adapter.size, opened.adapter.activation) == (4, "relu")
        with pytest.raises(ModelError, match="cannot be merged"):
            merge(opened)


def test_generated_tokens_are_those_of_the_whole_forward(new_model, shake, logits):
    model = new_model("llama")
    attach(Bottleneck(size=4), model)
    shake(model.net, 0.5)
    (answer,) = generate(model, [[5, 6, 7]], max_tokens=6, eos_ids=())
    ids = [5, 6, 7]
    for _ in range(6):
        ids.append(int(logits(model.net, torch.tensor([ids]))[0, -1].argmax()))
    assert answer.ids == ids[3:]


def test_what_it_cannot_do_is_told(new_model):
    with pytest.raises(SettingError, match="output head"):
        Bottleneck(targets=("lm_head",)).attach(new_model("llama").net)
    with pytest.raises(SettingError, match="does not know which layers"):
        Bottleneck().attach(torch.nn.Sequential(torch.nn.Linear(3, 3)))
    with pytest.raises(SettingError):
        Bottleneck(size=0)


def test_keeps_what_the_shelf_promises():
    check_adapter(Bottleneck(size=8))
