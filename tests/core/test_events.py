"""Events reach the journal and every listener."""

import time
from pathlib import Path

import pytest

from tunesmith.core.events import Events
from tunesmith.core.files import Journal


def test_an_event_is_written_then_heard(tmp_path: Path):
    journal = Journal(tmp_path / "events.jsonl")
    heard: list[dict] = []
    events = Events(journal, listeners=[heard.append])
    before = time.time()
    event = events.emit("step", step=1, loss=0.5)
    assert event | {"time": 0} == {"kind": "step", "time": 0, "step": 1, "loss": 0.5}
    assert before <= event["time"] <= time.time()
    assert heard == journal.read() == [event]


def test_without_a_journal_only_listeners_hear():
    heard: list[dict] = []
    Events(None, [heard.append]).emit("x")
    assert [event["kind"] for event in heard] == ["x"]


def test_a_listeners_error_is_not_hidden_and_the_event_is_kept(tmp_path: Path):
    journal = Journal(tmp_path / "events.jsonl")

    def broken(_event: dict) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        Events(journal, [broken]).emit("step")
    assert len(journal.read()) == 1
