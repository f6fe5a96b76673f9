"""On-policy distillation through the public API: dev rows are prompts, which nothing judges while it trains."""

import json
import math
from pathlib import Path

import tunesmith


def test_a_method_that_samples_without_a_reward_trains_beside_dev_rows(tmp_path: Path):
    rows = [{"question": f"say {i}", "answer": f"it is {i}"} for i in range(10)]
    keys = {"model": "pico", "train.batch_size": 4, "data.dev": 2, "adapter": "full", "quiet": True}
    teacher = tunesmith.train(data=rows, method="sft", out=str(tmp_path / "teacher"), **keys, **{"train.epochs": 1})[
        "run"
    ]
    method = {"gkd": {"teacher": teacher, "max_tokens": 4}}
    done = tunesmith.train(data=rows, method=method, out=str(tmp_path / "gkd"), **keys, **{"train.steps": 2})
    events = [json.loads(line) for line in Path(done["run"], "events.jsonl").read_text().splitlines()]
    assert [event["kind"] for event in events].count("step") == 2
    assert math.isfinite(done["last_loss"]) and done["best_dev_loss"] is None
