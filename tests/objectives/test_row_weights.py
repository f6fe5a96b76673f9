"""data.weight: a row of weight 2 counts as the row twice, one of 0 as if it were not there; other methods refuse it by name."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from tunesmith.api.train import train
from tunesmith.core.errors import SettingError
from tunesmith.core.runs import RunFolder
from tunesmith.core.shelf import USE, shelf
from tunesmith.objectives.multitask import Multitask
from tunesmith.step.helpers import Helpers
from tunesmith.step.step import backward
from tunesmith.testing.objectives import ROWS, step_of
from tunesmith.text.draw import Draw
from tunesmith.text.encode import Text

METHODS = shelf("objectives").names()
WEIGHTED = {"sft", "pretrain", "infill", "seq2seq", "distill", "classify", "masked"}
STEPS = WEIGHTED - {"distill"}  # distill is sft's Units, read against a teacher
SAMPLING = {"reward": "exact_match", "max_tokens": 3}
SETTINGS = {
    "grpo": SAMPLING, "ppo": SAMPLING, "rejection": SAMPLING, "gkd": {"teacher": "pico"}, "multitask": {"tasks": {"rows": "sft"}},
}  # fmt: skip


def method(name, **settings):
    return shelf("objectives").make({name: {**SETTINGS.get(name, {}), **settings}})


def weighing(row, weight):
    """The row as data.read weighs it: of a conversation the answers' messages carry it."""
    if "messages" not in row:
        return {**row, "weight": weight}
    said = [{**turn, "weight": weight} if turn["role"] == "assistant" else turn for turn in row["messages"]]
    return {**row, "messages": said}


def rows_of(objective):
    return ROWS[objective.shape if isinstance(objective.shape, str) else objective.shape[0]]


def gradient(objective, model, text, rows):
    """(loss, gradient) of a step over rows; equal rows get equal draws."""
    places = {row["origin"]: n for n, row in enumerate(rows_of(objective))}
    units = [u for row in rows for u in objective.units(row, text, Draw([0, 0, places[row["origin"]]], rows))]
    units = [unit for unit in units if any(example.num_trained for example in unit.examples)]
    loss = backward(model.policy, objective, units, helpers=Helpers()).loss
    found = torch.cat([p.grad.flatten() for p in model.net.parameters() if p.grad is not None])
    model.net.zero_grad(set_to_none=True)
    return loss, found


def test_who_counts_weights_and_who_does_not_is_said_by_every_method():
    said = {name for name in METHODS if getattr(method(name), "weighted", False)}
    assert said == WEIGHTED | {"multitask", "features"}
    assert not method("features", head="knn").weighted and not method("features", head="mlp").weighted
    assert Multitask({"a": "sft", "b": "pretrain"}).weighted and not Multitask({"a": "sft", "b": "dpo"}).weighted


@pytest.mark.parametrize(
    ("name", "shape"),
    [*((name, None) for name in sorted(STEPS)), ("infill", "text"), ("seq2seq", "chat")],
)
def test_a_weight_of_2_is_the_row_twice_and_of_0_no_row(name, shape):
    objective, model, _, _ = step_of(method(name), ROWS[shape] if shape else None)
    text = Text(model.tokenizer, length=256, too_long="split" if name == "masked" else "error")
    plain = list(ROWS[shape] if shape else rows_of(objective))

    once = gradient(objective, model, text, plain)
    twice = gradient(objective, model, text, [*plain, plain[1]])
    double = gradient(objective, model, text, [weighing(row, 2.0 if n == 1 else 1.0) for n, row in enumerate(plain)])
    assert double[0] == pytest.approx(twice[0], rel=1e-9)
    torch.testing.assert_close(double[1], twice[1], rtol=1e-7, atol=1e-9)
    largest = float(once[1].abs().max())
    assert (double[1] - once[1]).abs().max() > 1e-3 * largest  # and it is not what it was without

    some = gradient(objective, model, text, plain[::2])
    zero = gradient(objective, model, text, [weighing(row, float(n % 2 == 0)) for n, row in enumerate(plain)])
    assert zero[0] == pytest.approx(some[0], rel=1e-9) and (zero[1] - once[1]).abs().max() > 1e-3 * largest
    torch.testing.assert_close(zero[1], some[1], rtol=1e-7, atol=1e-9)


def test_seq2seq_does_not_write_an_answer_that_is_not_trained_on():
    objective, model, _, _ = step_of(method("seq2seq"))
    row = ROWS["chat"][0]
    said = [{**turn, "train": False} if turn["role"] == "assistant" else turn for turn in row["messages"]]
    (unit,) = objective.units({**row, "messages": said}, Text(model.tokenizer), np.random.default_rng(0))
    assert not unit.examples[0].num_trained


def write(rows):
    Path("rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(USE, "{}")


def run(out, name, **data):
    model = {"seq2seq": "pico-t5", "masked": "pico-encoder"}.get(name, "pico")
    found = train(
        model=model, method=name, adapter="full", quiet=True, out=out, seed=1,
        data={"path": "rows.jsonl", "dev": 0, "test": 0, **data}, train={"steps": 2, "sample": 0, "batch_size": 4},
    )  # fmt: skip
    return found["last_loss"], found["result_hash"], json.loads(Path(f"{out}/data/cache/train/meta.json").read_text())


TEXTS = [{"text": f"Once there were {i} cats in a garden of {3 * i} trees.", "w": i % 2} for i in range(12)]
PAIRS = [{"text": f"cats: {i}", "text2": f"{i} cats", "w": i % 2} for i in range(12)]
CHATS = [{"question": f"What is {i} plus {i}?", "answer": f"It is {2 * i}.", "w": i % 2} for i in range(12)]


@pytest.mark.parametrize(
    ("name", "rows"), [("sft", CHATS), ("pretrain", TEXTS), ("infill", TEXTS), ("seq2seq", PAIRS), ("seq2seq", CHATS)]
)
def test_trained_end_to_end_rows_of_weight_0_teach_nothing(here, name, rows):
    write(rows)
    plain = run("plain", name)
    weighed = run("weighed", name, weight="w")
    assert weighed[:2] != plain[:2]
    assert (plain[2]["num_units"], weighed[2]["num_units"]) == (12, 6)
    dropped = [d["reason"] for d in RunFolder.open("weighed").journal("data/dropped.jsonl")]
    assert set(dropped) <= {"nothing in it is trained on", "its weight is 0"} and len(dropped) == 6
    write([row for row in rows if row["w"]])
    again = run("again", name, weight="w")
    assert again[2]["total_trained"] == weighed[2]["total_trained"]


REFUSED = [name for name in METHODS if name not in WEIGHTED | {"multitask", "features"}]


@pytest.mark.parametrize("name", REFUSED)
def test_methods_that_count_rows_alike_refuse_it_by_name(here, name):
    write(CHATS)
    with pytest.raises(SettingError, match=f"data.weight is w, but method {name} counts every row alike") as caught:
        train(
            model="pico", method={name: SETTINGS.get(name, {})}, data={"path": "rows.jsonl", "weight": "w"}, quiet=True
        )
    assert "sft" in caught.value.wanted and "Leave data.weight out" in caught.value.fix
    assert not Path("runs").exists()
