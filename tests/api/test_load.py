"""tunesmith.load: any name as any kind of network, and a model that answers."""

from pathlib import Path

import pytest
import torch

import tunesmith
from tunesmith.core.errors import ModelError
from tunesmith.model.load import Model
from tunesmith.model.save import save

ROWS = [{"question": f"What is {i} plus {i}?", "answer": f"It is {2 * i}."} for i in range(14)]
SMALL = {"model": "pico", "quiet": True, "train.steps": 1, "train.sample": 0}


def test_a_loaded_model_answers_as_chat_does(folder: Path):
    model = tunesmith.load("pico")
    assert isinstance(model, Model)
    said = model.answer("hello", max_tokens=8)
    assert isinstance(said, str)
    assert said == tunesmith.chat("pico", message="hello", max_tokens=8)["answer"]
    assert said == model.answer([{"role": "user", "content": "hello"}], max_tokens=8)
    warm = {seed: model.answer("hello", max_tokens=24, temperature=1.5, seed=seed) for seed in (1, 2)}
    assert warm[1] == model.answer("hello", max_tokens=24, temperature=1.5, seed=1) != warm[2]
    assert said.startswith(model.answer("hello", max_tokens=8, stop=said[1:3] or "\n")) or not said


def test_a_run_answers_behind_the_system_message_it_learned_with(folder: Path):
    run = tunesmith.train(data={"path": ROWS, "system": "Be short."}, out="run", **SMALL)["run"]
    model = tunesmith.load(run)
    whole = [{"role": "system", "content": "Be short."}, {"role": "user", "content": "hi"}]
    asked = {"max_tokens": 12, "temperature": 1.0, "seed": 3}
    assert model.answer("hi", **asked) == model.answer(whole, **asked)
    assert model.answer("hi", **asked) != model.answer(whole[1:], **asked)
    assert tunesmith.chat(run, message="hi", max_tokens=12, temperature=1.0, seed=3)["answer"] == model.answer(
        "hi", **asked
    )


def test_what_does_not_fit_or_does_not_answer_is_told(folder: Path):
    model = tunesmith.load("pico")
    with pytest.raises(ModelError, match="the model's context is 512, with the answer\nWrite a shorter message"):
        model.answer("word " * 500)
    assert len(model.tokenizer.encode(model.answer("word " * 80, max_tokens=10_000))) <= 512
    with pytest.raises(ModelError, match="kind classify: it does not answer messages.*\n.*\n.*labels.predict"):
        tunesmith.load("pico", labels=("a", "b")).answer("hello")


@pytest.mark.parametrize(
    ("name", "kind"),
    [("pico", "causal"), ("pico-encoder", "masked"), ("mini-encoder", "masked"), ("pico-t5", "seq2seq")],
)
def test_a_name_is_loaded_as_what_its_family_is(folder: Path, name: str, kind: str):
    model = tunesmith.load(name)
    assert model.kind == kind and model.name == name
    save(model.net, model.tokenizer, Path("saved"))
    assert tunesmith.load("saved").kind == kind


@pytest.mark.parametrize("name", ["pico", "pico-encoder"])
def test_a_new_classifier_over_any_body(folder: Path, name: str):
    one = tunesmith.load(name, kind="classify", labels=("sport", "law"))
    assert one.kind == "classify" and one.labels == ("sport", "law") and one.net.config.num_labels == 2
    again, other = (tunesmith.load(name, labels=["sport", "law"], seed=seed) for seed in (0, 1))
    heads = [dict(model.net.named_parameters()) for model in (one, again, other)]
    (head,) = [key for key in heads[0] if key in ("score.weight", "classifier.weight")]
    assert torch.equal(heads[0][head], heads[1][head]) and not torch.equal(heads[0][head], heads[2][head])
    number = tunesmith.load(name, labels=["stars"], problem="regression")
    assert number.net.config.problem_type == "regression"


def test_a_longer_context_and_a_run_as_another_kind(folder: Path):
    assert tunesmith.load("pico", rope={"kind": "linear", "factor": 2}).context == 1024
    tuned = tunesmith.train(data=ROWS, out="full", adapter="full", **SMALL)["run"]
    body = tunesmith.load(tuned, kind="embed")
    assert body.kind == "embed"
    wanted = tunesmith.load(tuned).net.model.layers[0].mlp.up_proj.weight
    assert torch.equal(body.net.layers[0].mlp.up_proj.weight, wanted), "the run's weights, not the base's"
    with pytest.raises(ModelError, match="Merge it: tunesmith merge"):
        tunesmith.load(tunesmith.train(data=ROWS, out="lora", **SMALL)["run"], kind="embed")
    with pytest.raises(ModelError, match="is an adapter"):
        tunesmith.load("lora/adapter", labels=("a", "b"))


def test_what_contradicts_itself_is_told(folder: Path):
    with pytest.raises(ModelError, match="problem is multi, but no labels"):
        tunesmith.load("pico", problem="multi")
    with pytest.raises(ModelError, match="kind 'clasify' is not known"):
        tunesmith.load("pico", kind="clasify")
