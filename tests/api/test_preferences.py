"""Votes through the public API: train, start from an SFT adapter, evaluate pairs, a reward model as judge and as metric."""

import json
import math
from pathlib import Path

import pytest
from safetensors.torch import load_file

import tunesmith
from tunesmith.core.errors import ModelError

VOTES = [
    {"prompt": f"question {i}?", "chosen": f"Thank you, it is {i}.", "rejected": f"{i}, as always"} for i in range(14)
]
KEYS = {"model": "pico", "train.epochs": 1, "train.batch_size": 4, "data.dev": 2, "data.test": 3, "quiet": True}


def first_loss(run):
    events = [json.loads(line) for line in Path(run, "events.jsonl").read_text().splitlines()]
    return next(event["loss"] for event in events if event["kind"] == "step")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("votes")


@pytest.fixture(scope="module")
def judge(folder):
    """A reward model's run."""
    return tunesmith.train(data=VOTES, method="reward", adapter="full", out=str(folder / "reward"), **KEYS)["run"]


@pytest.fixture(scope="module")
def sft(folder):
    """An sft run whose result is an adapter."""
    rows = [{"question": vote["prompt"], "answer": vote["chosen"]} for vote in VOTES]
    return tunesmith.train(
        data=rows, method="sft", adapter="lora", out=str(folder / "sft"), **KEYS, **{"train.lr": 5e-3}
    )["run"]


@pytest.fixture(scope="module")
def dpo(folder, sft):
    """dpo from that adapter, as a new one."""
    keys = {**KEYS, "model": sft}
    return tunesmith.train(data=VOTES, method="dpo", adapter="lora", out=str(folder / "dpo"), **keys)["run"]


def test_dpo_starts_at_ln_2_from_an_sft_adapter(dpo):
    assert first_loss(dpo) == pytest.approx(math.log(2), abs=1e-6)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
@pytest.mark.parametrize("adapter", ["full", "lora", "prompt"])
def test_dpo_starts_at_ln_2_in_the_format_that_trains(folder, adapter, precision):
    keys = {**KEYS, "train.precision": precision, "train.steps": 1, "train.eval_every": 1}
    run = tunesmith.train(data=VOTES, method="dpo", adapter=adapter, out=str(folder / f"{adapter}-{precision}"), **keys)
    assert first_loss(run["run"]) == pytest.approx(math.log(2), abs=1e-6)


@pytest.mark.parametrize("adapter", ["full", "lora"])
@pytest.mark.parametrize("method", ["grpo", "ppo"])
def test_a_method_that_samples_starts_at_no_distance_in_16_bits(folder, method, adapter):
    rows = [{"prompt": vote["prompt"], "answer": "1"} for vote in VOTES]
    keys = {**KEYS, "train.precision": "bf16", "train.steps": 1, "train.eval_every": 1, "data.test": 0}
    how = {method: {"reward": "exact_match", "max_tokens": 6, "n": 2}}
    run = tunesmith.train(data=rows, method=how, adapter=adapter, out=str(folder / f"{method}-{adapter}"), **keys)[
        "run"
    ]
    (step,) = [e for e in map(json.loads, Path(run, "events.jsonl").read_text().splitlines()) if e["kind"] == "step"]
    assert step["figures"]["kl"] == pytest.approx(0.0, abs=1e-7)
    if adapter == "full":
        names = set(load_file(Path(run, "model", "model.safetensors")))
        assert names and not any("value_head" in name for name in names), (
            "the guess of the reward is no part of the result"
        )


def test_a_pair_that_is_left_out_is_told_with_its_reason(folder):
    rows = [*VOTES, {"prompt": "x?", "chosen": "yes", "rejected": "y" * 600}]
    keys = {**KEYS, "data.dev": 0, "data.test": 0, "too_long": "drop"}
    run = tunesmith.train(data=rows, method="dpo", adapter="full", out=str(folder / "dropped"), **keys)["run"]
    (line,) = [json.loads(line) for line in Path(run, "data", "dropped.jsonl").read_text().splitlines()]
    assert line["reason"].startswith("too long: ") and line["by"] == "tokenise"


@pytest.mark.parametrize("method", ["simpo", "orpo", "kto"])
def test_the_others_train(method, folder):
    done = tunesmith.train(data=VOTES, method=method, adapter="full", out=str(folder / method), **KEYS)
    assert math.isfinite(done["last_loss"]) and done["best_dev_loss"] is not None


def test_a_tuned_model_is_evaluated_by_its_likelihood_of_the_pairs(dpo):
    found = tunesmith.eval(dpo, quiet=True)
    assert set(found["metrics"]) == {"preferred", "margin"} and found["metrics"]["preferred"]["n"] == 3
    assert Path(dpo, "evals", "test-pairs.jsonl").is_file()


def test_an_adapter_that_cannot_be_merged_is_evaluated_as_it_is(folder):
    run = tunesmith.train(data=VOTES, method="dpo", adapter="prompt", out=str(folder / "prompt"), **KEYS)["run"]
    assert first_loss(run) == pytest.approx(math.log(2), abs=1e-6)
    assert tunesmith.eval(run, quiet=True)["metrics"]["preferred"]["n"] == 3


def test_a_reward_model_is_evaluated_by_the_pairs_it_tells_apart(judge):
    found = tunesmith.eval(judge, quiet=True)
    lines = [json.loads(line) for line in Path(judge, "evals", "test-pairs.jsonl").read_text().splitlines()]
    right = sum(line["chosen_score"] > line["rejected_score"] for line in lines)
    assert found["metrics"]["preferred"]["value"] == pytest.approx(right / 3)


def test_a_reward_model_judges_generated_answers(dpo, judge):
    keys = {"generate.max_tokens": 4, "eval.name": "judged", "quiet": True}
    found = tunesmith.eval(dpo, metrics=[{"reward": {"model": judge}}], **keys)
    assert math.isfinite(found["metrics"]["reward"]["value"]) and found["metrics"]["reward"]["n"] == 3
    with pytest.raises(ModelError, match="is no reward model"):
        tunesmith.eval(dpo, metrics=[{"reward": {"model": "pico"}}], **keys, fresh=True)
