"""list shows the shelves, their first lines, and whose they are."""

from pathlib import Path

import pytest

import tunesmith
from tunesmith.core.errors import SettingError
from tunesmith.core.shelf import shelves


def test_all_shelves(folder: Path):
    result = tunesmith.list()
    assert {name: [*items] for name, items in result.items()} == {one.name: one.names() for one in shelves()}
    for items in result.values():
        for name, item in items.items():
            assert item["doc"], f"{name} has no first line"
            assert item["doc"] in result.text
    assert [*tunesmith.list("metrics")] == ["metrics"]
    with pytest.raises(SettingError, match="Did you mean: metrics"):
        tunesmith.list("metrcis")


def test_ones_own_are_shown_and_not_run(folder: Path, mine: str):
    Path("other.yaml").write_text(f"use: [{mine}]\n")
    assert "mine" not in tunesmith.list()["metrics"]
    result = tunesmith.list("metrics", project="other.yaml")
    assert result["metrics"]["mine"] == {"doc": "a metric of my own.", "origin": "yours"}
    assert "a metric of my own.  [yours]" in result.text
