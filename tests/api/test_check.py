"""check resolves every name, runs nothing and touches nothing."""

from pathlib import Path

import pytest

import tunesmith
from tunesmith.core.errors import DataError, ModelError, ProjectError, SettingError
from tunesmith.model.load import NAMES


def snapshot(folder: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in folder.rglob("*")}


def test_a_right_project_is_told_in_full_and_left_alone(folder: Path, mine: str):
    Path("faq.jsonl").write_text("{}\n")
    Path("tunesmith.yaml").write_text(
        f"data: faq.jsonl\nuse: [{mine}]\nmetrics: [exact_match, mine]\ndata.steps: 1\n".replace("data.steps: 1\n", "")
    )
    before = snapshot(folder)
    result = tunesmith.check()
    assert snapshot(folder) == before
    assert result["data"] == ["faq.jsonl"] and result["base"] == "embedded" and result["root"] == str(folder)
    assert list(result["use"]) == [mine] and len(result["use"][mine]) == 64
    assert "All settings and names are right." in result.text and "mine (k=3)" in result.text


@pytest.mark.parametrize(
    ("keys", "error", "said"),
    [
        ({"data": "fqa.jsonl"}, DataError, "there is no fqa.jsonl in .*\nDid you mean: faq.jsonl"),
        ({"data": "parts/*.jsonl"}, DataError, "The pattern matches no file"),
        ({"data": {"path": "faq.jsonl", "test": "tset.jsonl"}}, DataError, "data.test: there is no tset.jsonl"),
        ({"model": "./basemodel"}, ModelError, "Did you mean: base-model"),
        ({"model": "mnii"}, ModelError, "Did you mean: mini"),
        ({"model": "mini-encodr"}, ModelError, "Did you mean: mini-encoder"),
        ({"model": "a/b/c"}, ModelError, "there is no folder a/b/c"),
        ({"model": "what is this?"}, ModelError, "there is no folder"),
        ({"metrics": ["nothing_like_it"]}, SettingError, "There are: accuracy"),
    ],
)
def test_what_points_nowhere_is_told(folder: Path, keys: dict, error: type, said: str):
    Path("faq.jsonl").write_text("{}\n")
    Path("base-model").mkdir()
    with pytest.raises(error, match=said):
        tunesmith.check({}, **keys)


def test_names_of_models(folder: Path):
    Path("base").mkdir()
    assert tunesmith.check({}, model="base")["base"] == "folder"
    assert tunesmith.check({}, model="pico")["base"] == "embedded"
    assert {tunesmith.check({}, model=name)["base"] for name in NAMES} == {"embedded"}
    assert (
        tunesmith.check({}, model="Qwen/Qwen3-0.6B")["base"]
        == tunesmith.check({}, model="gpt2")["base"]
        == tunesmith.check({}, model="t5-small")["base"]
        == "Hugging Face hub"
    )


def test_a_pattern_of_files_and_data_in_memory(folder: Path):
    Path("parts").mkdir()
    Path("parts/a.jsonl").write_text("{}")
    assert tunesmith.check({}, data="parts/*.jsonl")["data"] == ["parts/*.jsonl"]
    assert tunesmith.check({}, data=[{"text": "a"}])["data"] == ["(in memory)"]


def test_keys_twice_in_the_file_are_told_with_both_lines(folder: Path):
    Path("tunesmith.yaml").write_text("model: mini\nseed: 1\nmodel: pico\n")
    with pytest.raises(
        ProjectError, match=r"tunesmith.yaml:3: \"model\" is repeated \(first on line 1, again on line 3\)"
    ):
        tunesmith.check()
