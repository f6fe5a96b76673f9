"""The verb rerun: equal to the last bit, and told when it is not."""

import json
from pathlib import Path

from tunesmith.api.rerun import rerun
from tunesmith.api.train import train

ROWS = [{"question": f"What is {i} plus {i}?", "answer": f"It is {2 * i}."} for i in range(14)]
SMALL = {"model": "pico", "quiet": True, "train.steps": 2, "train.sample": 0}


def test_equal_figures_also_of_a_time_budget(folder: Path):
    Path("rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    first = train(
        data="rows.jsonl", out="run", **{**SMALL, "train.steps": None, "train.minutes": 0.001, "train.batch_size": 4}
    )
    again = rerun("run", quiet=True)
    assert again["equal"], again.text
    assert again["after"]["steps"] == first["steps"]
    assert json.loads(Path(again["run"], "manifest.json").read_text())["parent"] == "run"


def test_rows_from_python(folder: Path):
    train(data=ROWS, out="run", **SMALL)
    assert rerun("run", quiet=True)["equal"]


def test_other_rows_are_told(folder: Path):
    Path("rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    train(data="rows.jsonl", out="run", **SMALL)
    Path("rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS[:-1]))
    again = rerun("run", quiet=True)
    assert not again["equal"] and not again["same"]["data"]
    assert "DIFFERENT  data" in again.text


def test_another_kernel_is_told(folder: Path, monkeypatch):
    from tunesmith.model import compiled

    train(data=ROWS, out="run", **SMALL)
    used = json.loads(Path("run", "manifest.json").read_text())["kernels"]
    monkeypatch.setenv("TUNESMITH_KERNELS", "off")
    compiled.shared_library.cache_clear()
    try:
        again = rerun("run", quiet=True)
    finally:
        monkeypatch.undo()
        compiled.shared_library.cache_clear()
        compiled._reasons.clear()
    if used.startswith("torch"):
        assert "kernels" not in again["versions_changed"] or used != "torch: TUNESMITH_KERNELS=off"
    else:
        assert list(again["versions_changed"]["kernels"]) == ["attention in C", "torch: TUNESMITH_KERNELS=off"]
