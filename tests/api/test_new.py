"""new writes a project file that says everything and changes nothing."""

import re
from pathlib import Path

import pytest

import tunesmith
from tunesmith.api.config import catalogue, resolve
from tunesmith.core.errors import ProjectError, SettingError
from tunesmith.core.project import parse_keys


def test_the_file_is_right_as_it_stands(folder: Path):
    tunesmith.new()
    Path("questions.jsonl").write_text("{}\n")
    assert tunesmith.check()["project"]["data"]["path"] == "questions.jsonl"


def test_uncommenting_everything_changes_nothing(folder: Path):
    tunesmith.new()
    before = resolve("tunesmith.yaml")[1]
    lines = Path("tunesmith.yaml").read_text(encoding="utf-8").splitlines()
    # a setting that is commented out stands behind "# ", an explanation behind "## "
    uncommented = [re.sub(r"^( *)# (\w+:.*)$", r"\1\2", line) for line in lines]
    Path("all.yaml").write_text("\n".join(uncommented))
    assert resolve("all.yaml")[1] == before
    for name in catalogue():
        section, _, last = name.rpartition(".")
        if section and catalogue()[section].value() is None:  # told beside a section that is not there unless asked for
            assert any(re.match(rf" *## {last}: ", line) for line in lines), name
            continue
        assert any(re.match(rf" *{last}:", line) for line in uncommented), name


def test_what_is_given_is_set_in_it(folder: Path):
    tunesmith.new(
        "a.yaml",
        **parse_keys(
            ["data=faq.csv", "data.prompt={{ q }}", "lr=1e-4", "metrics=[exact_match]", "adapter.lora.rank=16"]
        ),
    )
    project, filled, _ = resolve("a.yaml")
    assert (project.data.path, project.data.prompt, project.train.lr) == ("faq.csv", "{{ q }}", 1e-4)
    assert [*filled["metrics"][0]] == ["exact_match"] and filled["adapter"]["lora"]["rank"] == 16
    tunesmith.new("b.yaml", method="pretrain", seed=3)
    assert resolve("b.yaml")[0].seed == 3


def test_in_korean(folder: Path):
    tunesmith.new(lang="ko")
    text = Path("tunesmith.yaml").read_text(encoding="utf-8")
    assert "학습률의 최고값" in text and "Learning rate" not in text
    assert resolve()[0].lang == "ko"


def test_mistakes_write_nothing(folder: Path):
    with pytest.raises(SettingError, match="train.lr"):
        tunesmith.new(lrr=1)
    with pytest.raises(ProjectError, match=r"ends in \.yaml"):
        tunesmith.new("project.json")
    assert not [*folder.iterdir()]
    tunesmith.new()
    with pytest.raises(ProjectError, match="--force"):
        tunesmith.new()
    tunesmith.new(force=True)
