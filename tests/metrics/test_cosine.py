"""cosine: nearness of meaning by an embedding model's vectors, by hand and with a run of method: embed."""

import json

import numpy as np
import pytest

import tunesmith
from tunesmith.core.errors import DataError, ModelError, SettingError
from tunesmith.core.shelf import shelf
from tunesmith.evals.files import read_evaluation
from tunesmith.evals.given import Given
from tunesmith.metrics.cosine import Cosine
from tunesmith.testing.items import check_item

ROW = {"id": "1", "origin": "a:1", "messages": [{"role": "user", "content": "?"}], "answer": "east"}


def compass(texts):
    """East and west, north between: vectors of length 1."""
    places = {"east": (1, 0), "west": (-1, 0), "north": (0, 1), "north-east": (0.6, 0.8)}
    return np.array([places[text] for text in texts], dtype=np.float32)


def test_keeps_what_the_shelf_promises():
    check_item(Cosine(model="runs/embed-1"))
    assert shelf("metrics").make({"cosine": {"model": "mini"}}) == Cosine(model="mini")
    with pytest.raises(SettingError):
        shelf("metrics").make("cosine")


def test_the_cosine_of_two_vectors_and_the_nearest_reference():
    metric = Given(Cosine(model="x"), {"vectors": compass})
    found = [metric.score(said, ROW)["score"] for said in ("east", "north-east", "north", "west", " ")]
    assert found == pytest.approx([1.0, 0.6, 0.0, -1.0, 0.0])
    several = {**ROW, "answers": ["west", "north", "east"]}
    assert metric.score("north-east", several) == {"score": pytest.approx(0.8), "nearest": 1}
    summary = metric.summary([{"score": value} for value in found])
    assert summary.value == pytest.approx(0.12) and -1 <= summary.low < summary.high <= 1
    with pytest.raises(DataError, match="no answer to compare with"):
        metric.check({"messages": [], "origin": "a:9"})


def test_an_evaluation_by_the_vectors_of_a_run(tmp_path, monkeypatch):
    from tunesmith.adapters.store import open_run
    from tunesmith.evals.vectors import embed

    monkeypatch.chdir(tmp_path)
    pairs = [{"text": f"number {i}", "text2": f"the number is {i}"} for i in range(16)]
    (tmp_path / "pairs.jsonl").write_text("\n".join(map(json.dumps, pairs)))
    data = {"path": "pairs.jsonl", "dev": 4}
    tunesmith.train(model="pico", method="embed", data=data, steps=1, out="runs/embed", quiet=True)
    rows = [{"question": f"{i}?", "answer": f"number {i}"} for i in range(12)]
    (tmp_path / "faq.jsonl").write_text("\n".join(map(json.dumps, rows)))
    keys = {
        "model": "pico",
        "data": {"path": "faq.jsonl", "test": 6},
        "generate.max_tokens": 6,
        "generate.temperature": 1.0,
        "quiet": True,
    }
    found = tunesmith.eval(**keys, metrics=[{"cosine": {"model": "runs/embed"}}], out="runs/asked")
    lines = read_evaluation("runs/asked/evals/test").rows
    judge = open_run("runs/embed")
    assert any(line["prediction"].strip() for line in lines)
    for line in lines:
        said, wanted = embed(judge, [line["prediction"] or "-", line["answer"]])
        nearness = float(said @ wanted) if line["prediction"].strip() else 0.0
        assert line["metrics"]["cosine"] == pytest.approx(nearness, abs=1e-5)
    assert found["metrics"]["cosine"]["n"] == 6 and "%" not in found.text.split("(95")[0]
    with pytest.raises(ModelError):
        tunesmith.eval(**keys, metrics=[{"cosine": {"model": "runs/none"}}], out="runs/none-1")
