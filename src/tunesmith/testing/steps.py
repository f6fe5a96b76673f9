"""check_step: does a data step keep what the data report relies on?

>>> check_step(MyStep(), rows)
"""

import copy
from collections.abc import Mapping, Sequence
from typing import Any

from tunesmith.core.files import hash_json
from tunesmith.data.steps import Drop
from tunesmith.testing.items import check_item, holds


def _chat(number: int, question: str, answer: str) -> dict[str, Any]:
    messages = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return {"messages": messages, "origin": f"rows.jsonl:{number}", "id": hash_json(messages)[:16]}


ROWS = (
    _chat(1, "Capital of Korea?", "Seoul"),
    _chat(2, "부산은 어디에 있나요?", "남동쪽 바닷가에 있습니다."),
    _chat(3, "Capital of Korea?", "Seoul"),
    _chat(4, "", "An answer to nothing."),
    _chat(5, "Say it long.", "word " * 2000),
)


def check_step(step: Any, rows: Sequence[Mapping[str, Any]] = ROWS) -> None:
    """Raise AssertionError when a promise of the shelf is broken.

    Checked: it is an item of a shelf (see items.py); every row comes out or is dropped with a reason, none appears from
    nowhere; the rows handed in are left alone; the same rows give the same twice; no rows give no rows; what comes out
    still has its origin.
    """
    check_item(step)
    name = type(step).__name__
    given = copy.deepcopy(list(rows))
    found = list(step.apply(iter(given)))
    holds(given == list(rows), f"{name} leaves the rows it is given as they were: it yields changed copies")
    again = list(step.apply(iter(copy.deepcopy(list(rows)))))
    holds(again == found, f"{name} gives the same rows twice")
    holds(list(step.apply(iter(()))) == [], f"{name} makes no rows of no rows")
    origins = {row["origin"] for row in rows}
    seen = set()
    for one in found:
        if isinstance(one, Drop):
            holds(bool(one.reason.strip()), f"{name} says why it drops a row")
            row: Any = one.row
        else:
            row = one
            holds(isinstance(row, dict), f"{name} yields rows (dicts) or Drop, not {row!r}")
        holds(row.get("origin") in origins, f"{name} keeps the origin of rows: {row.get('origin')!r} is none that was given")
        seen.add(row["origin"])
    holds(seen == origins, f"{name} yields or drops every row; lost in silence: {sorted(origins - seen)}")
