"""classify: transformers' losses for one label, several and a number; labels from the data; pairs; decoders and encoders."""

import numpy as np
import pytest
import torch

from tunesmith.core.errors import DataError, SettingError
from tunesmith.model.load import load
from tunesmith.objectives.classify import Classify
from tunesmith.step.step import backward
from tunesmith.testing import check_objective
from tunesmith.text.encode import Text
from tunesmith.train.loop import loop
from tunesmith.train.optim import Optimizer

ROWS = [
    {"text": "a ball and a goal", "label": "sport", "origin": "a.jsonl:1"},
    {"text": "the vote", "label": "politics", "origin": "a.jsonl:2"},
    {"text": "they won the match again", "label": "sport", "origin": "a.jsonl:3"},
    {"text": "an atom", "label": "science", "origin": "a.jsonl:4"},
    {"text": "parliament met", "text2": "the president spoke", "label": "politics", "origin": "a.jsonl:5"},
]
SEVERAL = [{**row, "label": labels} for row, labels in zip(ROWS, (["a", "b"], [], ["b"], ["c", "a"], ["c"]))]
NUMBERS = [{**row, "label": value} for row, value in zip(ROWS, (0.5, "-2", 3, 0.0, 1.25))]
PROBLEMS = {"single": ROWS, "multi": SEVERAL, "regression": NUMBERS}


def ready(name, problem, dtype="fp64", **settings):
    """(model, objective, its Units) of the rows of a problem."""
    objective = Classify(problem=problem, **settings).learn_labels(PROBLEMS[problem])
    model = load(name, kind="classify", dtype=dtype, seed=1, **objective.network(PROBLEMS[problem]))
    model.net.requires_grad_(True)
    text = Text(model.tokenizer, length=64)
    return (
        model,
        objective,
        [unit for row in PROBLEMS[problem] for unit in objective.units(row, text, np.random.default_rng(0))],
    )


@pytest.mark.parametrize("problem", [*PROBLEMS])
def test_keeps_what_the_shelf_promises(problem):
    check_objective(Classify(problem=problem), PROBLEMS[problem])


@pytest.mark.parametrize("name", ["pico", "pico-encoder"])
@pytest.mark.parametrize("problem", [*PROBLEMS])
def test_loss_and_gradients_are_transformers(name, problem, gradients):
    model, objective, units = ready(name, problem)
    rows = PROBLEMS[problem]
    stats = backward(model.policy, objective, units)
    got = gradients(model.net)
    given = model.tokenizer.batch([row["text"] for row in rows[:4]])
    pair = model.tokenizer.batch([rows[4]["text"]], [rows[4]["text2"]])
    labels = {
        "single": lambda row: objective.labels.index(row["label"]),
        "multi": lambda row: [float(label in row["label"]) for label in objective.labels],
        "regression": lambda row: float(row["label"]),
    }[problem]
    total = 0.0
    for batch, some in ((given, rows[:4]), (pair, rows[4:])):
        inputs = {"input_ids": torch.from_numpy(batch.ids), "attention_mask": torch.from_numpy(batch.attention_mask)}
        if name == "pico-encoder":
            inputs["token_type_ids"] = torch.from_numpy(batch.token_type_ids)
        wanted = torch.tensor([labels(row) for row in some])
        wanted = wanted if problem == "single" else wanted.double()
        total = total + model.net(**inputs, labels=wanted).loss * len(some) / len(rows)
    assert stats.loss == pytest.approx(float(total.detach()), abs=1e-7)  # transformers norms in float32
    total.backward()
    for key, wanted in gradients(model.net).items():
        assert (got[key] - wanted).abs().max() < 1e-6, key


@pytest.mark.parametrize("name", ["pico", "pico-encoder"])
@pytest.mark.parametrize("problem", [*PROBLEMS])
def test_passes_cannot_change_loss_or_gradient(name, problem, gradients):
    model, objective, units = ready(name, problem)
    whole = backward(model.policy, objective, units)
    wanted = gradients(model.net)
    for pass_tokens, order in ((1, units), (40, units[::-1])):
        part = backward(model.policy, objective, order, pass_tokens=pass_tokens)
        assert part.num_passes > 1 and part.loss == pytest.approx(whole.loss, abs=1e-10)
        assert part.figures == pytest.approx(whole.figures)
        assert set(part.figures) <= set(objective.figures)
        for key, value in gradients(model.net).items():
            assert (value - wanted[key]).abs().max() < 1e-9, key


def test_a_new_head_of_zeros_loses_ln_of_the_number_of_labels():
    model, objective, units = ready("pico", "single")
    model.net.score.weight.data.zero_()
    assert backward(model.policy, objective, units).loss == pytest.approx(np.log(3))
    model, objective, units = ready("pico", "multi")
    model.net.score.weight.data.zero_()
    assert backward(model.policy, objective, units).loss == pytest.approx(np.log(2))


def test_row_weights_and_smoothing():
    model, objective, _ = ready("pico", "single", smoothing=0.1)
    text = Text(model.tokenizer)
    heavy = [{**row, "weight": weight} for row, weight in zip(ROWS, (1.0, 2.0, 0.5, 1.0, 1.0))]
    units = [unit for row in heavy for unit in objective.units(row, text, np.random.default_rng(0))]
    scores = model.policy.scores(model.policy.batch(units))
    wanted = torch.nn.functional.cross_entropy(
        scores,
        torch.tensor([objective.labels.index(row["label"]) for row in ROWS]),
        reduction="none",
        label_smoothing=0.1,
    )
    mean = float((wanted.detach() * torch.tensor([1.0, 2.0, 0.5, 1.0, 1.0])).sum() / 5.5)
    assert backward(model.policy, objective, units).loss == pytest.approx(mean, rel=1e-6)


def test_labels_come_from_the_data_sorted_or_as_given():
    rows = [{"text": "x", "label": label} for label in ("10", "2", 1, "b", "a")]
    assert Classify().learn_labels(rows).labels == ("1", "2", "10", "a", "b")
    assert Classify(labels=("b", "a")).learn_labels(rows).labels == ("b", "a")
    assert Classify(problem="multi").learn_labels(SEVERAL).labels == ("a", "b", "c")


@pytest.mark.parametrize(
    ("objective", "row", "word"),
    [
        (Classify(labels=("red", "blue")), {"text": "x", "label": "bleu"}, "Nearest: blue"),
        (Classify(labels=("red", "blue")), {"text": "x", "label": ["red"]}, "problem=multi"),
        (Classify(problem="regression"), {"text": "x", "label": "high"}, "no number"),
        (Classify(problem="regression"), {"text": "x", "label": "nan"}, "no number"),
    ],
)
def test_a_label_that_cannot_be_learned_is_refused_in_words(objective, row, word):
    text = Text(load("pico").tokenizer)
    with pytest.raises(DataError) as caught:
        objective.units(row, text, np.random.default_rng(0))
    assert word in str(caught.value)


def test_impossible_settings_and_data_are_refused():
    with pytest.raises(DataError, match="only the label"):
        Classify().learn_labels([{"text": "x", "label": "a"}])
    with pytest.raises(DataError, match="more than 1,000 different"):
        Classify().learn_labels([{"text": "x", "label": str(n)} for n in range(1001)])
    for wrong in (
        {"smoothing": 1.0},
        {"smoothing": 0.1, "problem": "multi"},
        {"problem": "regression", "labels": ("a", "b")},
    ):
        with pytest.raises(SettingError):
            Classify(**wrong)


@pytest.mark.parametrize("name", ["pico", "pico-encoder"])
def test_it_learns(name):
    model, objective, units = ready(name, "single", dtype="fp32")
    optimizer = Optimizer(list(model.net.named_parameters()), kind="adamw", lr=3e-3)
    steps = list(loop(model.policy, objective, units, optimizer, steps=90, batch_size=5, lr=3e-3, seed=0))
    assert steps[-1].stats.figures["accuracy"] == 1.0 and steps[-1].stats.loss < 0.2
