"""The page on correctness names tests that exist: nobody can claim a check that is not there."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "correctness.md"


def test_every_test_named_on_the_correctness_page_exists():
    lost = []
    for file, name in re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", PAGE.read_text(encoding="utf-8")):
        path = ROOT / file
        functions = {
            node.name
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")) if path.exists() else ast.Module([], []))
            if isinstance(node, ast.FunctionDef)
        }
        if name not in functions:
            lost.append(f"{file}::{name}")
    assert lost == []


def test_every_row_of_the_page_names_a_test():
    rows = [
        line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| ") and "|---" not in line
    ]
    rows = [row for row in rows if not row.startswith("| trap ")]
    assert len(rows) > 5
    assert [row for row in rows if "`tests/" not in row] == []
