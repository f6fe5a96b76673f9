"""Adapters on networks that are no causal language models: classifiers, masked models, encoder-decoders; their new heads."""

import json

import peft
import pytest
import torch
import transformers as hf

from tunesmith.adapters.bottleneck import Bottleneck
from tunesmith.adapters.dora import Dora
from tunesmith.adapters.full import Full
from tunesmith.adapters.head import Head
from tunesmith.adapters.ia3 import Ia3
from tunesmith.adapters.layernorm import Layernorm
from tunesmith.adapters.lora import Lora
from tunesmith.adapters.pissa import Pissa
from tunesmith.adapters.prompt import Prompt
from tunesmith.adapters.qlora import Qlora
from tunesmith.adapters.store import attach, merge, open_adapter, save_adapter
from tunesmith.adapters.tokens import Tokens
from tunesmith.adapters.top import Top
from tunesmith.model.load import fresh, load
from tunesmith.model.save import save
from tunesmith.text.tokenizer import byte_tokenizer

SIZES = {
    "vocab_size": 288, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "max_position_embeddings": 64, "initializer_range": 0.2, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0,
}  # fmt: skip
NETS = {
    "bert": lambda: hf.BertConfig(**SIZES, pad_token_id=14),
    "roberta": lambda: hf.RobertaConfig(**SIZES, pad_token_id=1, bos_token_id=0, eos_token_id=2),
    "t5": lambda: hf.T5Config(
        vocab_size=288, d_model=32, d_kv=8, d_ff=48, num_layers=2, num_heads=4, dropout_rate=0.0, pad_token_id=14,
        decoder_start_token_id=14, eos_token_id=5,
    ),
}  # fmt: skip
EVERY = [
    Lora(rank=2), Dora(rank=2), Pissa(rank=2), Qlora(rank=2), Ia3(), Layernorm(), Top(layers=1), Head(), Bottleneck(size=4), Full(),
]  # fmt: skip
IDS = torch.arange(20, 40)[None]


def outputs(net, kind):
    net.eval()
    more = {"decoder_input_ids": IDS[:, :6]} if kind == "seq2seq" else {}
    with torch.no_grad():
        return net(input_ids=IDS, **more).logits


@pytest.fixture
def base(tmp_path):
    """base("bert", kind="masked") -> (folder of a network of its native kind, the same loaded as `kind`)"""

    def make(name, kind, **settings):
        native = "seq2seq" if name == "t5" else "masked"
        made = fresh(NETS[name](), byte_tokenizer(), name=name, kind=native, seed=1)
        folder = save(made.net, made.tokenizer, tmp_path / name, dtype="fp32")
        return folder, load(folder, kind=kind, seed=2, **settings)

    return make


CASES = [("bert", "classify"), ("roberta", "classify"), ("roberta", "masked"), ("t5", "seq2seq")]


@pytest.mark.parametrize("adapter", EVERY, ids=lambda adapter: type(adapter).__name__.lower())
@pytest.mark.parametrize("name, kind", CASES)
def test_every_adapter_starts_trains_its_heads_and_comes_back(name, kind, adapter, base, shake, near, tmp_path):
    settings = {"labels": ("a", "b", "c")} if kind == "classify" else {}
    folder, model = base(name, kind, **settings)
    start = outputs(model.net, kind)
    names = attach(adapter, model, seed=1)
    if getattr(adapter, "start", "equal") == "equal":
        assert torch.equal(outputs(model.net, kind), start)
    heads = model.facts["heads"]
    assert bool(heads) == (kind == "classify")
    assert all(p.requires_grad for head in heads for p in model.net.get_submodule(head).parameters())
    assert all(type(model.net.get_submodule(head)) is torch.nn.Linear for head in heads)  # no update beside what is new
    shake(model.net)
    if adapter.file == "model":
        return
    saved = save_adapter(model, adapter, names, tmp_path / "a", base=str(folder))
    wanted = outputs(model.net, kind)
    opened = open_adapter(saved)
    assert (opened.kind, opened.labels) == (kind, model.labels)
    assert near(outputs(opened.net, kind), wanted, 1e-5 if isinstance(adapter, Pissa) else 1e-6)
    if getattr(adapter, "merges", True):
        assert near(outputs(merge(opened).net, kind), wanted)


TASKS = {
    "classify": ("SEQ_CLS", hf.AutoModelForSequenceClassification),
    "seq2seq": ("SEQ_2_SEQ_LM", hf.AutoModelForSeq2SeqLM),
}


@pytest.mark.parametrize("adapter", [Lora(rank=2), Ia3(), Head()], ids=lambda adapter: type(adapter).__name__.lower())
@pytest.mark.parametrize("name, kind", [case for case in CASES if case[1] != "masked"])
def test_peft_reads_them_with_their_heads(name, kind, adapter, base, shake, near, tmp_path):
    settings = {"labels": ("a", "b", "c")} if kind == "classify" else {}
    folder, model = base(name, kind, **settings)
    names = attach(adapter, model, seed=1)
    shake(model.net)
    saved = save_adapter(model, adapter, names, tmp_path / "a", base=str(folder))
    task, auto = TASKS[kind]
    assert json.loads((saved / "adapter_config.json").read_text())["task_type"] == task
    more = {"num_labels": 3} if kind == "classify" else {}
    theirs = peft.PeftModel.from_pretrained(auto.from_pretrained(folder, **more), saved)
    assert near(outputs(theirs, kind), outputs(model.net, kind))


@pytest.mark.parametrize("name", ["bert", "roberta"])
def test_a_classifier_that_peft_trained_is_read(name, base, shake, near, tmp_path):
    folder, _ = base(name, "masked")
    torch.manual_seed(0)
    plain = hf.AutoModelForSequenceClassification.from_pretrained(folder, num_labels=4)
    theirs = peft.get_peft_model(plain, peft.LoraConfig(task_type="SEQ_CLS", r=2, target_modules=["query", "value"]))
    shake(theirs)
    theirs.save_pretrained(tmp_path / "a")
    opened = open_adapter(tmp_path / "a", base=str(folder))
    assert opened.kind == "classify" and opened.net.config.num_labels == 4
    if name == "roberta":  # BERT's pooler is drawn anew by each library: PEFT does not save it
        assert near(outputs(opened.net, "classify"), outputs(theirs, "classify"))


def test_a_value_head_trains_and_is_not_exported(tmp_path):
    model = load("pico", seed=1)
    model.net.add_module("value_head", torch.nn.Linear(32, 1))
    model.facts["heads"] = ["value_head"]
    names = attach(Lora(rank=2), model)
    assert "value_head" not in names and all(p.requires_grad for p in model.net.value_head.parameters())
    base = load("pico", seed=1)
    save(base.net, base.tokenizer, tmp_path / "base", dtype="fp32")
    saved = save_adapter(model, Lora(rank=2), names, tmp_path / "a", base=str(tmp_path / "base"))
    assert "modules_to_save" not in json.loads((saved / "adapter_config.json").read_text())
    open_adapter(saved)


def test_rows_of_a_classifiers_new_tokens_train(base):
    _, model = base("bert", "classify", labels=("a", "b"))
    assert Tokens(ids=(5, 9)).attach(model.net) == ["bert.embeddings.word_embeddings"]


def test_a_soft_prompt_stands_before_the_text_of_a_decoder_that_classifies():
    model = load("pico", kind="classify", labels=("a", "b"), seed=1)
    attach(Prompt(virtual=3), model)
    assert model.net.score.weight.requires_grad
