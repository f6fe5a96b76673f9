"""An empty folder to work in, with no files of earlier tests on the shelves."""

from pathlib import Path

import pytest

from tunesmith.core.shelf import USE


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(USE, "{}")
    return tmp_path


@pytest.fixture
def mine(folder: Path) -> str:
    """A metric of the user's own that must not be run, and its path."""
    text = (
        '"""mine: a metric of my own.\n\nFor tests.\n\n나의 지표입니다.\n"""\nfrom dataclasses import dataclass\n'
        'raise SystemExit(\'was run\')\n@dataclass(frozen=True)\nclass Mine:\n    k: int = 3\n    """How many."""\n'
    )
    (folder / "metrics").mkdir()
    (folder / "metrics" / "mine.py").write_text(text, encoding="utf-8")
    return "metrics/mine.py"
