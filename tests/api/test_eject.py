"""eject copies an item out; the copy takes the built-in's place."""

from pathlib import Path

import pytest

import tunesmith
from tunesmith.core.errors import ProjectError, SettingError
from tunesmith.core.shelf import shelf, use


@pytest.mark.parametrize("name", ["exact_match", "dedup", "sft"])
def test_the_copy_works_in_place_of_the_built_in(folder: Path, name: str):
    result = tunesmith.eject(name)
    target = folder / result["use"]
    assert target.read_bytes() == Path(result["source"]).read_bytes()
    assert f"use: [{result['use']}]" in result.text
    use([result["use"]], folder)
    made = shelf(result["shelf"]).make(name)
    assert type(made).__module__.startswith("tunesmith.core.user.")
    use([], folder)
    assert type(shelf(result["shelf"]).make(name)) is not type(made)


def test_a_copy_is_not_written_over_unless_forced(folder: Path):
    tunesmith.eject("exact_match", folder="project")
    copy = folder / "project" / "metrics" / "exact_match.py"
    copy.write_text("changed")
    with pytest.raises(ProjectError, match="--force"):
        tunesmith.eject("exact_match", folder="project")
    assert copy.read_text() == "changed"
    tunesmith.eject("exact_match", folder="project", force=True)
    assert "class ExactMatch" in copy.read_text()


def test_the_unknown_is_told(folder: Path):
    with pytest.raises(SettingError, match="Did you mean: exact_match"):
        tunesmith.eject("exact_mtch")
