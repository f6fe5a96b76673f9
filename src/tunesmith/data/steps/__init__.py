"""Floor 2: the shelf of data steps. One file is one step; its name is the word under `data.steps`.

A step is a frozen dataclass with

    def apply(self, rows: Iterable[Row]) -> Iterator[Row | Dropped]

It yields each row it keeps (changed or not, perhaps more than one of it) and Dropped(row, reason) for each it does not.
Rows stream: a step that must see all of them first keeps only what it needs (hashes, not texts).
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

Row = dict[str, Any]


@dataclass(frozen=True)
class Dropped:
    """A row that a step leaves out. `reason` is a few words, the same for all rows left out for it; `detail` is about this one."""

    row: Row
    reason: str
    detail: str = ""


def apply_steps(steps: Sequence[Any], rows: Iterable[Row], on_drop: Callable[[dict[str, Any]], None]) -> Iterator[Row]:
    """Rows through all steps in order; `on_drop` gets {"origin", "reason", "detail", "row"} of each row left out on the way."""
    for step in steps:
        rows = _kept(step.apply(rows), on_drop)
    return iter(rows)


def _kept(found: Iterable[Row | Dropped], on_drop: Callable[[dict[str, Any]], None]) -> Iterator[Row]:
    for one in found:
        if isinstance(one, Dropped):
            row = one.row
            on_drop({"origin": row.get("origin", ""), "reason": one.reason, "detail": one.detail, "row": row})
        else:
            yield one
