"""One body under several heads: decoders and encoders as classifiers, masked models, encoder-decoders, bodies alone."""

import numpy as np
import pytest
import torch
import transformers as hf

from tunesmith.core.errors import ModelError
from tunesmith.model.load import fresh, load
from tunesmith.model.policy import Policy
from tunesmith.model.save import save
from tunesmith.text.encode import Text
from tunesmith.text.example import Example, Unit
from tunesmith.text.tokenizer import byte_tokenizer

LABELS = ("sport", "politics", "science")


def units_of(lengths, seed=0):
    draw = np.random.default_rng(seed)
    made = []
    for number, length in enumerate(lengths):
        ids = draw.integers(32, 280, size=length).tolist()
        made.append(Unit((Example.of(ids, [0.0] * (length - 1) + [1.0]),), origin=f"rows.jsonl:{number + 1}"))
    return made


def by_transformers(net, units, pad_id):
    """Scores of padded rows, as plain transformers makes them."""
    rows = [torch.tensor(unit.examples[0].ids, dtype=torch.int64) for unit in units]
    ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=pad_id)
    mask = torch.nn.utils.rnn.pad_sequence([torch.ones_like(row) for row in rows], batch_first=True)
    with torch.no_grad():
        return net(input_ids=ids, attention_mask=mask).logits


@pytest.mark.parametrize("name", ["pico", "pico-encoder"])
def test_a_classifier_has_the_bodys_weights_and_a_head_from_the_seed(name):
    body = load(name, kind="causal" if name == "pico" else "masked", seed=3).net.base_model
    one, again, other = (load(name, kind="classify", labels=LABELS, seed=3) for _ in range(3))
    torch.manual_seed(99)
    other = load(name, kind="classify", labels=LABELS, seed=4)
    for key, value in body.state_dict().items():
        assert torch.equal(one.net.base_model.state_dict()[key], value), key
    head = one.facts["heads"][-1] + ".weight"
    assert torch.equal(one.net.state_dict()[head], again.net.state_dict()[head])
    assert not torch.equal(one.net.state_dict()[head], other.net.state_dict()[head])
    assert one.labels == LABELS and one.net.config.id2label == dict(enumerate(LABELS))
    assert one.facts["heads"] == {"pico": ["score"], "pico-encoder": ["bert.pooler.dense", "classifier"]}[name]


def test_scores_of_a_decoder_are_transformers_whatever_the_layout_and_the_batch():
    model = load("pico", kind="classify", labels=LABELS, seed=1)
    assert model.proof.layout == "packed" and model.proof.lean
    units = units_of([5, 9, 2, 14, 9])
    wanted = by_transformers(model.net, units, model.tokenizer.pad)
    for policy in (model.policy, Policy(model.net), Policy(model.net, layout="padded", pad_id=40)):
        got = policy.scores(policy.batch(units))
        assert got.dtype == torch.float32 and (got - wanted).abs().max() < 1e-5
        alone = torch.cat([policy.scores(policy.batch([unit])) for unit in units])
        assert (alone - wanted).abs().max() < 1e-5


@pytest.mark.parametrize("architecture", ["qwen3", "gemma2", "mistral_window", "gpt2"])
def test_scores_of_other_decoders(architecture, model_of, tmp_path):
    causal = model_of(architecture)
    save(causal.net, causal.tokenizer, tmp_path / "m")
    model = load(tmp_path / "m", kind="classify", labels=("reward",), problem="regression", seed=2)
    assert model.facts["heads"] == ["score"] and model.proof.layout == "packed"
    for key, value in causal.net.base_model.state_dict().items():
        assert torch.equal(model.net.base_model.state_dict()[key], value), key
    units = units_of([5, 9, 14])
    wanted = by_transformers(model.net, units, model.tokenizer.pad)
    assert (model.policy.scores(model.policy.batch(units)) - wanted).abs().max() < 1e-5


@pytest.mark.parametrize("name", ["pico", "pico-encoder"])
def test_a_saved_classifier_loads_in_plain_transformers_with_equal_scores(name, tmp_path):
    model = load(name, kind="classify", labels=LABELS, seed=1)
    folder = save(model.net, model.tokenizer, tmp_path / "saved")
    texts = ["a ball", "the whole parliament voted", "x"]
    tokenizer = hf.AutoTokenizer.from_pretrained(folder)
    net = hf.AutoModelForSequenceClassification.from_pretrained(folder).eval()
    assert net.config.pad_token_id == tokenizer.pad_token_id == model.tokenizer.pad
    given = tokenizer(texts, padding=True, return_tensors="pt")
    own = model.tokenizer.batch(texts)
    assert given["input_ids"].tolist() == own.ids.tolist()
    units = [Unit((Example.of(i[m > 0].tolist(), m[m > 0].tolist()),)) for i, m in zip(own.ids, own.attention_mask)]
    scores = model.policy.scores(model.policy.batch(units))
    with torch.no_grad():
        wanted = net(**given).logits
        joined = net(**tokenizer("a ball", "a vote", return_tensors="pt")).logits
    assert (scores - wanted).abs().max() < 1e-5
    pair = Unit((Text(model.tokenizer).whole("a ball", "a vote")[0],))
    assert (model.policy.scores(model.policy.batch([pair])) - joined).abs().max() < 1e-5
    found = hf.pipeline("text-classification", model=str(folder), tokenizer=str(folder))(texts, batch_size=3)
    assert [row["label"] for row in found] == [LABELS[i] for i in scores.argmax(1).tolist()]
    again = load(folder, kind="classify")
    assert again.labels == LABELS and again.facts["heads"] == []
    assert torch.equal(again.policy.scores(again.policy.batch(units)), scores)


def test_other_labels_give_a_new_head_the_same_ones_keep_it(tmp_path):
    model = load("pico", kind="classify", labels=LABELS, seed=1)
    folder = save(model.net, model.tokenizer, tmp_path / "saved")
    turned = load(folder, kind="classify", labels=LABELS[::-1], seed=5)
    assert turned.labels == LABELS and torch.equal(turned.net.score.weight, model.net.score.weight)
    for labels in (("x", "y", "z"), ("x", "y")):
        new = load(folder, kind="classify", labels=labels, seed=5)
        assert new.labels == labels and new.facts["heads"] == ["score"] and len(new.net.score.weight) == len(labels)
        assert torch.equal(new.net.model.layers[0].mlp.up_proj.weight, model.net.model.layers[0].mlp.up_proj.weight)


def test_masked_predictions_are_transformers(tmp_path):
    model = load("pico-encoder", kind="masked", seed=1)
    assert model.proof.both_ways and model.proof.exact_head and model.proof.layout == "padded"
    ids, shown = [45, 60, 61, 62, 70, 44], [45, 60, 11, 62, 99, 44]
    example = Example.of(ids, [0, 0, 1, 0, 1, 0], shown=np.asarray(shown), types=np.asarray([0, 0, 0, 0, 1, 1]))
    short = Example.of([45, 80, 81, 44], [0, 1, 0, 0], shown=np.asarray([45, 11, 81, 44]))
    batch = model.policy.batch([Unit((example,)), Unit((short,))])
    total, logp = model.policy.nll(batch)
    with torch.no_grad():
        one = model.net(input_ids=torch.tensor([shown]), token_type_ids=torch.tensor([[0, 0, 0, 0, 1, 1]])).logits[0]
        two = model.net(input_ids=torch.tensor([[45, 11, 81, 44]])).logits[0]
    wanted = torch.stack([x.log_softmax(-1)[i, t] for x, i, t in ((one, 2, 61), (one, 4, 70), (two, 1, 80))])
    assert (logp - wanted).abs().max() < 1e-5 and (total + wanted.sum()).abs() < 1e-5
    model.proof = type(model.proof)("padded", False, both_ways=True)
    assert (model.policy.logprobs(batch) - wanted).abs().max() < 1e-5


@pytest.mark.parametrize("config", [hf.RobertaConfig, hf.DistilBertConfig, hf.ModernBertConfig, hf.ElectraConfig])
def test_other_encoders_are_masked_models_and_classifiers(config, tmp_path):
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 48}
    if config is hf.DistilBertConfig:
        sizes = {"dim": 32, "n_layers": 1, "n_heads": 2, "hidden_dim": 48}
    given = {"bos_token_id": 0, "eos_token_id": 0, "cls_token_id": 0, "sep_token_id": 0, "pad_token_id": 14}
    made = config(vocab_size=288, max_position_embeddings=64, **sizes, **given)
    model = fresh(made, byte_tokenizer(), name="e", kind="masked", seed=1)
    assert model.proof.both_ways and model.context == (49 if config is hf.RobertaConfig else 64)
    save(model.net, model.tokenizer, tmp_path / "e")
    tuned = load(tmp_path / "e", kind="classify", labels=LABELS, seed=1)
    assert tuned.facts["heads"] and not any(".layer" in name for name in tuned.facts["heads"])
    units = units_of([5, 9, 14])
    wanted = by_transformers(tuned.net, units, 14)
    assert (tuned.policy.scores(tuned.policy.batch(units)) - wanted).abs().max() < 1e-5


def test_what_cannot_be_is_refused_in_words(tmp_path):
    for name, kind, word in (
        ("pico", "masked", "never sees the words after"),
        ("pico-encoder", "causal", "is an encoder"),
        ("pico-t5", "causal", "encoder-decoder"),
        ("pico", "seq2seq", "not an encoder-decoder"),
        ("pico", "clasify", "not known"),
    ):
        with pytest.raises(ModelError, match=word):
            load(name, kind=kind)
    with pytest.raises(ModelError, match="twice"):
        load("pico", kind="classify", labels=("a", "a"))
    with pytest.raises(ModelError, match="no labels"):
        load("pico", kind="classify")
    folder = save(load("pico").net, byte_tokenizer(), tmp_path / "pico")
    with pytest.raises(ModelError, match="names no labels"):
        load(folder, kind="classify")


@pytest.mark.parametrize(
    ("name", "kind", "given", "shape"),
    [
        ("pico", "causal", {}, (2, 5, 288)),
        ("pico", "classify", {"labels": LABELS}, (2, 3)),
        ("pico-encoder", "masked", {}, (2, 5, 288)),
        ("pico-encoder", "classify", {"labels": LABELS}, (2, 3)),
        ("pico-t5", "seq2seq", {}, (2, 4, 288)),
        ("pico", "embed", {}, (2, 5, 32)),
        ("pico-encoder", "embed", {}, (2, 5, 32)),
    ],
)
def test_each_family_gives_what_it_is_for(name, kind, given, shape):
    model = load(name, kind=kind, **given)
    more = {"decoder_input_ids": torch.full((2, 4), 40)} if kind == "seq2seq" else {}
    with torch.no_grad():
        out = model.net(input_ids=torch.full((2, 5), 50), **more)
    assert tuple((out.last_hidden_state if kind == "embed" else out.logits).shape) == shape
    assert model.kind == kind and model.proof.both_ways == (name == "pico-encoder")


@pytest.mark.parametrize("dtype", ["bf16", "fp16"])
@pytest.mark.parametrize("name", ["pico-encoder", "mini-encoder"])
def test_an_encoder_in_16_bits_is_seen_to_read_both_ways(name, dtype):
    assert load(name, kind="classify", labels=("a", "b"), dtype=dtype).proof.both_ways
    assert load("pico", dtype=dtype).proof.layout == "packed"
