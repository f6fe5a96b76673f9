"""IA3 against PEFT, both ways: factors on keys, values and feed-forward, merged to the same, biases included."""

import peft
import pytest
import torch
import transformers as hf

from tunesmith.adapters.ia3 import Ia3
from tunesmith.adapters.store import merge
from tunesmith.core.errors import SettingError
from tunesmith.testing import check_adapter


def own(name):
    return name.removeprefix("base_model.model.")


@pytest.mark.parametrize(
    "kind, settings",
    [("llama", {}), ("tied", {"targets": ("q_proj", "v_proj"), "feedforward": ("gate_proj",)}), ("gpt2", {})],
)
def test_peft_reads_our_file_with_our_logits_and_gradients(kind, settings, ours_in_peft, logits, near):
    model, opened, _ = ours_in_peft(Ia3(**settings), kind, own)
    assert near(logits(merge(opened).net), logits(model.net))


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_what_peft_trained_is_read(kind, peft_in_ours):
    peft_in_ours(peft.IA3Config(task_type="CAUSAL_LM", fan_in_fan_out=kind == "gpt2"), kind)


def test_the_layers_are_pefts_own_choice_where_it_has_one(plain_net, new_model):
    for kind in ("llama", "gpt2"):
        theirs = peft.get_peft_model(plain_net(kind), peft.IA3Config(task_type="CAUSAL_LM"))
        wanted = {
            n.removeprefix("base_model.model.").partition(".ia3_l")[0]
            for n, p in theirs.named_parameters()
            if p.requires_grad
        }
        assert {name for name in Ia3().attach(new_model(kind).net)} == wanted


def test_encoders_and_encoder_decoders_are_known():
    small = {
        "vocab_size": 40,
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 24,
    }
    bert = hf.BertForSequenceClassification(hf.BertConfig(**small))
    layer = "bert.encoder.layer.0"
    assert Ia3().attach(bert) == [
        f"{layer}.attention.self.key",
        f"{layer}.attention.self.value",
        f"{layer}.output.dense",
    ]
    t5 = hf.T5ForConditionalGeneration(
        hf.T5Config(vocab_size=40, d_model=16, d_kv=8, d_ff=24, num_layers=1, num_heads=2)
    )
    assert len(Ia3().attach(t5)) == 3 * 2 + 2


def test_biases_are_scaled_with_the_outputs_they_belong_to():
    from tunesmith.adapters._ia3 import Ia3Linear
    from tunesmith.adapters._stand_in import give_back

    torch.manual_seed(0)
    for scales_input in (True, False):
        layer = Ia3Linear(torch.nn.Linear(5, 3), scales_input)
        layer.ia3_l.data.normal_()
        x = torch.randn(4, 5)
        wanted = layer(x)
        merged = give_back(layer, layer.merged().detach(), layer.merged_bias())
        assert torch.allclose(merged(x), wanted, atol=1e-6)


def test_what_it_cannot_do_is_told(new_model):
    with pytest.raises(SettingError, match="output head"):
        Ia3(targets=("lm_head",)).attach(new_model("llama").net)
    with pytest.raises(SettingError, match="both inputs and outputs"):
        Ia3(targets=("down_proj",)).attach(new_model("llama").net)
    strange = torch.nn.Sequential(torch.nn.Linear(3, 3))
    with pytest.raises(SettingError, match="does not know which layers"):
        Ia3().attach(strange)


def test_keeps_what_the_shelf_promises():
    check_adapter(Ia3())
