"""top: the last layers or named modules train, everything else keeps its bytes and gets no gradient; PEFT reads the file."""

import pytest
import torch
import transformers as hf

from tunesmith.adapters._targets import stacks
from tunesmith.adapters.top import Top
from tunesmith.core.errors import SettingError
from tunesmith.objectives.sft import Sft
from tunesmith.step.step import backward
from tunesmith.testing import check_adapter


def own(name):
    return name.removeprefix("base_model.model.").replace("modules_to_save.", "")


def test_the_last_layers_train_and_the_rest_keeps_its_bytes(new_model, make_units):
    for kind, last in (("llama", "model.layers.1"), ("gpt2", "transformer.h.1"), ("mixtral", "model.layers.1")):
        model, base = new_model(kind), new_model(kind)
        assert Top(layers=1).attach(model.net) == [last]
        backward(model.policy, Sft(), make_units([9, 14]))
        for name, parameter in model.net.named_parameters():
            assert parameter.requires_grad == (parameter.grad is not None) == name.startswith(f"{last}.")
            if parameter.grad is not None:
                parameter.data -= 0.1 * parameter.grad
        for name, parameter in base.net.named_parameters():
            assert name.startswith(last) or torch.equal(parameter, model.net.get_parameter(name))


@pytest.mark.parametrize(
    "kind, settings",
    [
        ("llama", {"layers": 1}),
        ("llama", {"layers": 2}),
        ("llama", {"modules": ("*.mlp", "norm", "layers.1.mlp.up_proj")}),
        ("tied", {"modules": ("lm_head", "norm")}),
        ("tied", {"modules": ("embed_tokens",)}),
        ("gpt2", {"layers": 1}),
    ],
)
def test_peft_reads_our_file_with_our_logits_and_gradients(kind, settings, ours_in_peft):
    ours_in_peft(Top(**settings), kind, own)


def test_stacks_are_found_in_encoders_and_encoder_decoders():
    small = {
        "vocab_size": 40,
        "hidden_size": 16,
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
        "intermediate_size": 24,
    }
    bert = hf.BertForSequenceClassification(hf.BertConfig(**small))
    assert Top(layers=2).attach(bert) == ["bert.encoder.layer.1", "bert.encoder.layer.2"]
    t5 = hf.T5ForConditionalGeneration(
        hf.T5Config(vocab_size=40, d_model=16, d_kv=8, d_ff=24, num_layers=2, num_heads=2)
    )
    assert [len(stack) for stack in stacks(t5)] == [2, 2]
    assert Top(layers=1).attach(t5) == ["encoder.block.1", "decoder.block.1"]


def test_what_is_not_there_is_told(new_model):
    with pytest.raises(SettingError, match="has 2 layers"):
        Top(layers=3).attach(new_model("llama").net)
    with pytest.raises(SettingError, match=r"'mpl' matches no module.*\n?.*mlp"):
        Top(modules=("mpl",)).attach(new_model("llama").net)
    with pytest.raises(SettingError):
        Top(layers=0)


@pytest.mark.parametrize("adapter", [Top(layers=1), Top(modules=("mlp", "norm"))])
def test_keeps_what_the_shelf_promises(adapter):
    check_adapter(adapter)
