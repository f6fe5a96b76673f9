"""The verb merge: the same answers, loadable by plain transformers, and nothing of the user's written over."""

import json
from pathlib import Path

import pytest
import torch

from tunesmith.api.merge import merge
from tunesmith.api.train import train
from tunesmith.core.errors import ModelError, SettingError

ROWS = [{"question": f"What is {i} plus {i}?", "answer": f"It is {2 * i}."} for i in range(14)]


@pytest.fixture
def run(folder: Path) -> str:
    train(data=ROWS, model="pico", out="run", quiet=True, **{"train.steps": 2, "train.sample": 0, "train.lr": 0.05})
    return "run"


def test_merged_is_what_the_adapter_says(run: str):
    from transformers import AutoModelForCausalLM

    from tunesmith.adapters.store import open_run

    found = merge(run)
    assert found["folder"] == "run/merged" and found["difference"] < 1e-4
    ids = torch.arange(40, 60)[None]
    plain = AutoModelForCausalLM.from_pretrained("run/merged", dtype=torch.float32)
    with torch.no_grad():
        torch.testing.assert_close(plain(ids).logits, open_run(run).net(ids).logits, rtol=0, atol=1e-4)
    merge(run, "half", precision="bf16")
    assert json.loads(Path("half/config.json").read_text())["dtype"] == "bfloat16"


def test_folders_in_use_are_left_alone(run: str):
    Path("mine").mkdir()
    Path("mine/letter.txt").write_text("mine")
    Path("file").write_text("mine")
    for where in ("mine", "file", "."):
        with pytest.raises(ModelError, match="not empty"):
            merge(run, where)
    assert Path("mine/letter.txt").read_text() == "mine"
    with pytest.raises(SettingError):
        merge(run, "new", precision="int8")
    assert not Path("new").exists()
