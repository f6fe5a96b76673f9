"""tunesmith plan: one setup, what fits a card, what to change, and the planned run beside the measured one."""

import json

import pytest

import tunesmith
from tunesmith.core.errors import ModelError, SettingError


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TUNESMITH_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


def test_a_plan_names_parts_operation_and_bar():
    found = tunesmith.plan(model="pico", method="sft", adapter="lora", length=64, **{"train.pass_tokens": 128})
    seen = found["forecast"]
    assert seen["fits"] and seen["error"] > 0
    assert sum(seen["kinds"].values()) == seen["live"] <= seen["device"]
    assert seen["where"].split(":")[0] in ("forward", "backward", "update")
    assert {"weights N x M", "gradients and states N x 3 x M", "inference N x M x 1.2"} <= set(seen["closed"])
    assert "activations" in found.text and "give or take" in found.text
    json.dumps(found)


def test_gpu_lists_what_fits_cheapest_first():
    found = tunesmith.plan(
        model="pico", length=64, gpu="12GB", rows=400, **{"train.pass_tokens": 128, "train.batch_size": 2}
    )
    assert {
        row["setup"]["adapter"] if isinstance(row["setup"]["adapter"], str) else "lora" for row in found["fits"]
    } >= {"full", "lora"}
    slower = [row["slower"] for row in found["fits"]]
    assert slower == sorted(slower)
    assert "cheapest" in found.text
    assert found["recommended"] == "lora" and found["reasons"]


def test_fit_says_what_to_change():
    found = tunesmith.plan(
        model="pico", adapter="full", length=256, fit="600MB", **{"train.pass_tokens": 16384, "train.batch_size": 64}
    )
    assert found["changes"] is None or found["forecast"]["fits"]


def test_fit_leaves_alone_what_fits():
    found = tunesmith.plan(model="pico", length=64, fit="24GB", **{"train.pass_tokens": 128, "train.batch_size": 2})
    assert found["changes"] == [] and "as it is" in found.text


def test_time_and_cost_follow_from_a_card():
    keys = {"model": "pico", "length": 64, "train.pass_tokens": 128, "train.batch_size": 2}
    listed = tunesmith.plan(gpu="T4", **keys)["fits"][0]
    assert listed["seconds_pass"] > 0


def test_a_budget_alone_gives_the_best_split():
    found = tunesmith.plan(budget=5.76e23)
    assert found["parameters"] * found["tokens"] * 6 == pytest.approx(5.76e23)


def test_sharding_divides_what_is_held():
    keys = {"model": "pico", "adapter": "full", "length": 64, "train.pass_tokens": 128, "train.batch_size": 4}
    one, two = tunesmith.plan(**keys)["forecast"], tunesmith.plan(devices=2, zero=1, **keys)["forecast"]
    assert two["kinds"]["optimizer"] == pytest.approx(one["kinds"]["optimizer"] / 2, rel=0.01)
    assert two["live"] < one["live"]
    said = tunesmith.plan(devices=2, **keys, **{"train.shard": "optimizer"})["forecast"]
    assert said["kinds"] == two["kinds"] and said["live"] == two["live"]


@pytest.mark.parametrize(
    ("keys", "error"),
    [({"gpu": "H10"}, SettingError), ({"zero": 4}, SettingError), ({"model": "Qwen3-9B"}, ModelError), ({"gpu": "T4", "fit": "T4"}, SettingError), ({"method": "features"}, SettingError)],
)  # fmt: skip
def test_mistakes_are_explained(keys, error):
    with pytest.raises(error):
        tunesmith.plan(**{"model": "pico", "length": 64, **keys})
