from dataclasses import dataclass

import pytest

from tunesmith.core.errors import DataError
from tunesmith.data.steps import Drop, run_steps, said

ROWS = [{"text": str(i), "origin": f"a:{i}"} for i in range(6)]


@dataclass(frozen=True)
class Odd:
    def apply(self, rows):
        for row in rows:
            yield row if int(row["text"]) % 2 else Drop(row, "even")


@dataclass(frozen=True)
class Asks:
    needs = ("ask",)

    def apply(self, rows, ask):
        for row in rows:
            yield {**row, "text": ask(row["text"])}


def test_steps_follow_each_other_and_drops_are_told():
    drops = []
    rows = run_steps(
        ROWS,
        [("odd", Odd()), ("asks", Asks())],
        lambda name, drop: drops.append((name, drop)),
        {"ask": lambda x: x * 2},
    )
    assert [row["text"] for row in rows] == ["11", "33", "55"]
    assert [(name, drop.row["origin"], drop.reason) for name, drop in drops] == [
        ("odd", f"a:{i}", "even") for i in (0, 2, 4)
    ]


def test_rows_are_streamed():
    taken = []

    def source():
        for row in ROWS:
            taken.append(row)
            yield row

    stream = run_steps(source(), [("odd", Odd())], lambda *_: None)
    next(stream)
    assert len(taken) == 2


@dataclass(frozen=True)
class Loses:
    def apply(self, rows):
        for row in rows:
            if row["text"] != "3":
                yield row


@dataclass(frozen=True)
class Strays:
    def apply(self, rows):
        for row in rows:
            yield row["text"]


@pytest.mark.parametrize(
    ("step", "says"),
    [(Loses(), "took 6 rows and gave 5"), (Strays(), "gave str"), (Asks(), 'needs "ask", which nothing here provides')],
)
def test_a_step_that_breaks_its_promise_is_named(step, says):
    with pytest.raises(DataError, match=f"mine {says}"):
        list(run_steps(ROWS, [("mine", step)], lambda *_: None))


def test_said():
    row = {
        "messages": [
            {"role": "system", "content": "s"},
            {"role": "user", "content": "q"},
            {"role": "assistant", "content": "a"},
        ]
    }
    assert (said(row), said(row, "prompt"), said(row, "answer")) == ("s\nq\na", "s\nq", "a")
    assert said({"text": "t"}, "prompt") == "t"
