"""Rollouts: which prompts make which step, rounds in the checkpoint, seeds of answers."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import tunesmith
from tunesmith.text.example import Example, Unit, together
from tunesmith.train.feed import Rollouts, units_from_tensors, units_to_tensors


def prompt(number):
    return Unit((Example.of([5, 6, 100 + number], [0, 0, 0]),), origin=f"rows:{number}", columns={"row": {"n": number}})


class Asked:
    """A policy that answers with its prompt's number and the seed; it notes what it was asked."""

    def __init__(self):
        self.seeds = []

    def answer(self, prompts, n, seeds):
        self.seeds.append(list(seeds))
        return [[SimpleNamespace(ids=[p[-1], 7], text=str(p[-1])) for _ in range(n)] for p in prompts]

    def collect(self, prompts, sample):
        answers = sample([u.examples[0].ids.tolist() for u in prompts], 2)
        made = []
        for unit, group in zip(prompts, answers):
            ids = unit.examples[0].ids.tolist()
            examples = [
                Example.of(
                    [*ids, *a.ids], [0] * len(ids) + [1] * len(a.ids), score=float(k), old=np.arange(len(ids) + 2.0)
                )
                for k, a in enumerate(group)
            ]
            made.append(together(examples, unit.origin, unit.columns))
        return made


def feed(asked, **settings):
    given = {"batch_size": 2, "collect_size": 4, "reuse": 3, "seed": 1, **settings}
    return Rollouts([prompt(i) for i in range(10)], collect=asked.collect, answer=asked.answer, **given)


def test_a_round_is_sampled_once_and_used_again():
    asked = Asked()
    rollouts = feed(asked)
    assert (rollouts.per_round, rollouts.per_epoch) == (6, 18)
    steps = [rollouts.step(number) for number in range(12)]
    assert len(asked.seeds) == 2
    for start in (0, 2, 4):  # each pass over the round sees each of its prompts once
        seen = [int(i) for step in steps[start : start + 2] for i in step.indices]
        assert len(set(seen)) == 4 and set(seen) == {int(i) for step in steps[:2] for i in step.indices}
    assert len({int(i) for step in steps for i in step.indices}) == 8  # the second round has other prompts
    assert all(len(unit.examples) == 2 for step in steps for unit in step.units)


def test_no_step_of_an_epochs_small_last_round_is_empty():
    rollouts = feed(
        Asked(), reuse=2
    )  # 10 prompts in rounds of 4, steps of 2: the last round has 2 prompts for its 4 steps
    steps = [rollouts.step(number) for number in range(rollouts.per_epoch)]
    assert [len(step.units) for step in steps] == [2] * 12
    last = {tuple(sorted(map(int, step.indices))) for step in steps[8:]}
    assert len(last) == 1 and len({int(i) for step in steps for i in step.indices}) == 10


def test_two_ranks_share_a_step_without_overlap():
    whole = feed(Asked())
    parts = [feed(Asked(), rank=rank, ranks=2) for rank in (0, 1)]
    for number in range(8):
        wanted = sorted(u.origin for u in whole.step(number).units)
        found = [u.origin for part in parts for u in part.step(number).units]
        assert sorted(found) == wanted
    assert sorted(s for part in parts for s in part.answer.__self__.seeds[0]) == sorted(whole.answer.__self__.seeds[0])


def test_a_checkpoint_in_the_middle_of_a_round_needs_no_sampling():
    first = feed(Asked())
    wanted = [first.step(number) for number in range(5)][4]
    asked = Asked()
    again = feed(asked)
    again.load(feed_state(first))
    found = again.step(4)
    assert not asked.seeds
    assert [u.origin for u in found.units] == [u.origin for u in wanted.units]
    for a, b in zip(found.units, wanted.units):
        assert a.shared_prompt == b.shared_prompt and a.columns == b.columns
        for one, other in zip(a.examples, b.examples):
            assert np.array_equal(one.ids, other.ids) and np.array_equal(one.weights, other.weights)
            assert one.columns["score"] == other.columns["score"]
            assert np.array_equal(one.columns["old"], other.columns["old"])


def feed_state(rollouts):
    return rollouts.state()


def test_seeds_differ_by_round_prompt_and_place():
    asked = Asked()
    rollouts = feed(asked)
    rollouts.step(0), rollouts.step(6)
    everything = [seed for seeds in asked.seeds for seed in seeds]
    assert len(set(everything)) == len(everything) == 16


def test_units_survive_tensors_when_there_are_none():
    assert units_from_tensors(units_to_tensors([])) == []


@pytest.mark.parametrize("method", ["grpo", "ppo", "rejection"])
def test_stopped_in_the_middle_of_a_round_and_resumed_the_weights_are_the_same(tmp_path, monkeypatch, method):
    """Bit for bit: the round in use, PPO's numbers between steps and the optimiser come back."""
    rows = [
        {"prompt": f"Say {word}", "completion": word}
        for word in ["one", "two", "three", "four", "five", "six", "seven"]
    ]
    settings = {"max_tokens": 5, "reward": {"format": {"regex": "[a-z]"}}, "reuse": 2, "collect_size": 4}
    project = {
        "data": rows, "model": "pico", "method": {method: settings}, "adapter": "full", "batch_size": 2, "steps": 7,
        "train": {"eval_every": 4, "save_every": 1}, "quiet": True,
    }  # fmt: skip
    left_alone = tunesmith.train(out=str(tmp_path / "whole"), **project)
    from tunesmith.train import run

    fit = run.fit
    monkeypatch.setattr(run, "fit", lambda *given, **named: fit(*given, stop_after=3, **named))
    stopped = tunesmith.train(out=str(tmp_path / "parts"), **project)
    assert stopped["status"] == "stopped" and Path(stopped["run"]).name == "parts"
    monkeypatch.setattr(run, "fit", fit)
    resumed = tunesmith.train(resume=str(tmp_path / "parts"), quiet=True)
    assert resumed["result_hash"] == left_alone["result_hash"]
