"""A pico model, random rows, and runs in a temporary folder, for the tests of the training room."""

import json
from functools import cache

import pytest

from tunesmith.core.runs import RunFolder
from tunesmith.model.load import load
from tunesmith.objectives.sft import Sft
from tunesmith.train.run import fit


@pytest.fixture
def pico():
    """A new pico; seed gives its weights."""
    return lambda seed=0: load("pico", seed=seed)


@pytest.fixture
def run_folder(tmp_path):
    """run_folder("a") -> the run folder of that name, made at the first call."""

    @cache
    def made(name):
        return RunFolder.create(tmp_path / name, project={"seed": 0}, verb="train")

    return lambda name="run": made(name)


@pytest.fixture
def train(pico, run_folder, make_units):
    """train("a", steps=4, ...) -> (outcome, model) of a run of pico in the folder "a"; `adapter` is attached first."""
    rows = make_units([6, 9, 12, 7, 5, 10, 8, 11, 6, 13], seed=1)
    dev = make_units([9, 6, 14], seed=2)

    def run(name="run", *, adapter=None, model=None, units=rows, dev=dev, seed=0, **settings):
        model = model or pico(seed)
        if adapter is not None:
            adapter.attach(model.net, seed=seed)
        settings = {"steps": 6, "batch_size": 4, "lr": 1e-2, **settings}
        return fit(model, Sft(), units, dev, folder=run_folder(name), seed=seed, **settings), model

    return run


@pytest.fixture
def events(run_folder):
    """events("a", "step") -> the events of that kind in the journal of the run "a"."""

    def read(name="run", kind=None):
        lines = (run_folder(name).path / "events.jsonl").read_text().splitlines()
        found = [json.loads(line) for line in lines]
        return [event for event in found if kind is None or event["kind"] == kind]

    return read


@pytest.fixture
def same_weights():
    """same_weights(a, b): are all parameters of two models equal to the last bit?"""

    def same(a, b):
        left, right = dict(a.net.named_parameters()), dict(b.net.named_parameters())
        return left.keys() == right.keys() and all(left[n].equal(right[n]) for n in left)

    return same
