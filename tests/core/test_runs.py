"""The run folder: what it notes, what it refuses, what it never holds."""

import json
from pathlib import Path

import pytest
import yaml

from tunesmith import __version__
from tunesmith.core.errors import DataError, ProjectError
from tunesmith.core.files import hash_json
from tunesmith.core.runs import FORMAT, RunFolder, code_hash


def test_a_new_run_notes_what_makes_it_repeatable(tmp_path: Path):
    project = {"model": "pico", "seed": 7, "train": {"lr": 1e-4}, "metrics": ("exact_match",)}
    run = RunFolder.create(
        tmp_path / "runs" / "a", project=project, verb="train", parent="runs/before", hyperparameters={"lr": 1}
    )
    manifest = RunFolder.open(run.path).manifest()
    assert manifest["format"] == FORMAT == 1
    assert (manifest["verb"], manifest["seed"], manifest["parent"]) == ("train", 7, "runs/before")
    assert manifest["versions"]["tunesmith"] == __version__
    assert set(manifest["versions"]) >= {"python", "torch", "transformers"}
    assert manifest["hardware"]["cores"] >= 1 and manifest["hardware"]["memory"] > 1e8
    assert manifest["project_hash"] == hash_json(project)
    assert manifest["code_hash"] == code_hash() and len(manifest["code_hash"]) == 64
    assert manifest["hyperparameters"] == {"lr": 1} and manifest["data_hashes"] == {} and manifest["test_reads"] == []
    assert yaml.safe_load(run.file("project.yaml").read_text()) == json.loads(json.dumps(project))


def test_each_reading_of_the_test_split_is_counted(tmp_path: Path):
    run = RunFolder.create(tmp_path / "a", project={}, verb="train")
    assert run.count_test_read(by="eval") == 1
    assert RunFolder.open(run.path).count_test_read(by="compare") == 2
    assert [read["by"] for read in run.manifest()["test_reads"]] == ["eval", "compare"]


def test_the_manifest_is_updated_field_by_field(tmp_path: Path):
    run = RunFolder.create(tmp_path / "a", project={}, verb="train")
    run.update_manifest(data_hashes={"train.jsonl": "ab"}, note="x")
    assert run.manifest()["data_hashes"] == {"train.jsonl": "ab"}
    assert run.manifest()["verb"] == "train"


def test_a_folder_with_a_run_is_not_overwritten(tmp_path: Path):
    RunFolder.create(tmp_path / "a", project={}, verb="train")
    with pytest.raises(ProjectError, match="already holds a run"):
        RunFolder.create(tmp_path / "a", project={}, verb="train")
    (tmp_path / "file").write_text("x")
    with pytest.raises(ProjectError, match="is a file"):
        RunFolder.create(tmp_path / "file", project={}, verb="train")


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(DataError, match="cannot be written: Not a directory"):
        RunFolder.create(tmp_path / "file" / "run", project={}, verb="train")
    with pytest.raises(DataError, match="File name too long"):
        RunFolder.create(tmp_path / ("x" * 300), project={}, verb="train")


def test_what_is_no_run_is_told_with_its_neighbours(tmp_path: Path):
    RunFolder.create(tmp_path / "train-1", project={}, verb="train")
    with pytest.raises(ProjectError, match=r"There is no .*train-2\.\n.*\nRuns beside it: train-1"):
        RunFolder.open(tmp_path / "train-2")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ProjectError, match="no manifest.json"):
        RunFolder.open(tmp_path / "empty")


def test_a_run_of_a_later_format_or_a_broken_one_is_refused(tmp_path: Path):
    run = RunFolder.create(tmp_path / "a", project={}, verb="train")
    run.update_manifest(format=2)
    with pytest.raises(ProjectError, match="has format 2"):
        RunFolder.open(run.path)
    run.write_text("manifest.json", "{")
    with pytest.raises(ProjectError, match="is not JSON"):
        RunFolder.open(run.path)
    with pytest.raises(ProjectError, match="has no plan.json"):
        run.read_json("plan.json")


def test_keys_of_the_environment_never_get_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    secret = "hf_0123456789abcdef"
    monkeypatch.setenv("HF_TOKEN", secret)
    monkeypatch.setattr("sys.argv", ["tunesmith", "train", f"model=https://user:{secret}@host/m"])
    run = RunFolder.create(tmp_path / "a", project={"model": f"https://{secret}@host"}, verb="train", note=[secret])
    run.update_manifest(more={"deep": secret})
    for path in run.path.rglob("*"):
        assert secret not in path.read_text()
    assert "[$HF_TOKEN]" in run.manifest()["command"]
