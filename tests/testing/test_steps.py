"""check_step passes every step of the shelf and catches each broken promise."""

from typing import Any

import pytest

from tunesmith.core.shelf import shelf, use
from tunesmith.testing import check_step

NEED_A_MODEL = {"perplexity"}  # tests/data/steps/test_perplexity.py gives it one


@pytest.mark.parametrize("name", sorted({*shelf("steps").names()} - NEED_A_MODEL))
def test_every_step_of_the_shelf_keeps_the_promises(name: str):
    check_step(shelf("steps").make(name))


GOOD = '''"""mine: drops long answers."""
from dataclasses import dataclass
from tunesmith.data.steps import Drop, said

@dataclass(frozen=True)
class Mine:
    most: int = 100
    """Most characters."""

    def apply(self, rows):
        for row in rows:
            yield {**row} if len(said(row)) <= self.most else Drop(row, "too long")
'''


def made(text: str, tmp_path, monkeypatch) -> Any:
    (tmp_path / "steps").mkdir()
    (tmp_path / "steps" / "mine.py").write_text(text)
    monkeypatch.setenv("TUNESMITH_USE", "{}")
    use(["steps/mine.py"], tmp_path)
    return shelf("steps").make("mine")


def test_a_good_one_passes(tmp_path, monkeypatch):
    check_step(made(GOOD, tmp_path, monkeypatch))


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (' else Drop(row, "too long")', " else None", "yields rows"),
        ('Drop(row, "too long")', 'Drop(row, " ")', "says why"),
        (
            "            yield {**row}",
            "            if 'word' in said(row): continue\n            yield {**row}",
            "lost in silence",
        ),
        ("            yield {**row}", "            yield row\n            yield {**row}", "from nowhere or twice"),
        ("            yield {**row}", "            row['x'] = 1\n            yield {**row}", "leaves the rows"),
        ("yield {**row}", "yield {**row, 'origin': 'made up'}", "from nowhere or twice"),
        ("yield {**row}", "yield {**row, 'n': __import__('random').random()}", "the same rows twice"),
        ("        for row in rows:", "        yield {'origin': 'a'}\n        for row in rows:", "no rows of no rows"),
    ],
)
def test_broken_promises_are_told(tmp_path, monkeypatch, old: str, new: str, said: str):
    with pytest.raises(AssertionError, match=said):
        check_step(made(GOOD.replace(old, new), tmp_path, monkeypatch))
