"""Texts to vectors whatever the batch; same-topic texts nearer than strangers after training; search scored by hand."""

import numpy as np
import pytest
import torch

from tunesmith.core.errors import DataError
from tunesmith.evals.vectors import embed, evaluate_search, search_task
from tunesmith.model.load import load
from tunesmith.objectives.embed import Embed
from tunesmith.retrieve.vectors import cluster, nearest, outliers
from tunesmith.text.encode import Text
from tunesmith.train.loop import loop
from tunesmith.train.optim import Optimizer

TOPICS = {
    "sport": ["a ball game", "the ball and the goal", "ball games", "a goal in the game"],
    "law": ["xx vote quorum", "quorum vote xx", "vote xx", "a xx quorum"],
}
GROUPS = [{"texts": texts, "group": name, "origin": f"g:{name}"} for name, texts in TOPICS.items()]


@pytest.mark.parametrize("name", ["pico", "pico-encoder"])
def test_vectors_are_means_of_states_of_length_1_whatever_the_batch(name):
    model = load(name, kind="embed", seed=1)
    texts = ["a", "a longer text", "b c"]
    found = embed(model, texts)
    assert found.dtype == np.float32 and np.allclose(np.linalg.norm(found, axis=1), 1, atol=1e-6)
    assert np.allclose(found, embed(model, texts, pass_tokens=1), atol=1e-6)
    with torch.no_grad():
        states = model.net(input_ids=torch.tensor([model.tokenizer.around(texts[1])[0]])).last_hidden_state[0].mean(0)
    assert np.allclose(found[1], (states / states.norm()).numpy(), atol=1e-5)


def test_after_training_topics_are_found_grouped_and_strangers_named(tmp_path):
    model = load("pico", kind="embed", seed=1)
    text = Text(model.tokenizer)
    units = [u for i in range(30) for row in GROUPS for u in Embed().units(row, text, np.random.default_rng(i))]
    optimizer = Optimizer(list(model.net.named_parameters()), kind="adamw", lr=1e-2)
    list(loop(model.policy, Embed(), units, optimizer, steps=40, batch_size=8, lr=1e-2, seed=0))
    texts = [text for texts in TOPICS.values() for text in texts]
    vectors = embed(model, texts)
    cosines = vectors @ vectors.T
    same = np.add.outer([0] * 4 + [1] * 4, [0] * 4 + [1] * 4) != 1
    assert cosines[same & ~np.eye(8, dtype=bool)].min() > cosines[~same].max()
    assert set(nearest(vectors[:1], vectors, 4)[0][0].tolist()) == {0, 1, 2, 3}
    groups = cluster(vectors, 2)
    assert len(set(groups[:4])) == len(set(groups[4:])) == 1 and groups[0] != groups[4]
    assert outliers(np.vstack([vectors[:4], vectors[4:5]]), share=0.2)[0].tolist() == [4]
    summary = evaluate_search(model, GROUPS, folder=tmp_path, name="test")
    assert summary["metrics"]["recall_at_10"]["value"] == 1.0 and summary["metrics"]["recall_at_1"]["value"] == 1.0
    assert 0 <= summary["metrics"]["bm25_recall_at_10"]["value"] <= 1 and summary["texts"] == summary["n"] == 8


def test_who_asks_and_what_is_right():
    rows = [
        {"text": "q", "text2": "a"}, {"text": "q", "text2": "b"}, {"text": "z", "text2": "y", "score": 0.1}, {"texts": ["a", "c"]},
    ]  # fmt: skip
    texts, asking, right = search_task(rows)
    assert texts == ["q", "a", "b", "z", "y", "c"]
    assert asking == [0, 1, 5] and right == [{1, 2}, {5}, {1}]
    with pytest.raises(DataError, match="belong together"):
        search_task([{"text": "a", "text2": "a"}])
