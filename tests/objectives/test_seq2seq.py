"""seq2seq: transformers' loss on T5 and BART, passes cannot change it, and a toy pair set is translated after training."""

import numpy as np
import pytest
import torch
import transformers as hf

from tunesmith.core.errors import DataError, ModelError
from tunesmith.model.load import fresh, load
from tunesmith.model.save import save
from tunesmith.model.seq2seq import answers
from tunesmith.objectives.seq2seq import Seq2seq
from tunesmith.step.step import backward
from tunesmith.testing import check_objective
from tunesmith.text.encode import Text
from tunesmith.text.tokenizer import byte_tokenizer
from tunesmith.text.too_long import TooLong
from tunesmith.train.loop import loop
from tunesmith.train.optim import Optimizer

WORDS = {"cat": "gato", "dog": "perro", "red": "rojo", "big": "grande", "one": "uno"}
ROWS = [{"text": a, "text2": b, "origin": f"a:{n}"} for n, (a, b) in enumerate(WORDS.items())]


def bart(dtype):
    tokenizer = byte_tokenizer()
    tokenizer.config["pad_token"] = "<|pad|>"
    tokenizer.set_around(["<|cls|>", "$A", "<|endoftext|>"], ["<|cls|>", "$A", "<|endoftext|>", "$B", "<|endoftext|>"])
    config = hf.BartConfig(
        vocab_size=288, d_model=32, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2, decoder_attention_heads=2,
        encoder_ffn_dim=48, decoder_ffn_dim=48, dropout=0.0, pad_token_id=14, eos_token_id=0, bos_token_id=13,
        decoder_start_token_id=0, max_position_embeddings=64, forced_eos_token_id=None,
    )  # fmt: skip
    return fresh(config, tokenizer, name="bart", kind="seq2seq", dtype=dtype, seed=1)


def ready(name, dtype="fp64"):
    model = load("pico-t5", kind="seq2seq", dtype=dtype, seed=1) if name == "t5" else bart(dtype)
    model.net.requires_grad_(True)
    text = Text(model.tokenizer, length=32)
    return model, [unit for row in ROWS for unit in Seq2seq().units(row, text, np.random.default_rng(0))]


def test_keeps_what_the_shelf_promises():
    check_objective(Seq2seq())


@pytest.mark.parametrize("name", ["t5", "bart"])
def test_the_loss_is_transformers_and_passes_cannot_change_it(name, gradients):
    model, units = ready(name)
    assert model.proof.layout == "padded"
    stats = backward(model.policy, Seq2seq(), units)
    got, total, count = gradients(model.net), 0.0, 0
    for row in ROWS:
        source, target = (torch.tensor([model.tokenizer.around(row[key])[0]]) for key in ("text", "text2"))
        total = total + model.net(input_ids=source, labels=target).loss * target.numel()
        count += target.numel()
    assert stats.loss == pytest.approx(float((total / count).detach()), abs=1e-6)
    (total / count).backward()
    for key, wanted in gradients(model.net).items():
        assert (got[key] - wanted).abs().max() < 1e-6, key
    part = backward(model.policy, Seq2seq(), units[::-1], pass_tokens=20)
    assert part.num_passes > 1 and part.loss == pytest.approx(stats.loss, abs=1e-9)
    for key, value in gradients(model.net).items():
        assert (value - got[key]).abs().max() < 1e-9, key
    assert set(stats.figures) == set(Seq2seq.figures)


def test_a_toy_pair_set_is_translated_after_training_and_after_reload(tmp_path):
    model, units = ready("t5", "fp32")
    optimizer = Optimizer(list(model.net.named_parameters()), kind="adamw", lr=1e-2)
    list(loop(model.policy, Seq2seq(), units, optimizer, steps=150, batch_size=5, lr=1e-2, seed=0))
    assert answers(model, list(WORDS)) == list(WORDS.values())
    folder = save(model.net, model.tokenizer, tmp_path / "t5")
    again = load(folder, kind="seq2seq")
    assert answers(again, ["dog"]) == ["perro"]
    plain, tokenizer = hf.AutoModelForSeq2SeqLM.from_pretrained(folder), hf.AutoTokenizer.from_pretrained(folder)
    made = plain.generate(**tokenizer("cat", return_tensors="pt", return_token_type_ids=False), max_new_tokens=8)
    assert tokenizer.decode(made[0], skip_special_tokens=True) == "gato"


def test_conversations_and_prefix():
    model, _ = ready("t5")
    row = {"messages": [{"role": "user", "content": "cat"}, {"role": "assistant", "content": "gato"}], "origin": "a:1"}
    text = Text(model.tokenizer)
    one = Seq2seq(prefix="to Spanish: ").units(row, text, np.random.default_rng(0))[0].examples[0]
    cut = one.columns["source"]
    assert (
        model.tokenizer.decode(one.ids[:cut]) == "to Spanish: cat" and model.tokenizer.decode(one.ids[cut:]) == "gato"
    )
    assert one.weights.tolist() == [0.0] * cut + [1.0] * (len(one) - cut)


def test_what_cannot_be_is_refused():
    model, _ = ready("t5")
    with pytest.raises(TooLong):
        Seq2seq().units({"text": "x" * 40, "text2": "y"}, Text(model.tokenizer, length=32), np.random.default_rng(0))
    trimmed = Text(model.tokenizer, length=32, too_long="trim_prompt")
    assert Seq2seq().units({"text": "x" * 40, "text2": "y"}, trimmed, None)[0].examples[0].columns["source"] == 32
    with pytest.raises(DataError, match="no answer"):
        Seq2seq().units({"messages": [{"role": "user", "content": "x"}]}, trimmed, None)
    with pytest.raises(ModelError, match="loaded as causal"):
        answers(load("pico"), ["x"])
