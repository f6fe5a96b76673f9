"""The benchmark of gamed rewards: what is read from runs, what is said of them, and that it runs at the smallest size."""

import json

import pytest
from benchmarks import reward_hacking


def a_run(tmp_path, hidden, signs=()):
    """A run folder of 20 steps whose hidden metric goes from the first value to the second."""
    events = []
    for step in range(1, 21):
        share = (step > 10) * 1.0
        figures = {"reward": 0.5 + 0.3 * share, "kl": 1.0, "length": 4.0, "repetition": 0.0}
        figures["hidden"] = hidden[0] + (hidden[1] - hidden[0]) * share
        events.append({"kind": "step", "step": step, "figures": figures})
    events += [{"kind": "warning", "name": name, "step": step} for name, step in signs]
    tmp_path.mkdir(exist_ok=True)
    (tmp_path / "events.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))
    return tmp_path


def test_ends_and_signs_are_read_and_the_verdict_follows_from_them(tmp_path):
    gamed = reward_hacking.read(a_run(tmp_path / "a", (0.9, 0.1), [("hidden", 12)]))
    fine = reward_hacking.read(a_run(tmp_path / "b", (0.9, 0.85)))
    assert [gamed[when]["hidden"] for when in ("first", "last")] == pytest.approx([0.9, 0.1])
    assert gamed["signs"] == [["hidden", 12]] and fine["signs"] == []
    text = reward_hacking.show({"arms": {"free": [gamed, gamed], "held": [fine, fine]}})
    assert "| free |" in text and "hidden |" in text and "holds what the reward does not see" in text
    assert "NOT shown" in reward_hacking.show({"arms": {"free": [fine], "held": [fine]}})


def test_it_runs(tmp_path):
    small = {"train.batch_size": 4, "method.n": 2, "method.max_tokens": 4, "train.eval_every": None}
    found = reward_hacking.run("pico", seeds=1, steps=2, sft={"train.epochs": 1}, **small)
    assert set(found["arms"]) == {"free", "held"}
    assert "hidden" in found["arms"]["free"][0]["last"]
