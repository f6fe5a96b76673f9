"""What holds for every item of every shelf: settings that are plain, documented values."""

import dataclasses
import inspect
import pickle
from pathlib import Path
from typing import Any

from tunesmith.core import source
from tunesmith.core.fill import describe


def check_item(item: Any) -> None:
    """The item is a frozen dataclass, is explained, each setting has a sentence, and it reaches a worker process (pickle)."""
    kind = type(item)
    name = kind.__name__
    holds(dataclasses.is_dataclass(item), f"{name} is a dataclass: its fields are its settings")
    holds(kind.__dataclass_params__.frozen, f"{name} is frozen: @dataclass(frozen=True)")
    path = Path(inspect.getfile(kind))
    holds(source.class_for(path) == name, f"the file of {name} is called like the class, not {path.name}")
    holds(bool(source.first_line(path)), f"the first line of {path.name} says what {name} is")
    for field in describe(kind):
        holds(bool(field.doc), f'the setting "{field.name}" of {name} has a sentence under it')
    holds(pickle.loads(pickle.dumps(item)) == item, f"{name} is the same after pickling")


def holds(true: bool, promise: str) -> None:
    """Raise AssertionError that the promise does not hold."""
    if not true:
        raise AssertionError(f"does not hold: {promise}")
