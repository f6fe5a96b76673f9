"""check_step: does a data step keep what the data report relies on?

>>> check_step(MyStep(), rows)
"""

import copy
from collections import Counter
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


def check_step(step: Any, rows: Sequence[Mapping[str, Any]] = ROWS, **helpers: Any) -> None:
    """Raise AssertionError when a promise of the shelf is broken.

    rows      rows the step can read (default: five chats, one of them twice, one with an empty question, one long)
    helpers   the functions the step `needs`, such as ask=...

    Checked: it is an item of a shelf (see items.py); for every row one row or one Drop with a reason comes out, with its
    origin; the rows handed in are left alone; the same rows give the same twice; no rows give no rows.
    """
    check_item(step)
    name = type(step).__name__
    given = copy.deepcopy(list(rows))
    found = list(step.apply(iter(given), **helpers))
    holds(given == list(rows), f"{name} leaves the rows it is given as they were: it yields changed copies")
    again = list(step.apply(iter(copy.deepcopy(list(rows))), **helpers))
    holds(again == found, f"{name} gives the same rows twice")
    holds(list(step.apply(iter(()), **helpers)) == [], f"{name} makes no rows of no rows")
    came_out: Counter[Any] = Counter()
    for one in found:
        holds(isinstance(one, dict | Drop), f"{name} yields rows (dicts) or Drop, not {one!r}")
        if isinstance(one, Drop):
            holds(bool(one.reason.strip()), f"{name} says why it drops a row")
        came_out[(one.row if isinstance(one, Drop) else one).get("origin")] += 1
    went_in = Counter(row["origin"] for row in rows)
    holds(
        not came_out - went_in,
        f"{name} gives one row or Drop for each row; from nowhere or twice: {[*(came_out - went_in)]}",
    )
    holds(
        not went_in - came_out, f"{name} gives one row or Drop for each row; lost in silence: {[*(went_in - came_out)]}"
    )
