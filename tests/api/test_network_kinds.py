"""Networks of other kinds on the whole road: an encoder pre-trained, a classifier made of it, scored, opened, refused."""

import json
from pathlib import Path

import pytest
import transformers as hf

import tunesmith
from tunesmith.core.errors import DataError, ModelError, SettingError
from tunesmith.evals.files import read_evaluation

QUIET = {"quiet": True}
WORDS = {"sport": ["ball", "goal", "match"], "politics": ["vote", "law", "party"]}


@pytest.fixture
def titles(folder):
    rows = [{"title": f"{WORDS[label][i % 3]} number {i}", "label": label} for i in range(30) for label in WORDS]
    (folder / "titles.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (folder / "texts.jsonl").write_text("\n".join(json.dumps({"text": row["title"]}) for row in rows))
    return {"path": "titles.jsonl", "columns": {"text": "title"}, "dev": 8, "test": 10}


def tuned(model, data, **keys):
    train = {"steps": 30, "lr": 3e-3, "batch_size": 8}
    usual = {"method": "classify", "adapter": "full", **QUIET}
    return tunesmith.train(model=model, data=data, train=train, **{**usual, **keys})


def test_an_encoder_is_pre_trained_and_becomes_a_classifier(titles):
    texts = {"path": "texts.jsonl", "dev": 5}
    tunesmith.train(
        model="pico-encoder", data=texts, method="masked", adapter="full", out="runs/m", **{"train.steps": 4}, **QUIET
    )
    tuned("runs/m", titles, out="runs/c")
    scored = tunesmith.eval("runs/c", **QUIET)
    assert list(scored["metrics"]) == ["accuracy", "macro_f1"] and scored["metrics"]["accuracy"]["value"] > 0.8
    assert {row["prediction"] for row in read_evaluation("runs/c/evals/test").rows} <= {"sport", "politics"}
    assert scored["metrics"]["macro_f1"]["extra"]["confusion"]["labels"] == ["politics", "sport"]
    found = hf.pipeline("text-classification", model="runs/c/model", tokenizer="runs/c/model")("the ball and the goal")
    assert found[0]["label"] in ("sport", "politics")
    model = tunesmith.load("runs/c")
    assert model.kind == "classify" and model.labels == ("politics", "sport")


def test_a_decoder_with_an_adapter_becomes_a_classifier_and_is_opened_again(titles):
    tuned("pico", titles, out="runs/l", adapter="lora")
    model = tunesmith.load("runs/l")
    assert model.kind == "classify" and model.labels == ("politics", "sport")
    assert tunesmith.eval("runs/l", **QUIET)["n"] == 10


def test_labels_of_dev_rows_that_nobody_learned_are_refused(folder):
    rows = [{"text": f"x {i}", "label": "a" if i % 2 else "b"} for i in range(20)]
    (folder / "train.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (folder / "dev.jsonl").write_text(json.dumps({"text": "y", "label": "c"}))
    with pytest.raises(DataError, match=r"dev\.jsonl:1.*'c' is none of the 2"):
        tuned("pico", {"path": "train.jsonl", "dev": "dev.jsonl"}, out="runs/x")


def test_an_encoder_does_not_answer(titles):
    model = tuned("pico-encoder", titles, out="runs/e", **{"train.steps": 1})
    with pytest.raises(ModelError, match="reads whole texts"):
        from tunesmith.model.generate import generate

        generate(tunesmith.load(model["run"]), [[40, 41]], max_tokens=2)


def test_an_encoder_decoder_and_an_embedder_are_trained_and_scored(folder):
    pairs = [{"text": f"item {i}", "text2": f"thing {i}"} for i in range(24)]
    (folder / "pairs.jsonl").write_text("\n".join(map(json.dumps, pairs)))
    data = {"path": "pairs.jsonl", "dev": 4, "test": 6}
    keys = {"data": data, "adapter": "full", "train": {"steps": 3, "lr": 1e-3, "batch_size": 8}, **QUIET}
    tunesmith.train(model="pico-t5", method="seq2seq", out="runs/s", **keys, **{"generate.max_tokens": 4})
    scored = tunesmith.eval("runs/s", **QUIET)
    assert list(scored["metrics"]) == ["exact_match"] and scored["n"] == 6
    tunesmith.train(model="pico", method="embed", out="runs/v", **keys)
    scored = tunesmith.eval("runs/v", **QUIET)
    assert scored["texts"] == 12 and {"recall_at_10", "bm25_recall_at_10"} <= set(scored["metrics"])
    assert tunesmith.load("runs/v").kind == "embed"


def test_features_are_fitted_without_a_loop_and_scored(titles):
    result = tuned("pico", titles, out="runs/f", method="features")
    assert result["figures"]["accuracy"] > result["figures"]["majority"] - 0.2 and "no weight" not in result.text
    assert sorted(path.name for path in Path("runs/f/features").iterdir()) == ["features.json", "features.safetensors"]
    scored = tunesmith.eval("runs/f", **QUIET)
    assert (
        scored["n"] == 10 and scored["labels"] == ["politics", "sport"] and scored["metrics"]["accuracy"]["value"] > 0.7
    )


def test_features_stand_on_a_run_with_an_adapter_and_keep_its_vectors_for_other_heads(titles, monkeypatch):
    from tunesmith.objectives import features

    tuned("pico", titles, out="runs/l", adapter="lora", **{"train.steps": 2})
    read, vectors = [], features.vectors
    monkeypatch.setattr(features, "vectors", lambda policy, batch: read.append(1) or vectors(policy, batch))
    scores = {}
    for head in ("logistic", "knn", "mlp"):
        before = len(read)
        tuned("runs/l", titles, out=f"runs/{head}", method={"features": {"head": head}}, adapter="lora")
        assert bool(len(read) - before) == (head == "logistic")  # the next heads read no text
        scores[head] = tunesmith.eval(f"runs/{head}", **QUIET)["metrics"]["accuracy"]["value"]
    assert min(scores.values()) > 0.5 and not list(Path("runs/knn/data/cache").glob("*.npy"))
    assert tunesmith.runs("logistic", name="labels")["run"] == "runs/logistic"


@pytest.mark.parametrize(
    "keys", [{"adapter": {"prompt": {"virtual": 2}}}, {"adapter": "qlora"}, {"adapter": "lora", "base": "nf4"}]
)
def test_features_refuse_what_their_scores_would_not_have(titles, keys):
    with pytest.raises(SettingError, match="changes nothing in the model"):
        tuned("pico", titles, out="runs/f", method="features", **keys)
    assert not Path("runs/f").exists()
