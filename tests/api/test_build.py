"""tunesmith.build: the parts of a project, and the bare loop over them."""

from pathlib import Path

import pytest

from tunesmith.api.build import build
from tunesmith.api.train import train
from tunesmith.core.errors import SettingError
from tunesmith.core.runs import RunFolder

ROWS = [{"question": f"What is {i} plus {i}?", "answer": f"It is {2 * i}."} for i in range(14)]
PROJECT = {
    "model": "pico",
    "data": {"path": ROWS, "dev": 0, "test": 0},
    "train": {"steps": 3, "sample": 0, "l2": 0.5, "betas": [0.5, 0.9]},
}


def test_steps_are_those_of_train(folder: Path):
    losses = [step.stats.loss for step in build(PROJECT, out="parts").steps()]
    train(PROJECT, out="run", quiet=True)
    journal = [event["loss"] for event in RunFolder.open("run").journal("events.jsonl") if event["kind"] == "step"]
    assert losses == journal


def test_steps_refuse_what_they_do_not_do(folder: Path):
    with pytest.raises(SettingError, match="fp32"):
        next(build(PROJECT, out="parts", **{"train.precision": "bf16"}).steps())


def test_choices_have_reasons(folder: Path):
    parts = build(PROJECT, out="parts")
    assert parts.chosen["steps"] == 3
    assert set(parts.chosen["why"]) >= {"lr", "steps", "pass_tokens"}
    assert len(parts.units) == 14 and len(parts.dev) == 0
