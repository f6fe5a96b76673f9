"""tunesmith runs: the list, one run, and where it comes from."""

import json
from pathlib import Path

import pytest

from tunesmith.api.runs import children, lineage, runs


def make(folder: Path, *, created: str, parent: str | None = None, score: float | None = None) -> None:
    folder.mkdir(parents=True)
    (folder / "project.yaml").write_text("model: mini\nmethod: sft\nadapter: lora\n", encoding="utf-8")
    (folder / "manifest.json").write_text(
        json.dumps({"format": 1, "verb": "train", "created": created, "parent": parent}), encoding="utf-8"
    )
    (folder / "events.jsonl").write_text('{"kind": "step", "step": 1, "loss": 1.0}\n', encoding="utf-8")
    if score is not None:
        (folder / "evals").mkdir()
        summary = {"value": score, "n": 100, "low": score - 0.1, "high": score + 0.1, "better": "higher"}
        (folder / "evals/test.json").write_text(json.dumps({"metrics": {"exact_match": summary}}), encoding="utf-8")


@pytest.fixture
def three(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    make(tmp_path / "runs/first", created="2026-11-20T10:00:00Z", score=0.5)
    make(tmp_path / "runs/second", created="2026-11-21T10:00:00Z", parent="runs/first", score=0.8)
    make(tmp_path / "runs/demo/third", created="2026-11-19T10:00:00Z", parent=str(tmp_path / "runs/second"))
    return tmp_path / "runs"


def test_the_list_is_in_order_of_time_with_scores(three):
    result = runs()
    assert [facts["name"] for facts in result["runs"]] == ["third", "first", "second"]
    assert result["runs"][2]["score"]["value"] == 0.8 and result["runs"][0]["score"] is None
    lines = result.text.splitlines()
    assert lines[1].startswith("demo/third") and "running" in lines[1]
    assert "80.0% exact_match" in lines[3] and "70.0%..90.0%" in lines[3] and lines[3].endswith("first")


def test_one_run_with_its_lineage(three):
    result = runs("demo/third")
    assert [Path(path).name for path in result["lineage"]] == ["second", "first"]
    assert "first -> second -> third" in result.text
    assert [Path(path).name for path in runs("first")["children"]] == ["second"]


def test_a_circle_of_parents_ends(tmp_path):
    make(tmp_path / "a", created="1", parent="b")
    make(tmp_path / "b", created="2", parent="a")
    assert [Path(path).name for path in lineage(tmp_path / "a")] == ["b"]
    assert [path.name for path in children(tmp_path / "a")] == ["b"]


def test_no_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert runs()["runs"] == [] and "No runs under runs" in runs().text
    assert "훈련 기록이 없습니다" in runs(lang="ko").text
