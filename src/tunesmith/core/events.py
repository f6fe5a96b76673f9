"""What happens in a run, told once and heard by many: the journal on disk, the progress line, optional loggers.

>>> events = Events(run.journal("events.jsonl"), listeners=[print])
>>> events.emit("step", step=1, loss=0.7)
{'kind': 'step', 'time': 1790000000.0, 'step': 1, 'loss': 0.7}
"""

import time
from collections.abc import Callable, Iterable
from typing import Any

from tunesmith.core.files import Journal

Listener = Callable[[dict[str, Any]], object]


class Events:
    """Writes each event to the journal (None = nowhere), then calls every listener with it."""

    def __init__(self, journal: Journal | None, listeners: Iterable[Listener] = ()) -> None:
        self.journal = journal
        self.listeners = list(listeners)

    def emit(self, kind: str, **fields: Any) -> dict[str, Any]:
        """Tell one event; `time` (seconds since 1970) is added. Returns it. A listener's error is not hidden."""
        event = {"kind": kind, "time": time.time(), **fields}
        if self.journal is not None:
            self.journal.append(event)
        for listener in self.listeners:
            listener(event)
        return event
