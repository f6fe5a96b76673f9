"""train.precision auto: what the machine multiplies in hardware, written down, and timed as it will run."""

import json
from pathlib import Path

import pytest
import torch
import yaml

import tunesmith
from tunesmith.api.config import Project
from tunesmith.core.errors import SettingError
from tunesmith.train import defaults
from tunesmith.train.settings import TrainSettings

ROWS = [{"question": f"What is {i} plus {i}?", "answer": f"It is {2 * i}."} for i in range(14)]


@pytest.mark.parametrize(
    ("flags", "wanted"), [({"avx2", "amx_bf16"}, "bf16"), ({"avx2", "avx512f"}, "fp32"), (set(), "fp32")]
)
def test_the_processor_decides(monkeypatch, flags, wanted):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(defaults, "_cpu_flags", lambda: flags)
    assert Project(train=TrainSettings(precision="auto")).precision == wanted
    assert Project().precision == "fp32"


@pytest.mark.parametrize(("supported", "wanted"), [(True, "bf16"), (False, "fp32")])
def test_the_gpu_decides_where_there_is_one(monkeypatch, supported, wanted):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: supported)
    monkeypatch.setattr(defaults, "_cpu_flags", lambda: set() if supported else {"amx_bf16"})
    assert Project(train=TrainSettings(precision="auto")).precision == wanted
    assert Project(device="cuda", train=TrainSettings(precision="auto")).precision == wanted
    other = Project(device="cpu", train=TrainSettings(precision="auto")).precision
    assert other == {"fp32": "bf16", "bf16": "fp32"}[wanted], "the processor computes, so the processor decides"


def test_masters_wait_for_what_auto_means(monkeypatch):
    monkeypatch.setattr(defaults, "precision", lambda device: "bf16")
    assert Project(train=TrainSettings(precision="auto", masters="kahan")).train.masters == "kahan"
    monkeypatch.setattr(defaults, "precision", lambda device: "fp32")
    with pytest.raises(SettingError, match="masters is kahan, but train.precision is fp32"):
        Project(train=TrainSettings(precision="auto", masters="kahan"))


def test_a_run_writes_down_what_auto_meant_and_times_its_budget_in_it(tmp_path, monkeypatch):
    monkeypatch.setattr(defaults, "precision", lambda device: "bf16")
    from tunesmith.train import run

    timed = []
    backward = run.backward
    monkeypatch.setattr(
        run, "backward", lambda policy, *a, **k: (timed.append(policy.net.dtype), backward(policy, *a, **k))[1]
    )
    done = tunesmith.train(
        data=ROWS, model="pico", adapter="full", out=str(tmp_path / "run"), quiet=True,
        **{"train.precision": "auto", "train.minutes": 0.001, "train.sample": 0},
    )  # fmt: skip
    assert yaml.safe_load(Path(done["run"], "project.yaml").read_text())["train"]["precision"] == "bf16"
    assert timed and set(timed) == {torch.bfloat16}
    exact = tunesmith.train(
        data=ROWS, model="pico", adapter="full", out=str(tmp_path / "given"), quiet=True,
        **{"train.precision": "bf16", "train.steps": done["steps"], "train.sample": 0},
    )  # fmt: skip
    assert exact["result_hash"] == done["result_hash"], "timing left the weights as they were, to the last bit"
    assert json.loads(Path(done["run"], "manifest.json").read_text())["hyperparameters"]["precision"] == "bf16"
