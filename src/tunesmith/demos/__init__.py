"""Floor 7: small demonstrations that `tunesmith explain` runs - number formats, attention, positions, norms, one training step.

Each file is one: its docstring is the explanation, `show(...)` computes what is printed below it.
"""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Shown:
    """What a demonstration found: text for people, facts for JSON, and a picture (SVG) where there is one."""

    text: str
    facts: dict[str, Any] = field(default_factory=dict)
    svg: str = ""


def table(head: list[str], rows: list[list[str]]) -> str:
    """Columns side by side; the first is left-aligned, the others right-aligned. Korean letters are two wide."""
    widths = [max(width(row[place]) for row in [head, *rows]) for place in range(len(head))]
    return "\n".join(
        "  ".join(_cell(cell, size, left=not place) for place, (cell, size) in enumerate(zip(row, widths))).rstrip()
        for row in [head, *rows]
    )


def width(text: str) -> int:
    """Columns of a terminal that a text takes.

    >>> width("ab가")
    4
    """
    import unicodedata

    return sum(
        2 if unicodedata.east_asian_width(letter) in "WF" else 0 if unicodedata.combining(letter) else 1
        for letter in text
    )


def _cell(text: str, size: int, *, left: bool) -> str:
    space = " " * (size - width(text))
    return text + space if left else space + text
