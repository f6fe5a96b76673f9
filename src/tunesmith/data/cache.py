"""Tokenised rows on disk: Units in flat files, read one at a time, so memory stays flat in the number of rows.

>>> UnitCache.write("run/cache/train", units, key="hash of tokenizer and settings")    # streams: one Unit in memory
>>> cache = UnitCache.open("run/cache/train", key="hash of tokenizer and settings")    # None when made for another key
>>> cache[17].examples[0].ids, cache.lengths[17], cache.num_trained[17]

A cache is a folder of flat arrays, little-endian, one file each:

    ids int32, weights float32         all tokens of all Examples, one after the other
    examples int64                     Example i is tokens examples[i]:examples[i + 1]
    units int64                        Unit i is Examples units[i]:units[i + 1]
    lengths, trained, shared int32     per Unit: tokens (shared prompt once), tokens trained on, shared prompt
    facts, facts_at                    per Unit: origin and Unit columns as JSON, and where its line starts
    column_N, column_N_at              named Example columns: values, and where each Example's start (-1: it has none)
    meta.json                          format, key, counts, the columns' names; written last
"""

import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from tunesmith.core.files import explain_os_error
from tunesmith.text.example import Example, Unit

FORMAT = 1
_TYPES = {
    "ids": "<i4",
    "weights": "<f4",
    "examples": "<i8",
    "units": "<i8",
    "lengths": "<i4",
    "trained": "<i4",
    "shared": "<i4",
    "facts_at": "<i8",
}
_BUFFER = 1 << 16


class UnitCache:
    """A sequence of Units on disk: `len`, `[i]`, iteration; can be pickled and shared by workers (read-only).

    lengths      int32, shape (units,): tokens of each Unit in memory, its shared prompt counted once; read anew when asked for
    num_trained  int32, shape (units,): tokens of each Unit that are trained on; likewise
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.meta: dict[str, Any] = json.loads((self.path / "meta.json").read_text("utf-8"))
        if self.meta["format"] != FORMAT:
            raise ValueError(f"{self.path} has cache format {self.meta['format']}, this version reads {FORMAT}")
        self._ids, self._weights, self._examples, self._units, self._shared, self._facts_at = (
            _flat(self.path / name, _TYPES[name])
            for name in ("ids", "weights", "examples", "units", "shared", "facts_at")
        )
        self._facts = _flat(self.path / "facts", "u1")
        self._columns = [
            (
                column["name"],
                column["per"],
                column["integer"],
                _flat(self.path / f"column_{number}", column["dtype"]),
                _flat(self.path / f"column_{number}_at", "<i8"),
            )
            for number, column in enumerate(self.meta["columns"])
        ]

    @staticmethod
    def open(path: str | os.PathLike[str], key: str | None = None) -> "UnitCache | None":
        """The cache at `path`, or None when there is none, or (with `key`) when it was made for another key."""
        if not (Path(path) / "meta.json").is_file():
            return None
        cache = UnitCache(path)
        return cache if key is None or cache.meta["key"] == key else None

    @staticmethod
    def write(path: str | os.PathLike[str], units: Iterable[Unit], *, key: str = "") -> "UnitCache":
        """Write Units as they come; the folder appears under its name only when it is whole, replacing an older one.

        Raises ValueError when a column is per token in one Example and a number in another, or changes its type.
        """
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        making = target.with_name(f".{target.name}.{os.getpid()}")
        shutil.rmtree(making, ignore_errors=True)
        making.mkdir()
        try:
            with ExitStack() as stack:

                def opened(name: str) -> BinaryIO:
                    return stack.enter_context(open(making / name, "wb", buffering=_BUFFER))

                meta = _write(opened, units)
            (making / "meta.json").write_text(json.dumps({"format": FORMAT, "key": key, **meta}), "utf-8")
            if target.exists():
                old = target.with_name(f".{target.name}.{os.getpid()}.old")
                target.rename(old)
                making.rename(target)
                shutil.rmtree(old)
            else:
                making.rename(target)
        except OSError as error:
            explained = explain_os_error(error, target)
            if explained is None:
                raise
            raise explained from error
        finally:
            shutil.rmtree(making, ignore_errors=True)
        return UnitCache(target)

    def __len__(self) -> int:
        return int(self.meta["num_units"])

    @property
    def lengths(self) -> np.ndarray:
        return np.fromfile(self.path / "lengths", _TYPES["lengths"])

    @property
    def num_trained(self) -> np.ndarray:
        return np.fromfile(self.path / "trained", _TYPES["trained"])

    @property
    def total_tokens(self) -> int:
        """Tokens of all Units, shared prompts counted once."""
        return int(self.meta["total_tokens"])

    @property
    def used_ids(self) -> np.ndarray:
        """The token ids that occur, sorted; memory stays small."""
        counts = np.zeros(0, dtype=np.int64)
        with open(
            self.path / "ids", "rb"
        ) as file:  # not over the map: its pages would stay counted as this process's memory
            while len(ids := np.fromfile(file, _TYPES["ids"], 1 << 16)):
                some = np.bincount(ids, minlength=len(counts))
                some[: len(counts)] += counts
                counts = some
        return np.flatnonzero(counts)

    @property
    def total_trained(self) -> int:
        """Tokens of all Units that are trained on."""
        return int(self.meta["total_trained"])

    def __getitem__(self, index: int) -> Unit:
        number = index + len(self) if index < 0 else index
        if not 0 <= number < len(self):
            raise IndexError(f"unit {index} of {len(self)}")
        first, last = self._units[number : number + 2].tolist()
        facts = json.loads(bytes(self._facts[slice(*self._facts_at[number : number + 2].tolist())]))
        return Unit(
            examples=tuple(self._example(i) for i in range(first, last)),
            shared_prompt=int(self._shared[number]),
            origin=facts[0],
            columns=facts[1],
        )

    def _example(self, number: int) -> Example:
        start, end = self._examples[number : number + 2].tolist()
        columns: dict[str, Any] = {}
        for name, per, integer, values, starts in self._columns:
            at = int(starts[number]) if number < len(starts) else -1
            if at < 0:
                continue
            if per == "token":
                columns[name] = values[at : at + end - start]
            else:
                columns[name] = int(values[at]) if integer else float(values[at])
        return Example(self._ids[start:end], self._weights[start:end], columns)

    def __iter__(self) -> Iterator[Unit]:
        return (self[i] for i in range(len(self)))

    def __reduce__(self) -> tuple[Callable[[str], "UnitCache"], tuple[str]]:
        return UnitCache, (str(self.path),)


class _Column:
    """One named Example column being written."""

    def __init__(self, number: int, name: str, per: str, dtype: str, opened: Callable[[str], BinaryIO]) -> None:
        self.name, self.per, self.dtype, self.integer = name, per, dtype, True
        self.values, self.starts = opened(f"column_{number}"), opened(f"column_{number}_at")
        self.num_values = self.num_starts = 0

    def add(self, example: int, start: int, values: np.ndarray) -> None:
        self.starts.write(np.full(example - self.num_starts, -1, "<i8").tobytes())
        self.starts.write(np.asarray([start], "<i8").tobytes())
        self.values.write(values.tobytes())
        self.num_starts, self.num_values = example + 1, self.num_values + len(values)


def _write(opened: Callable[[str], BinaryIO], units: Iterable[Unit]) -> dict[str, Any]:
    files = {name: opened(name) for name in (*_TYPES, "facts")}
    columns: dict[str, _Column] = {}

    def put(name: str, *values: int) -> None:
        files[name].write(np.asarray(values, _TYPES[name]).tobytes())

    num_units = num_examples = num_ids = num_facts = total_tokens = total_trained = 0
    for name in ("examples", "units", "facts_at"):
        put(name, 0)
    for unit in units:
        for example in unit.examples:
            if len(example.ids) != len(example.weights):
                raise ValueError(f"{unit.origin}: {len(example.ids)} ids but {len(example.weights)} weights")
            files["ids"].write(np.ascontiguousarray(example.ids, "<i4").tobytes())
            files["weights"].write(np.ascontiguousarray(example.weights, "<f4").tobytes())
            for name, value in example.columns.items():
                _put_column(columns, opened, name, value, num_examples, len(example), unit.origin)
            num_ids += len(example)
            num_examples += 1
            put("examples", num_ids)
        facts = json.dumps([unit.origin, dict(unit.columns)], ensure_ascii=False, default=_plain).encode() + b"\n"
        files["facts"].write(facts)
        num_facts += len(facts)
        num_units += 1
        tokens, trained = unit.num_tokens, sum(example.num_trained for example in unit.examples)
        total_tokens, total_trained = total_tokens + tokens, total_trained + trained
        put("units", num_examples)
        put("facts_at", num_facts)
        put("lengths", tokens)
        put("trained", trained)
        put("shared", unit.shared_prompt)
    return {
        "num_units": num_units,
        "num_examples": num_examples,
        "total_tokens": total_tokens,
        "total_trained": total_trained,
        "columns": [
            {"name": column.name, "per": column.per, "dtype": column.dtype, "integer": column.integer}
            for column in columns.values()
        ],
    }


def _put_column(
    columns: dict[str, _Column],
    opened: Callable[[str], BinaryIO],
    name: str,
    value: Any,
    example: int,
    length: int,
    origin: str,
) -> None:
    values = np.asarray(value)
    per = "token" if values.ndim == 1 else "example"
    # Numbers are kept as float64 (exact for integers up to 2**53), so 0 in one row and 0.5 in the next agree.
    dtype = values.dtype.newbyteorder("<").str if per == "token" else "<f8"
    column = columns.get(name)
    if column is None:
        column = columns[name] = _Column(len(columns), name, per, dtype, opened)
    if (column.per, column.dtype) != (per, dtype):
        raise ValueError(f"{origin}: column {name!r} is {dtype} per {per}, it was {column.dtype} per {column.per}")
    if per == "token" and len(values) != length:
        raise ValueError(f"{origin}: column {name!r} has {len(values)} values for {length} tokens")
    if per == "example":
        if values.ndim or values.dtype.kind not in "biuf":
            raise ValueError(f"{origin}: column {name!r} must be a number or one value per token, got {value!r}")
        if values.dtype.kind in "iu" and abs(int(values)) > 2**53:
            raise ValueError(f"{origin}: column {name!r} holds {value}, above 2**53")
        column.integer = column.integer and values.dtype.kind in "biu"
        values = values.reshape(1)
    column.add(example, column.num_values, np.ascontiguousarray(values, dtype))


def _plain(value: Any) -> Any:
    """numpy values as JSON."""
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    raise TypeError(f"a Unit's columns must be plain values, got {type(value).__name__}")


class _Flat:
    """A flat array in a file, of which what is asked for is read: `len`, `[i]`, `[a:b]`.

    Not over a map: the pages read here and there in an epoch, 64 KB around each row, would stay counted as this process's memory.
    """

    def __init__(self, path: Path, dtype: str) -> None:
        self.file = open(path, "rb", buffering=0)  # noqa: SIM115 - as long as the cache lives
        self.dtype = np.dtype(dtype)
        self.length = path.stat().st_size // self.dtype.itemsize

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, key: int | slice) -> Any:
        if isinstance(key, slice):
            start, end, _ = key.indices(self.length)
            return self._read(start, max(0, end - start))
        return self._read(key, 1)[0]

    def _read(self, start: int, number: int) -> np.ndarray:
        size = self.dtype.itemsize
        return np.frombuffer(os.pread(self.file.fileno(), number * size, start * size), self.dtype)


def _flat(path: Path, dtype: str) -> Any:
    """The array in a file; over a map where files cannot be read at a place without moving there (Windows)."""
    return _Flat(path, dtype) if hasattr(os, "pread") else _mapped(path, dtype)


def _mapped(path: Path, dtype: str) -> np.ndarray:
    # A plain ndarray over the map: slicing np.memmap itself costs several microseconds a time.
    if path.stat().st_size == 0:
        return np.empty(0, dtype)
    return np.memmap(path, dtype, mode="r").view(np.ndarray)
