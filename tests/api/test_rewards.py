"""What a setting `reward` means: metrics, reward models, and metrics that need one."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from tunesmith.adapters.store import open_run
from tunesmith.api.rewards import given, reward_of
from tunesmith.api.train import train
from tunesmith.core.errors import ModelError, SettingError
from tunesmith.model.load import load

ROWS = [{"messages": [{"role": "user", "content": f"What is {i}?"}], "answer": f"It is {i}."} for i in range(3)]
SAID = ["It is 0.", "No.", "42"]


@pytest.fixture
def judge(folder: Path) -> str:
    votes = [{"prompt": f"What is {i}?", "chosen": f"It is {i}.", "rejected": "Go away."} for i in range(16)]
    keys = {"train.steps": 2, "train.batch_size": 4, "train.sample": 0}
    train(data=votes, model="pico", method="reward", out="runs/reward", quiet=True, **keys)
    return "runs/reward"


def test_the_metric_of_a_reward_model_pays_what_the_model_pays(judge: str):
    plain = reward_of({"model": judge}, Path.cwd())(ROWS, SAID)
    assert reward_of({"reward": {"model": judge}}, Path.cwd())(ROWS, SAID) == pytest.approx(plain)
    mixed = reward_of(["exact_match", {"of": {"reward": {"model": judge}}, "weight": 2.0}], Path.cwd())(ROWS, SAID)
    assert mixed == pytest.approx([2 * plain[0] + 1, 2 * plain[1], 2 * plain[2]])
    against = reward_of({"reward": {"model": judge, "against": "reference"}}, Path.cwd())(ROWS[:1], SAID[:1])
    assert against == [0.5]  # it is the reference itself: a tie


def test_it_is_learned_from(judge: str):
    keys = {"train.steps": 1, "train.batch_size": 4, "train.sample": 0}
    asked = [{"prompt": f"What is {i} plus 1?"} for i in range(10)]
    method = {"grpo": {"reward": {"reward": {"model": judge}}, "n": 2, "max_tokens": 3}}
    assert train(data=asked, model="pico", method=method, out="runs/g", quiet=True, **keys)["status"] == "finished"


def test_what_nothing_provides_is_told(folder: Path):
    with pytest.raises(ModelError, match="no model 'nowhere'"):
        reward_of({"reward": {"model": "nowhere"}}, Path.cwd())
    with pytest.raises(SettingError, match="reward.reward.model is missing"):
        reward_of("reward", Path.cwd())
    with pytest.raises(SettingError, match="mine needs a reward model.*\n.*mine: {model: RUN}"):
        given(SimpleNamespace(needs=("reward",)), "mine", lambda name: None, Path.cwd(), "cpu")
    with pytest.raises(SettingError, match="mine needs a crystal ball"):
        given(SimpleNamespace(needs=("a crystal ball",)), "mine", lambda name: None, Path.cwd(), "cpu")


def test_memory_counts_the_frozen_networks_beside_the_one_that_trains(judge: str):
    import json

    asked = [{"prompt": f"What is {i} plus 1?"} for i in range(10)]
    reward = {"reward": {"model": judge}, "hidden": {"reward": {"model": judge}}, "n": 2, "max_tokens": 3}
    keys = {"train.steps": 1, "train.batch_size": 4, "train.sample": 0, "quiet": True, "model": "pico", "data": asked}
    size = 4 * sum(parameter.numel() for parameter in load("pico").net.parameters())
    of_judge = 4 * sum(parameter.numel() for parameter in open_run(judge).net.parameters())

    def held(out: str) -> dict:
        return json.loads(Path(out, "memory.json").read_text())

    train(method={"grpo": {**reward, "kl": 0.1}}, adapter="full", out="runs/full", **keys)
    found = held("runs/full")
    assert found["frozen"]["reference"] >= size and found["frozen"]["reward"] >= 2 * of_judge
    assert found["helpers"] == sum(found["frozen"].values()) < 1.1 * (size + 2 * of_judge)
    train(method={"grpo": {**reward, "kl": 0.1}}, adapter="lora", out="runs/lora", **keys)
    assert held("runs/lora")["frozen"]["reference"] < size / 2  # the frozen base is shared, its LoRA copied
    rows = [{"question": f"What is {i}?", "answer": "No."} for i in range(10)]
    train(method={"distill": {"teacher": "pico"}}, adapter="full", out="runs/taught", **{**keys, "data": rows})
    assert size <= held("runs/taught")["frozen"]["teacher"] < 1.1 * size
    train(method="sft", adapter="full", out="runs/alone", **{**keys, "data": rows})
    assert held("runs/alone")["helpers"] == 0
