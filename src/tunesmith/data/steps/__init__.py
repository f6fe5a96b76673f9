"""The shelf of data steps: each takes rows and gives rows, and drops with the reason. One file is one step.

A step of your own is a file in a folder named steps, say steps/no_links.py, and `use: [steps/no_links.py]` in the project:

    from dataclasses import dataclass
    from tunesmith.data.steps import Drop, said

    @dataclass(frozen=True)
    class NoLinks:
        most: int = 0
        "How many links a row may hold."

        def apply(self, rows):
            for row in rows:
                yield row if said(row).count("http") <= self.most else Drop(row, "too many links")

The rules: for every row in, one row (the same or a changed copy, its origin kept) or one Drop out, in any order; rows are
streamed, so keep nothing of them but a few bytes. `needs = ("ask",)` names functions from above, which `apply` then gets
as keywords. Rows that have gone in and not come out are an error: nothing is lost in silence.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from tunesmith.core.errors import DataError
from tunesmith.data.kinds import pieces
from tunesmith.data.rows import Row


@dataclass(frozen=True)
class Drop:
    """A row that is left out. Rows are counted by `reason`, a few words; `detail` says more about this one."""

    row: Row
    reason: str
    detail: str = ""


class Step(Protocol):
    """What stands on the shelf: a frozen dataclass whose fields are its settings."""

    def apply(self, rows: Iterator[Row], **helpers: Any) -> Iterable[Row | Drop]: ...


def said(row: Row, part: str = "all") -> str:
    """What a row says, for steps that look at its text. part: all | prompt | answer (of raw text all are the text).

    >>> said({"messages": [{"role": "user", "content": "왜?"}, {"role": "assistant", "content": "그냥"}]}, "answer")
    '그냥'
    """
    return "\n".join(piece.text for piece in pieces(row) if part == "all" or piece.part in (part, "text"))


def run_steps(
    rows: Iterable[Row],
    steps: Iterable[tuple[str, Step]],
    on_drop: Callable[[str, Drop], None],
    helpers: Mapping[str, Any] | None = None,
) -> Iterator[Row]:
    """Rows through steps (name, step), one after the other, streamed; drops go to `on_drop(name, drop)`.

    Raises DataError when a step loses or adds rows, or gives something that is neither.
    """
    stream = iter(rows)
    for name, step in steps:
        stream = _watched(name, step, stream, on_drop, helpers or {})
    yield from stream


def _watched(
    name: str, step: Step, rows: Iterator[Row], on_drop: Callable[[str, Drop], None], helpers: Mapping[str, Any]
) -> Iterator[Row]:
    taken = given = 0

    def counted() -> Iterator[Row]:
        nonlocal taken
        for row in rows:
            taken += 1
            yield row

    needed = {}
    for need in getattr(step, "needs", ()):
        if need not in helpers:
            raise DataError(f'The step {name} needs "{need}", which nothing here provides.', fix=f"Leave {name} out.")
        needed[need] = helpers[need]
    for result in step.apply(counted(), **needed):
        given += 1
        if isinstance(result, Drop):
            on_drop(name, result)
        elif isinstance(result, dict) and "origin" in result:
            yield result
        else:
            raise DataError(
                f"The step {name} gave {type(result).__name__}.", wanted="A row with its origin, or a Drop."
            )
    if taken != given:
        raise DataError(
            f"The step {name} took {taken:,} rows and gave {given:,} (rows and drops).",
            wanted="As many as it took.",
            fix="Yield Drop(row, reason) for each row left out.",
        )
