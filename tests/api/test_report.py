"""tunesmith report: writes the page and says what it found."""

import json
from pathlib import Path

import pytest

from tunesmith.api.report import report
from tunesmith.core.errors import ProjectError


def make(folder: Path, **manifest) -> Path:
    folder.mkdir(parents=True)
    (folder / "project.yaml").write_text(
        "model: mini\nmethod: sft\nadapter: {lora: {rank: 8}}\nlang: ko\n", encoding="utf-8"
    )
    (folder / "manifest.json").write_text(
        json.dumps({"format": 1, "verb": "train", "parent": None, **manifest}), encoding="utf-8"
    )
    steps = [{"kind": "step", "step": k, "loss": 3.0 / k, "seconds": 0.1} for k in range(1, 5)]
    (folder / "events.jsonl").write_text(
        "".join(json.dumps(e) + "\n" for e in [*steps, {"kind": "end"}]), encoding="utf-8"
    )
    return folder


def test_writes_the_page_of_a_run_named_or_the_newest(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make(tmp_path / "runs/train-1")
    for name in ("runs/train-1", "train-1", None):
        result = report(name, lang="en")
        assert (
            Path(result["report"]).name == "report.html"
            and Path(result["report"]).stat().st_size == result["bytes"] > 5000
        )
        assert "Training loss went from 3 to 0.75." in result.text and "Report: " in result.text
    assert "훈련 손실이 3에서 0.75로" in report("train-1").text  # the run's own language


def test_no_such_run_names_the_nearest(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ProjectError, match="There is no run under runs"):
        report()
    make(tmp_path / "runs/train-1")
    with pytest.raises(ProjectError) as error:
        report("trian-1")
    assert "train-1" in str(error.value)
    with pytest.raises(ProjectError, match="is no run folder"):
        report(".")
