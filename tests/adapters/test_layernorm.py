"""layernorm: only norms train; PEFT's LN_TUNING both ways; the base's own norms keep their bytes when one is read."""

import peft
import pytest
import transformers as hf

from tunesmith.adapters.layernorm import Layernorm
from tunesmith.core.errors import SettingError
from tunesmith.testing import check_adapter


def own(name):
    return name.removeprefix("base_model.model.").replace("ln_tuning_layers.", "")


def test_every_norm_of_every_kind_of_network_is_found(new_model):
    assert len(Layernorm().attach(new_model("llama").net)) == 5
    assert len(Layernorm().attach(new_model("gpt2").net)) == 5
    small = {
        "vocab_size": 40,
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 24,
    }
    bert = hf.BertModel(hf.BertConfig(**small))
    assert len(Layernorm().attach(bert)) == 3
    assert {n.rsplit(".", 1)[-1] for n, p in bert.named_parameters() if p.requires_grad} == {"weight", "bias"}
    t5 = hf.T5ForConditionalGeneration(
        hf.T5Config(vocab_size=40, d_model=16, d_kv=8, d_ff=24, num_layers=1, num_heads=2)
    )
    assert len(Layernorm().attach(t5)) == 7
    qwen = hf.Qwen3ForCausalLM(hf.Qwen3Config(**small, num_key_value_heads=1, head_dim=8))
    assert "model.layers.0.self_attn.q_norm" in Layernorm().attach(qwen)


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_peft_reads_our_file_with_our_logits_and_gradients(kind, ours_in_peft):
    ours_in_peft(Layernorm(), kind, own)


def test_what_peft_trained_is_read_and_some_norms_can_be_chosen(peft_in_ours, ours_in_peft):
    peft_in_ours(peft.LNTuningConfig(task_type="CAUSAL_LM"), "llama")
    ours_in_peft(Layernorm(targets=("input_layernorm", "model.norm")), "llama", own)


def test_a_name_that_is_no_norm_is_told(new_model):
    with pytest.raises(SettingError, match="'q_proj' matches no norm"):
        Layernorm(targets=("q_proj",)).attach(new_model("llama").net)


def test_keeps_what_the_shelf_promises():
    check_adapter(Layernorm())
