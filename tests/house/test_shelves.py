"""New on a shelf? One file, one test: every item of the four shelves has a test file of its own name."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SHELVES = ("metrics", "data/steps", "adapters", "objectives")


def items(shelf: str) -> list[str]:
    """Names on a shelf: files that define the class of their own name in CamelCase (exact_match -> ExactMatch)."""
    names = []
    for file in sorted((ROOT / "src" / "tunesmith" / shelf).glob("*.py")):
        wanted = "".join(word.capitalize() for word in file.stem.split("_"))
        tree = ast.parse(file.read_text(encoding="utf-8"))
        if any(isinstance(node, ast.ClassDef) and node.name == wanted for node in tree.body):
            names.append(file.stem)
    return names


@pytest.mark.parametrize("shelf", SHELVES)
def test_every_item_of_a_shelf_has_a_test_file(shelf: str):
    missing = [name for name in items(shelf) if not (ROOT / "tests" / shelf / f"test_{name}.py").exists()]
    assert missing == []
