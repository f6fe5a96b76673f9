"""What every verb returns: a dict of facts, with the same told for people in `.text`.

>>> result = Result({"rows_in": 100}, text="100 rows")
>>> result["rows_in"], result.text
(100, '100 rows')

The command line prints `.text`, or with --json the dict.
"""

from collections.abc import Mapping
from typing import Any


class Result(dict[str, Any]):
    """Facts as a dict; `text` is what a person reads."""

    def __init__(self, fields: Mapping[str, Any] | None = None, /, *, text: str = "", **more: Any) -> None:
        super().__init__(fields or {}, **more)
        self.text = text

    def __str__(self) -> str:
        return self.text or super().__repr__()
