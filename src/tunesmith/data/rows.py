"""Rows on disk: JSONL files of canonical rows, opened by number without reading them into memory.

>>> write_rows("data/train.jsonl", [{"text": "hello", "origin": "faq.jsonl:1"}])
1
>>> RowFile("data/train.jsonl")[0]["text"]
'hello'

A canonical row is a dict. Every row has `origin` ("faq.jsonl:812") and `id` (of its content: equal rows, equal ids), and is one of

    chat        {"messages": [{"role", "content", and perhaps "train", "weight", "tool_calls", "name"}], "tools": [...]?}
    text        {"text"}
    text+label  {"text", "label", "text2"?}                                  a list of labels where a row has several
    preference  {"messages": [the prompt's turns], "chosen": [messages after them], "rejected": [messages], "margin"?}
    rated       {"messages": [the prompt's turns and the answer], "label": true | false}
    scored      {"messages": [the prompt's turns], "answers": [{"content", "score"}, ...]}
    prompt      {"messages": [the prompt's turns], "answer"?: the reference}
    infill      {"prefix", "middle", "suffix"}
    pair        {"text", "text2", "score"?, "negatives"?: [texts]}
    group       {"texts": [...], "group"?}

The assistant's turns of a prompt carry "train": false. With a weight column, rows without a conversation have "weight".
Columns of the source that the shape does not use are kept under "columns".
"""

import json
import mmap
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from tunesmith.core.files import writing

Row = dict[str, Any]
_BLOCK = 1 << 18


class RowFile:
    """A JSONL file as a sequence of dicts. In memory: nothing a row until one is asked for by its number, then 8 bytes (where it
    starts). Can be pickled."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._num = _num_lines(self.path)

    def __len__(self) -> int:
        return self._num

    @cached_property
    def _starts(self) -> np.ndarray:
        return _line_starts(self.path)

    @cached_property
    def _bytes(self) -> mmap.mmap:
        with open(self.path, "rb") as file:
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)

    def __getitem__(self, index: int) -> Row:
        number = index + len(self) if index < 0 else index
        if not 0 <= number < len(self):
            raise IndexError(f"row {index} of {len(self)} in {self.path.name}")
        return json.loads(self._bytes[self._starts[number] : self._starts[number + 1]])

    def __iter__(self) -> Iterator[Row]:
        # Not over the map: pages read once through it would stay counted as this process's memory.
        with open(self.path, "rb") as file:
            for text in file:
                yield json.loads(text)

    def __reduce__(self) -> tuple[Callable[[str], "RowFile"], tuple[str]]:
        return RowFile, (str(self.path),)


def write_rows(path: str | os.PathLike[str], rows: Iterable[Mapping[str, Any]]) -> int:
    """Write rows as they come, one JSON object a line; the file appears only when it is whole. Returns their number."""
    number = 0
    with writing(Path(path)) as file:
        for row in rows:
            file.write(line(row))
            number += 1
    return number


def line(row: Mapping[str, Any]) -> bytes:
    """A row as its line in a JSONL file: UTF-8, not escaped, no NaN."""
    return json.dumps(row, ensure_ascii=False, allow_nan=False).encode() + b"\n"


def _num_lines(path: Path) -> int:
    """Lines of a file; the last one counts without its newline too."""
    number, last = 0, b"\n"
    with open(path, "rb") as file:
        while block := file.read(_BLOCK):
            number += block.count(b"\n")
            last = block[-1:]
    return number + (last != b"\n")


def _line_starts(path: Path) -> np.ndarray:
    """int64, shape (lines + 1,): where each line starts, and the end of the last."""
    size = path.stat().st_size
    with open(path, "rb") as file:
        num_lines = sum(block.count(b"\n") for block in iter(lambda: file.read(_BLOCK), b""))
        file.seek(max(size - 1, 0))
        unfinished = size > 0 and file.read(1) != b"\n"
        starts = np.zeros(num_lines + unfinished + 1, np.int64)
        file.seek(0)
        at = offset = 0
        for block in iter(lambda: file.read(_BLOCK), b""):
            found = np.flatnonzero(np.frombuffer(block, np.uint8) == 10)
            starts[at + 1 : at + 1 + len(found)] = found + offset + 1
            at, offset = at + len(found), offset + len(block)
    starts[-1] = size
    return starts
