"""check_metric: does a metric keep what evaluation relies on?

>>> check_metric(ExactMatch())
"""

import copy
import json
import math
import random
from collections.abc import Mapping, Sequence
from typing import Any

from tunesmith.core.errors import UserError
from tunesmith.core.files import to_json
from tunesmith.testing.items import check_item, holds

ROWS = (
    {
        "id": "1",
        "origin": "rows.jsonl:1",
        "answer": "Seoul",
        "messages": [{"role": "user", "content": "Capital of Korea?"}],
    },
    {
        "id": "2",
        "origin": "rows.jsonl:2",
        "answer": "부산은 항구 도시다.",
        "messages": [{"role": "user", "content": "부산?"}],
    },
    {"id": "3", "origin": "rows.jsonl:3", "answer": "yes", "messages": [{"role": "user", "content": "Is water wet?"}]},
    {"id": "4", "origin": "rows.jsonl:4", "answer": "a b c d e f", "messages": [{"role": "user", "content": "Spell."}]},
)
# What models really answer: nothing, noise, broken JSON, half letters, far too much.
ODD = ("", " \n\t", "{", '{"a": [1, 2', "```json\n{}\n```", "👩‍👩‍👧 \u202e\u0000", "\ud55c\u1100\u1161", "word " * 3000)


def check_metric(metric: Any, rows: Sequence[Mapping[str, Any]] = ROWS, right: Sequence[str] | None = None) -> None:
    """Raise AssertionError when a promise of the shelf is broken.

    rows    rows the metric can score (default: four plain ones with an "answer")
    right   the best prediction for each row; None = its answer

    Checked: it is an item of a shelf (see items.py); scores are repeatable, leave the row alone, are numbers or dicts with
    a "score", and survive the eval file (JSON); any prediction can be scored; the right one is never beaten; the summary
    has n, an interval around its value, does not depend on the order of rows, and refuses to speak of no rows.
    """
    check_item(metric)
    name = type(metric).__name__
    best = [str(row["answer"]) for row in rows] if right is None else list(right)
    values = []
    for row, prediction in zip(rows, best):
        before = copy.deepcopy(row)
        value = metric.score(prediction, row)
        holds(
            _number(value) is not None,
            f"{name}.score gives a number or a dict with a number under score, not {value!r}",
        )
        holds(row == before, f"{name}.score leaves the row as it was")
        again = metric.score(prediction, row)
        holds(_stored(again) == _stored(value), f"{name}.score gives the same twice: {value!r}, {again!r}")
        values.append(value)
    summary = metric.summary(values)
    holds(summary.better in ("higher", "lower"), f"{name}.summary says which way is better: higher or lower")
    for row, value in zip(rows, values):
        for prediction in ODD:
            odd = metric.score(prediction, row)
            holds(_number(odd) is not None, f"{name}.score of {prediction[:20]!r} is a number, not {odd!r}")
            wins = _number(value) >= _number(odd) if summary.better == "higher" else _number(value) <= _number(odd)
            holds(wins, f"{name}: the right answer scores {value!r}, never worse than {odd!r} for {prediction[:20]!r}")
    mixed = [*values, *(metric.score(ODD[i % len(ODD)], row) for i, row in enumerate(rows))]
    for some in (values, mixed, values[:1]):
        _check_summary(metric, name, some)
    try:
        metric.summary([])
    except UserError:
        pass
    else:
        raise AssertionError(f"does not hold: {name}.summary([]) raises a UserError: a score of no rows is no score")


def _check_summary(metric: Any, name: str, values: Sequence[Any]) -> None:
    summary = metric.summary(values)
    holds(summary.n >= 1, f"{name}.summary says on how many rows it rests, not {summary.n}")
    holds(
        summary.low <= summary.value <= summary.high,
        f"{name}.summary: the value {summary.value} lies in its interval {summary.low}..{summary.high}",
    )
    shuffled = random.Random(0).sample(list(values), len(values))
    other = metric.summary(shuffled)
    holds(
        math.isclose(other.value, summary.value, rel_tol=1e-9, abs_tol=1e-12),
        f"{name}.summary does not depend on the order of rows",
    )
    stored = metric.summary([_stored(value) for value in values])
    holds(
        stored.value == summary.value, f"{name}.summary is the same from the values as the eval file holds them (JSON)"
    )
    to_json(summary.extra)


def _number(value: Any) -> Any:
    number = value.get("score") if isinstance(value, Mapping) else value
    if isinstance(number, bool) or not isinstance(number, int | float) or math.isnan(number):
        return None
    return number


def _stored(value: Any) -> Any:
    return json.loads(to_json(value))
