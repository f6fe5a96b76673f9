"""New on a shelf? One file, one test: every built-in item of the shelves has a test file of its own name."""

from pathlib import Path

import pytest

from tunesmith.core.shelf import shelves

TESTS = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize("shelf", shelves(), ids=lambda shelf: shelf.name)
def test_every_item_of_a_shelf_has_a_test_file(shelf):
    folder = TESTS / shelf.kind.folder
    built_in = [item.name for item in shelf.items().values() if item.origin == "built in"]
    assert [name for name in built_in if not (folder / f"test_{name}.py").exists()] == []
