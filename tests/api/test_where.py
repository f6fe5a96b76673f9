"""where prints the file and line."""

from pathlib import Path

import pytest

import tunesmith
from tunesmith.core.errors import SettingError


@pytest.mark.parametrize(
    ("name", "ends", "line"),
    [
        ("exact_match", "metrics/exact_match.py", "class ExactMatch:"),
        ("metrics/exact_match", "metrics/exact_match.py", "class ExactMatch:"),
        ("sft", "objectives/sft.py", "class Sft:"),
        ("dedup", "data/steps/dedup.py", "class Dedup:"),
        ("train.lr", "train/settings.py", "    lr: float | None = None"),
        ("temperature", "model/settings.py", "    temperature: float = 0.0"),
        ("seed", "api/config.py", "    seed: int = 0"),
        ("where", "api/where.py", "def where("),
    ],
)
def test_the_line_is_the_one_that_says_it(folder: Path, name: str, ends: str, line: str):
    found = tunesmith.where(name)["found"][0]
    assert found["file"].endswith(ends)
    assert Path(found["file"]).read_text(encoding="utf-8").splitlines()[found["line"] - 1].startswith(line)


def test_one_place_is_one_line_of_text_and_several_say_which(folder: Path):
    result = tunesmith.where("exact_match")
    assert result.text == f"{result['found'][0]['file']}:{result['found'][0]['line']}"
    assert [found["kind"] for found in tunesmith.where("seed")["found"]] == [
        "setting seed",
        "setting data.seed",
        "setting generate.seed",
    ]


def test_ones_own_and_the_unknown(folder: Path, mine: str):
    Path("tunesmith.yaml").write_text(f"use: [{mine}]\n")
    assert tunesmith.where("mine")["found"] == [{"kind": "metrics", "file": str(folder / mine), "line": 10}]
    with pytest.raises(SettingError, match="Did you mean: exact_match"):
        tunesmith.where("exactmatch")
    with pytest.raises(SettingError, match="There is no shelf"):
        tunesmith.where("things/exact_match")
