"""head: the body keeps every byte, a tied head is untied, PEFT reads the file, a new task head trains alone."""

import json

import peft
import pytest
import torch
import transformers as hf

from tunesmith.adapters.head import Head
from tunesmith.adapters.store import attach, merge, open_adapter, save_adapter
from tunesmith.core.errors import SettingError
from tunesmith.model.load import load
from tunesmith.model.save import save
from tunesmith.testing import check_adapter


def trained(net):
    return {name for name, p in net.named_parameters(remove_duplicate=False) if p.requires_grad}


def own(name):
    return name.removeprefix("base_model.model.").replace("modules_to_save.", "")


def test_only_the_head_trains_and_a_tied_embedding_keeps_its_bytes(new_model, shake):
    for kind in ("llama", "tied", "gpt2"):
        model, base = new_model(kind), new_model(kind)
        assert Head().attach(model.net) == ["lm_head"]
        assert trained(model.net) == {"lm_head.weight"}
        assert model.net.config.tie_word_embeddings == (kind == "untied")
        shake(model.net)
        rest = dict(model.net.named_parameters())
        for name, parameter in base.net.named_parameters():
            assert name == "lm_head.weight" or torch.equal(parameter, rest[name])


def test_peft_reads_our_file_with_our_logits_and_gradients(ours_in_peft):
    for kind in ("llama", "tied"):
        ours_in_peft(Head(), kind, own)


def test_a_tied_head_merged_and_saved_stays_its_own(new_model, base_of, shake, logits, tmp_path):
    model = new_model("tied")
    names = attach(Head(), model)
    shake(model.net)
    opened = merge(open_adapter(save_adapter(model, Head(), names, tmp_path / "a", base=str(base_of("tied")))))
    save(opened.net, opened.tokenizer, tmp_path / "merged", dtype="fp32")
    assert json.loads((tmp_path / "merged" / "config.json").read_text())["tie_word_embeddings"] is False
    again = hf.AutoModelForCausalLM.from_pretrained(tmp_path / "merged", attn_implementation="eager")
    assert torch.allclose(logits(again), logits(model.net), atol=1e-5)


def test_a_new_task_head_trains_alone_and_comes_back(shake, tmp_path):
    model = load("pico", kind="classify", labels=("a", "b", "c"), seed=1)
    base = load("pico", seed=1)
    save(base.net, base.tokenizer, tmp_path / "base", dtype="fp32")
    names = attach(Head(), model)
    assert names == ["score"] and trained(model.net) == {"score.weight"}
    shake(model.net)
    save_adapter(model, Head(), names, tmp_path / "a", base=str(tmp_path / "base"))
    config = json.loads((tmp_path / "a" / "adapter_config.json").read_text())
    assert (config["task_type"], config["modules_to_save"]) == ("SEQ_CLS", ["score"])
    opened = open_adapter(tmp_path / "a")
    assert opened.kind == "classify" and opened.labels == ("a", "b", "c")
    assert torch.equal(opened.net.score.weight, model.net.score.weight)
    plain = hf.AutoModelForSequenceClassification.from_pretrained(tmp_path / "base", num_labels=3)
    theirs = peft.PeftModel.from_pretrained(plain, tmp_path / "a")
    assert torch.equal(theirs.base_model.model.score.modules_to_save["default"].weight, model.net.score.weight)


def test_keeps_what_the_shelf_promises():
    check_adapter(Head())


@pytest.mark.parametrize("name", ["pico", "pico-encoder"])
def test_a_body_without_a_head_is_refused_and_left_alone(name):
    model = load(name, kind="embed")
    with pytest.raises(SettingError, match="has no head that could train\n.*\n.*adapter: top"):
        Head().attach(model.net)
    assert all(parameter.requires_grad for parameter in model.net.parameters())
