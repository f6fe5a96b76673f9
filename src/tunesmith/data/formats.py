"""File formats: each reader yields (number, record) as it goes, where number is the line or row to point a person at.

>>> for number, record in records(Path("faq.csv"), facts := {}): ...
2 {'question': '배송은 언제 오나요?', 'answer': '이틀 안에 도착합니다.'}
>>> facts
{'format': 'csv', 'encoding': 'utf-8', 'delimiter': ',', 'header': True}

A record that cannot be read is yielded as a `Broken` in its place, so that one bad line does not hide the others. What makes
the whole file unreadable (another encoding, a quote that never closes) is raised as a DataError.
"""

import csv
import datetime
import decimal
import io
import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain, islice
from json.decoder import scanstring  # type: ignore[attr-defined]
from pathlib import Path
from typing import IO, Any, BinaryIO

from tunesmith.core.errors import DataError, SettingError
from tunesmith.core.names import unknown
from tunesmith.data.encoding import AUTO, examine, opened, text_of

FORMATS = ("jsonl", "json", "csv", "tsv", "parquet", "xlsx", "text", "lines")
_ENDINGS = {
    **dict.fromkeys((".jsonl", ".ndjson", ".jsonlines"), "jsonl"),
    **dict.fromkeys((".tsv", ".tab"), "tsv"),
    **dict.fromkeys((".parquet", ".pq"), "parquet"),
    **dict.fromkeys((".xlsx", ".xlsm"), "xlsx"),
    ".json": "json",
    ".csv": "csv",
    **dict.fromkeys((".txt", ".text", ".md", ".mdx", ".rst", ".html", ".htm", ".xml", ".tex", ".py", ".sql"), "text"),
}
READ_WITH = {"sheet": ("xlsx",), "delimiter": ("csv", "tsv"), "header": ("csv", "tsv", "xlsx")}
TABLES = ("jsonl", "json", "csv", "tsv", "parquet", "xlsx")
_WRAPPERS = ("data", "rows", "examples", "items", "records", "instances")
_SAMPLE = 200
csv.field_size_limit(1 << 30)


@dataclass(frozen=True)
class Broken:
    """A record that could not be read: the reason it is counted under, the detail, and the start of what stands there."""

    reason: str
    detail: str
    raw: str = ""


Record = dict[str, Any] | Broken


def format_of(path: Path) -> str | None:
    """The format by a file's ending (`.gz` set aside); None when the ending says nothing."""
    endings = [ending.lower() for ending in path.suffixes if ending.lower() != ".gz"]
    return _ENDINGS.get(endings[-1]) if endings else None


def told_by(path: Path) -> str | None:
    """The format by a file's first bytes, else by its ending; None when neither says it."""
    with opened(path) as file:
        head = file.read(4)
    return "xlsx" if head == b"PK\x03\x04" else "parquet" if head == b"PAR1" else format_of(path)


def refuse_unread(paths: Iterable[Path | None], options: Mapping[str, Any]) -> None:
    """A SettingError naming an option that none of these files can be read with; None is a source that is no file."""
    given = {name: kinds for name, kinds in READ_WITH.items() if options.get(name) is not None}
    if not given:
        return
    there = [path for path in paths if path is not None]
    formats = {options.get("format") or told_by(path) for path in there}
    for name, kinds in given.items():
        if None not in formats and formats.isdisjoint(kinds):
            shown = ", ".join(path.name for path in there[:3]) + (" ..." if len(there) > 3 else "")
            raise SettingError(
                f"data.{name} is {options[name]!r}, but nothing here is read with it: {shown or 'the rows are in no file'}.",
                wanted=f"A file in {' or '.join(kinds)}.",
                fix=f"Leave data.{name} out.",
            )


def records(
    path: Path,
    facts: dict[str, Any],
    *,
    format: str | None = None,
    encoding: str = AUTO,
    header: bool | None = None,
    delimiter: str | None = None,
    sheet: str | None = None,
) -> Iterator[tuple[int, Record]]:
    """Read a file record by record. `facts` is filled with what was recognised, for showing.

    format     one of FORMATS; by default from the ending, and for JSON from the first character
    header     whether the first row of a CSV, TSV or XLSX names the columns; by default it is judged
    """
    if format is not None and format not in FORMATS:
        raise unknown("format", format, FORMATS)
    if delimiter is not None and len(delimiter) != 1:
        raise SettingError(f'data.delimiter is "{delimiter}".', wanted="One character.")
    format = format or told_by(path)
    if format is None:
        examine(path, encoding)
        raise DataError(
            f"{path} has an ending that says nothing about its format.",
            wanted=", ".join(sorted(_ENDINGS)),
            fix="Say what it is: data.format: " + " | ".join(FORMATS),
        )
    facts["format"] = format
    if format == "parquet":
        yield from _parquet(path)
        return
    if format == "xlsx":
        yield from _xlsx(path, facts, header, sheet)
        return
    facts["encoding"] = examine(path, encoding)
    with text_of(path, encoding) as stream:
        if format == "text":
            yield 1, {"text": stream.read()}
        elif format == "lines":
            for number, line in enumerate(stream, start=1):
                if line.strip():
                    yield number, {"text": line.rstrip("\r\n")}
        elif format in ("csv", "tsv"):
            yield from _csv(path, stream, facts, "\t" if format == "tsv" and delimiter is None else delimiter, header)
        elif format == "json" or _is_one_json(path, encoding):
            facts["format"] = "json"
            yield from _json(path, stream, facts)
        else:
            yield from _jsonl(stream, facts)


# --- JSON


class _Refused(ValueError):
    """JSON that is well formed for Python, but not what it seems."""


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        names = [name for name, _ in pairs]
        double = next(name for name in names if names.count(name) > 1)
        raise _Refused(f'the key "{double}" stands {names.count(double)} times in one object')
    return made


def _no_constant(name: str) -> Any:
    raise _Refused(f"{name} is not JSON; write null or a number")


_DECODER = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_no_constant)
_ENDS = json.JSONDecoder(parse_int=str)  # tells where a value ends, whatever is wrong with it
_TOO_LONG = "an integer of more digits than Python reads"  # the only other ValueError that the decoder raises


def _jsonl(stream: IO[str], facts: dict[str, Any]) -> Iterator[tuple[int, Record]]:
    for number, line in enumerate(stream, start=1):
        text = line.strip().lstrip("\ufeff")
        if not text:
            facts["blank_lines"] = facts.get("blank_lines", 0) + 1
            continue
        yield number, _parsed(text)


def _parsed(text: str) -> Record:
    try:
        value = _DECODER.decode(text)
    except _Refused as error:
        return Broken("duplicate key" if "times" in str(error) else "not a JSON value", str(error), text[:200])
    except json.JSONDecodeError as error:
        what = "ends early" if error.pos >= len(text) or error.msg.startswith("Unterminated") else error.msg
        return Broken(
            "not JSON",
            f"expected a JSON object, {what} at column {error.colno}: {_around(text, error.pos)}",
            text[:200],
        )
    except ValueError:
        return Broken("not a JSON value", _TOO_LONG, text[:200])
    except RecursionError:
        return Broken("not JSON", "nested too deeply", text[:200])
    if not isinstance(value, dict):
        return Broken("not an object", f"expected an object with columns, got {_around(text, 0)}", text[:200])
    return value


def _around(text: str, at: int) -> str:
    start = max(0, min(at, len(text)) - 15)
    return ("..." if start else "") + text[start : start + 30].strip() + ("..." if start + 30 < len(text) else "")


def _is_one_json(path: Path, encoding: str) -> bool:
    """A file named .jsonl that holds one JSON value over many lines: a list, or objects written out prettily."""
    with text_of(path, encoding) as stream:
        first = next((line.strip().lstrip("\ufeff") for line in stream if line.strip()), "")
    return first in ("[", "{", "[{") or (
        first.startswith("[") and not isinstance(_parsed(first[:-1] if first[-1:] == "," else first), dict)
    )


class _Window:
    """A JSON text read in blocks, with the line that `at` is on. Memory: a block, or the longest value."""

    def __init__(self, path: Path, stream: IO[str]) -> None:
        self.path, self._stream = path, stream
        self.text, self.at, self._line, self._counted, self.ended = "", 0, 1, 0, False

    def _more(self) -> bool:
        # Doubling: a long value is scanned again after each read, and this keeps that linear.
        block = self._stream.read(max(1 << 16, len(self.text) - self.at))
        self.ended = not block
        self._line += self.text.count("\n", self._counted, self.at)
        self.text, self.at = self.text[self.at :] + block, 0
        self._counted = 0
        return bool(block)

    @property
    def line(self) -> int:
        self._line += self.text.count("\n", self._counted, self.at)
        self._counted = self.at
        return self._line

    def peek(self) -> str:
        """The next character that is no white space; "" at the end."""
        while True:
            while self.at < len(self.text) and self.text[self.at] in " \t\r\n\ufeff":
                self.at += 1
            if self.at < len(self.text):
                return self.text[self.at]
            if not self._more():
                return ""

    def take(self, wanted: str) -> None:
        found = self.peek()
        if found != wanted:
            raise self.error(f"expected {wanted}, " + (f"got {found}" if found else "the file ends"))
        self.at += 1

    def value(self) -> Any:
        """The next value. Raises _Refused (the value is skipped), or DataError when it is not JSON."""
        self.peek()
        while True:
            refused: _Refused | None = None
            try:
                try:
                    value, end = _DECODER.raw_decode(self.text, self.at)
                except json.JSONDecodeError:
                    raise
                except ValueError as error:
                    refused = error if isinstance(error, _Refused) else _Refused(_TOO_LONG)
                    value, end = _ENDS.raw_decode(self.text, self.at)
            except RecursionError:
                raise self.error("nested too deeply") from None
            except json.JSONDecodeError as error:
                if not self.ended and self._more():
                    continue
                self.at = min(error.pos, len(self.text))
                ends = self.at >= len(self.text) or error.msg.startswith("Unterminated")
                raise self.error("the file ends in the middle of a value" if ends else error.msg) from None
            # A number at the very end of a block may go on in the next.
            if end == len(self.text) and not self.ended and self._more():
                continue
            self.at = end
            if refused is not None:
                raise refused
            return value

    def key(self) -> str:
        self.take('"')
        while True:
            try:
                key, self.at = scanstring(self.text, self.at)
                return str(key)
            except json.JSONDecodeError:
                if self.ended or not self._more():
                    raise self.error("the file ends in the middle of a key") from None

    def error(self, what: str) -> DataError:
        around = _around(self.text, self.at)
        return DataError(
            f"{self.path}:{self.line} is not JSON: {what}" + (f": {around}" if around else "") + ".",
            wanted='A list of objects, {"data": [...]}, or objects one after the other.',
            fix="The file may be cut off: copy or download it again." if "ends" in what else "",
        )


def _json(path: Path, stream: IO[str], facts: dict[str, Any]) -> Iterator[tuple[int, Record]]:
    window = _Window(path, stream)
    while start := window.peek():
        if start == "[":
            yield from _elements(window)
        elif start == "{":
            yield from _object(window, facts)
        else:
            raise window.error("expected [ or {")
        if window.peek() == ",":
            window.take(",")


def _elements(window: _Window) -> Iterator[tuple[int, Record]]:
    window.take("[")
    if window.peek() == "]":
        window.take("]")
        return
    while True:
        window.peek()
        line = window.line
        yield line, _element(window)
        if window.peek() == "]":
            window.take("]")
            return
        window.take(",")


def _element(window: _Window) -> Record:
    try:
        value = window.value()
    except _Refused as error:
        return Broken("duplicate key" if "times" in str(error) else "not a JSON value", str(error))
    if not isinstance(value, dict):
        raw = json.dumps(value, ensure_ascii=False)
        return Broken("not an object", f"expected an object with columns, got {_around(raw, 0)}", raw[:200])
    return value


def _object(window: _Window, facts: dict[str, Any]) -> Iterator[tuple[int, Record]]:
    """An object at the top: rows inside it under a usual key, or columns of equal length, or itself a row."""
    line = window.line
    made: dict[str, Any] = {}
    refused: _Refused | None = None
    streamed = False
    window.take("{")
    while window.peek() != "}":
        key = window.key()
        window.take(":")
        if key in made:
            refused = refused or _Refused(f'the key "{key}" stands twice in one object')
        if window.peek() == "[" and key.lower() in _WRAPPERS and not streamed:
            streamed = True
            facts["rows_under"] = key
            yield from _elements(window)
        else:
            try:
                made[key] = window.value()
            except _Refused as error:
                made[key], refused = None, refused or error
        if window.peek() == ",":
            window.take(",")
        elif window.peek() != "}":
            raise window.error("expected , or }")
    window.take("}")
    if streamed:
        if made:
            facts["outside_the_rows"] = sorted(made)
    elif refused:
        yield line, Broken("duplicate key" if "stands" in str(refused) else "not a JSON value", str(refused))
    elif columns := as_columns(made):
        facts["rows_under"] = "columns"
        yield from enumerate(columns, start=1)
    else:
        yield line, made


def as_columns(value: Mapping[str, Any]) -> list[dict[str, Any]]:
    """{"a": [1, 2], "b": [3, 4]} as rows; [] when it is not columns of one length (a single row may hold a list too).

    >>> as_columns({"a": [1, 2], "b": [3, 4]})
    [{'a': 1, 'b': 3}, {'a': 2, 'b': 4}]
    """
    lists = list(value.values())
    if (
        not lists
        or not all(isinstance(item, list) and item for item in lists)
        or len({len(item) for item in lists}) > 1
    ):
        return []
    if any(name.lower() in ("messages", "conversations", "conversation") for name in value) and isinstance(
        lists[0][0], dict
    ):
        return []
    return [dict(zip(value, row)) for row in zip(*lists)]


# --- CSV


def _csv(
    path: Path, stream: IO[str], facts: dict[str, Any], delimiter: str | None, header: bool | None
) -> Iterator[tuple[int, Record]]:
    lines = list(islice(stream, _SAMPLE))
    if not any(line.strip() for line in lines):
        raise DataError(f"{path} is empty.", wanted="At least one row.")
    escape: str | None = None
    delimiter, escape = _dialect(lines, [delimiter] if delimiter else [",", "\t", ";", "|"])
    facts["delimiter"] = delimiter
    if escape:
        facts["quotes_inside"] = 'written as \\"'

    def chained() -> Iterator[str]:
        yield from lines
        yield from stream

    rows = _csv_rows(path, chained(), delimiter, escape)
    sample = list(islice(rows, _SAMPLE))
    named = header if header is not None else is_header([cells for _, cells in sample if isinstance(cells, list)])
    facts["header"] = named
    columns: list[str] | None = None

    def all_rows() -> Iterator[tuple[int, list[str] | Broken]]:
        yield from sample
        yield from rows

    for number, cells in all_rows():
        if isinstance(cells, Broken):
            yield number, cells
            continue
        if columns is None:
            columns = column_names(path, cells, number) if named else [f"column_{i + 1}" for i in range(len(cells))]
            facts["columns"] = columns
            if named:
                continue
        if len(cells) != len(columns):
            more = " (a comma or a line end inside a cell needs quotes around it)" if len(cells) > len(columns) else ""
            detail = f"expected {len(columns)} cells, got {len(cells)}{more}"
            yield number, Broken("wrong number of cells", detail, delimiter.join(cells)[:200])
        else:
            yield number, dict(zip(columns, cells))


def _csv_rows(
    path: Path, lines: Iterator[str], delimiter: str, escape: str | None
) -> Iterator[tuple[int, list[str] | Broken]]:
    reader = csv.reader(lines, delimiter=delimiter, strict=True, escapechar=escape, doublequote=escape is None)
    while True:
        number = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            if "unexpected end of data" in str(error):
                swallowed = reader.line_num - number
                raise DataError(
                    f"{path}:{number} opens a quote that is never closed"
                    + (f"; the {swallowed:,} lines after it would become one cell." if swallowed else "."),
                    fix='Close the quote; a quote inside a cell is written twice (""). Tabs without quotes: data.format: tsv',
                ) from None
            yield number, Broken("bad quotes", str(error))
            continue
        if cells:
            yield number, cells


def _dialect(lines: list[str], delimiters: list[str]) -> tuple[str, str | None]:
    """The delimiter and escape character that give most rows the same number of cells, more than one."""
    escapes = [None, "\\"] if any('\\"' in line for line in lines) else [None]
    best, best_score = (delimiters[0], escapes[0]), 0.0
    for delimiter in delimiters:
        for escape in escapes:
            reader = csv.reader(
                iter(lines), delimiter=delimiter, escapechar=escape, doublequote=escape is None, strict=True
            )
            sizes: list[int] = []
            while True:
                try:
                    cells = next(reader)
                except StopIteration:
                    break
                except csv.Error as error:
                    if "unexpected end" in str(error):  # the sample ends inside a quoted cell
                        break
                    cells = [""]
                if cells:
                    sizes.append(len(cells))
            usual = max(set(sizes), key=sizes.count, default=1)
            score = sizes.count(usual) / len(sizes) if usual > 1 and sizes[0] == usual else 0.0
            # The first that is as good wins: ties go to the comma, and to quotes written twice.
            if score > best_score + (0.05 if delimiter != best[0] else 0):
                best, best_score = (delimiter, escape), score
    return best


def is_header(sample: list[list[str]]) -> bool:
    """Whether the first row of a table names its columns.

    It does, unless a cell is a number, a sentence, or occurs again below it. A name that we know settles it.

    >>> is_header([["질문", "답변"], ["왜?", "그냥"]]), is_header([["0", "메일을 비울까?"], ["1", "지울까?"]])
    (True, False)
    """
    from tunesmith.data.shapes import NAMES

    if not sample:
        return False
    first, rest = [cell.strip() for cell in sample[0]], sample[1:]
    if any(cell.lower() in names for cell in first for names in NAMES.values()):
        return True
    if any(re.fullmatch(r"[-+]?[\d.,]+%?", cell) or len(cell) > 60 or re.search(r"\s.*[.?!]$", cell) for cell in first):
        return False
    return bool(rest) and not any(
        cell and cell == row[i].strip() for row in rest for i, cell in enumerate(first) if i < len(row)
    )


def column_names(path: Path, cells: list[str], number: int) -> list[str]:
    """The cells of a header row as column names. Raises DataError when two are equal or one is empty."""
    names = [cell.strip() for cell in cells]
    for i, name in enumerate(names):
        if not name:
            names[i] = f"column_{i + 1}"  # a table saved with its row numbers has an unnamed first column
        elif names.count(name) > 1:
            raise DataError(
                f'{path}:{number} names the column "{name}" {names.count(name)} times.',
                wanted="Each column once.",
                fix="Rename one, or, if this is no header: data.header: false",
            )
    return names


# --- binary tables


def _parquet(path: Path) -> Iterator[tuple[int, Record]]:
    parquet = _needs("pyarrow.parquet", path)
    with _unpacked(path) as file:

        def found() -> Iterator[dict[str, Any]]:
            for batch in parquet.ParquetFile(file).iter_batches(batch_size=1024):
                yield from batch.to_pylist()

        for number, record in enumerate(_guarded(found, path, "Parquet"), start=1):
            yield number, {name: plain(value) for name, value in record.items()}


def _xlsx(path: Path, facts: dict[str, Any], header: bool | None, sheet: str | None) -> Iterator[tuple[int, Record]]:
    openpyxl = _needs("openpyxl", path)
    with _unpacked(path) as file:  # a file, not its path: openpyxl goes by the ending of a path

        def load() -> Iterator[Any]:
            yield openpyxl.load_workbook(file, read_only=True, data_only=True)

        (book,) = _guarded(load, path, "XLSX")

        def rows(name: str) -> Iterator[tuple[int, list[str]]]:
            sheet = book[name]
            values = (
                _guarded(lambda: sheet.iter_rows(values_only=True), path, "XLSX") if hasattr(sheet, "iter_rows") else []
            )
            for number, cells in enumerate(([_cell(value) for value in row] for row in values), start=1):
                if any(cells):
                    yield number, cells

        if sheet is not None and sheet not in book.sheetnames:
            raise unknown("sheet", sheet, book.sheetnames)
        filled = [name for name in ([sheet] if sheet else book.sheetnames) if next(rows(name), None)]
        if len(filled) > 1:
            listed = ", ".join(filled)
            raise DataError(
                f"{path} has {len(filled)} sheets with rows: {listed}.", fix=f"Say which: data.sheet: {filled[0]}"
            )
        if not filled:
            raise DataError(f"{path} is empty.", wanted="At least one row.")
        facts["sheet"] = filled[0]
        stream = rows(filled[0])
        sample = list(islice(stream, _SAMPLE))
        width = max(i + 1 for _, cells in sample for i, cell in enumerate(cells) if cell)
        named = header if header is not None else is_header([cells[:width] for _, cells in sample])
        facts["header"] = named
        line, first = sample[0]
        first = first[:width] + [""] * (width - len(first))
        columns = column_names(path, first, line) if named else [f"column_{i + 1}" for i in range(width)]
        facts["columns"] = columns
        for number, cells in chain(sample[1 if named else 0 :], stream):
            yield number, _row_of_cells(columns, cells)


def _guarded(make: Callable[[], Iterator[Any]], path: Path, kind: str) -> Iterator[Any]:
    """What a library reads from a file. A damaged file makes it raise whatever its parts raise (zlib, XML, KeyError, ...)."""
    stream: Iterator[Any] | None = None
    while True:
        try:
            stream = stream if stream is not None else make()
            item = next(stream)
        except StopIteration:
            return
        except Exception as error:
            said = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise DataError(
                f"{path} cannot be read as {kind}: {said}", fix="Save it again, or download it again."
            ) from error
        yield item


def _row_of_cells(columns: list[str], cells: list[str]) -> Record:
    if any(cells[len(columns) :]):
        filled = max(i + 1 for i, cell in enumerate(cells) if cell)
        return Broken("wrong number of cells", f"expected {len(columns)} cells, got {filled}", " | ".join(cells)[:200])
    cells = cells + [""] * (len(columns) - len(cells))
    return dict(zip(columns, cells))


def _cell(value: Any) -> str:
    """A cell as a person sees it: 3 for 3.0, an ISO date."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, datetime.datetime):
        return value.date().isoformat() if value.time() == datetime.time() else value.isoformat(sep=" ")
    return value.isoformat() if isinstance(value, datetime.date | datetime.time) else str(value)


def plain(value: Any) -> Any:
    """A value of a table as JSON can hold it: numpy scalars, dates and decimals converted, NaN as null."""
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(name): plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, decimal.Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, bytes):
        return value.decode("utf-8", "surrogateescape")
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if type(value).__name__ in ("NaTType", "NAType"):
        return None
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


def _unpacked(path: Path) -> BinaryIO:
    """The open file, or what a gzip file holds: tables are read from their end, which gzip cannot do."""
    file = open(path, "rb")  # noqa: SIM115 - the caller closes it
    packed = file.read(2) == b"\x1f\x8b"
    file.seek(0)
    if not packed:
        return file
    file.close()
    with opened(path) as unpacked:
        return io.BytesIO(unpacked.read())


def _needs(module: str, path: Path) -> Any:
    import importlib

    try:
        return importlib.import_module(module)
    except ImportError:
        raise DataError(
            f"{path} needs the package {module.split('.')[0]}, which is not installed.",
            fix='pip install "tunesmith[data]"',
        ) from None
