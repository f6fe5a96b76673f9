"""Classifiers evaluated: label names as predictions, plain transformers' probabilities, nothing depends on the batch."""

import json

import numpy as np
import pytest
import transformers as hf

from tunesmith.core.errors import DataError, ModelError
from tunesmith.evals.files import read_evaluation
from tunesmith.evals.labels import evaluate_labels, predict
from tunesmith.metrics.accuracy import Accuracy
from tunesmith.metrics.label_f1 import LabelF1
from tunesmith.metrics.macro_f1 import MacroF1
from tunesmith.metrics.number_error import NumberError
from tunesmith.model.load import load
from tunesmith.model.save import save

TEXTS = ["a ball", "the whole parliament voted again", "x y", "부산은 항구 도시다"]
ROWS = [
    {"text": text, "label": label, "id": str(i), "origin": f"a:{i}"}
    for i, (text, label) in enumerate(zip(TEXTS, ["sport", "politics", "science", "sport"]))
]


@pytest.mark.parametrize("name", ["pico", "pico-encoder"])
def test_predictions_are_those_of_transformers_pipeline(name, tmp_path):
    model = load(name, kind="classify", labels=("politics", "science", "sport"), seed=2)
    found = predict(model, ROWS)
    folder = save(model.net, model.tokenizer, tmp_path / "m")
    wanted = hf.pipeline("text-classification", model=str(folder), tokenizer=str(folder))(TEXTS)
    assert [label.text for label in found] == [each["label"] for each in wanted]
    assert [label.score for label in found] == pytest.approx([each["score"] for each in wanted], abs=1e-5)
    one_by_one = predict(model, ROWS, pass_tokens=1)
    for a, b in zip(found, one_by_one):
        assert a.names == b.names and np.allclose(a.scores, b.scores, atol=1e-5)


def test_files_hold_names_confusion_and_probabilities(tmp_path):
    model = load("pico", kind="classify", labels=("politics", "science", "sport"), seed=2)
    metrics = {"accuracy": Accuracy(), "macro_f1": MacroF1()}
    summary = evaluate_labels(model, ROWS, metrics, folder=tmp_path, name="test")
    back = read_evaluation(tmp_path / "test")
    assert {line["prediction"] for line in back.rows} <= set(model.labels)
    right = np.mean([line["prediction"] == row["label"] for line, row in zip(back.rows, ROWS)])
    assert summary["metrics"]["accuracy"]["value"] == right and summary["labels"] == list(model.labels)
    confusion = summary["metrics"]["macro_f1"]["extra"]["confusion"]
    assert confusion["labels"] == ["politics", "science", "sport"] and np.sum(confusion["matrix"]) == 4
    assert all(0 < line["probability"] <= 1 and sum(line["scores"]) == pytest.approx(1, abs=1e-4) for line in back.rows)


def test_several_labels_and_numbers(tmp_path):
    model = load("pico", kind="classify", labels=("a", "b"), problem="multi", seed=2)
    model.net.score.weight.data.mul_(50)
    rows = [{**row, "label": labels} for row, labels in zip(ROWS, (["a", "b"], ["a"], [], ["b"]))]
    summary = evaluate_labels(model, rows, {"label_f1": LabelF1()}, folder=tmp_path, name="several")
    lines = read_evaluation(tmp_path / "several").rows
    for line in lines:
        named = [label for label, value in zip(model.labels, line["scores"]) if value > 0.5]
        assert line["prediction"] == (named[0] if len(named) == 1 else json.dumps(named))
    assert summary["problem"] == "multi" and summary["metrics"]["label_f1"]["n"] == 4
    model = load("pico", kind="classify", labels=("stars",), problem="regression", seed=2)
    rows = [{**row, "label": value} for row, value in zip(ROWS, (1, 2.5, "3", 4))]
    summary = evaluate_labels(model, rows, {"number_error": NumberError()}, folder=tmp_path, name="numbers")
    lines = read_evaluation(tmp_path / "numbers").rows
    assert summary["metrics"]["number_error"]["value"] == pytest.approx(
        np.mean([abs(float(line["prediction"]) - float(row["label"])) for line, row in zip(lines, rows)]), rel=1e-4
    )


def test_long_texts_are_cut_like_transformers_and_counted(tmp_path):
    model = load("pico", kind="classify", labels=("a", "b"), seed=2)
    rows = [{"text": "word " * 60, "label": "a", "id": "0"}, {"text": "x", "label": "b", "id": "1"}]
    summary = evaluate_labels(model, rows, {"accuracy": Accuracy()}, folder=tmp_path, name="cut", length=20)
    assert summary["cut"] == 1
    folder = save(model.net, model.tokenizer, tmp_path / "m")
    pipeline = hf.pipeline("text-classification", model=str(folder), tokenizer=str(folder))
    wanted = pipeline(rows[0]["text"], truncation=True, max_length=20)[0]["score"]
    assert predict(model, rows, length=20)[0].score == pytest.approx(wanted, abs=1e-5)


def test_what_cannot_be_labelled_is_refused():
    with pytest.raises(ModelError, match="no scores for labels"):
        predict(load("pico"), ROWS)
    model = load("pico", kind="classify", labels=("a", "b"))
    with pytest.raises(DataError, match="no label"):
        evaluate_labels(model, [{"text": "x", "origin": "a:1"}], {}, folder=".", name="x")
