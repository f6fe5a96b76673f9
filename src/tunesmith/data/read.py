"""Read rows from anywhere: files, folders, patterns, the hub's cache, Python objects.

>>> reading = read("faq.jsonl", columns={"answer": "reply"})
>>> for row in reading: ...                     # canonical rows (see rows.py), streamed
>>> reading.counts.as_dict()["rows_in"], reading.sources[0].shape.name

A row that cannot be used does not stop the reading of the others; at the end one error shows the first five and the count.
With bad_rows="drop" they are left out instead, counted, and handed to `on_drop` with origin and reason.
"""

import glob
import hashlib
import json
import os
import re
import sys
import unicodedata
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import chain, islice
from pathlib import Path
from typing import Any

from tunesmith.core.errors import DataError, SettingError
from tunesmith.core.names import nearest
from tunesmith.data import shapes
from tunesmith.data.encoding import AUTO, REPAIR, bad_byte, repair, wrong_bytes
from tunesmith.data.formats import TABLES, Broken, Record, as_columns, format_of, plain, records
from tunesmith.data.kinds import KINDS, kind_of
from tunesmith.data.rows import Row
from tunesmith.data.shapes import BadRow, Shape, canonical, recognise

_HEAD = 100
_DEEPEST = 100  # lists and objects inside one another: more is no data
_LARGEST = sys.float_info.max
_SHOWN = 5
_CONTENT = (
    "messages", "tools", "text", "label", "text2", "negatives", "score", "chosen", "rejected", "margin", "answers",
    "answer", "prefix", "middle", "suffix", "texts",
)  # fmt: skip
_HELD_OUT = re.compile(r"(^|[-_. ])(test|dev|valid|validation|val|eval)([-_. \d]|$)", re.IGNORECASE)


@dataclass
class Counts:
    """Rows in, out, joined to the first of their group and dropped with the reason, by the source they came from.

    They add up: `check` asserts it."""

    rows_in: Counter[str] = field(default_factory=Counter)
    rows_out: Counter[str] = field(default_factory=Counter)
    dropped: dict[str, Counter[str]] = field(default_factory=dict)
    joined: Counter[str] = field(default_factory=Counter)
    notes: Counter[str] = field(default_factory=Counter)

    def drop(self, source: str, reason: str) -> None:
        self.dropped.setdefault(source, Counter())[reason] += 1

    @property
    def num_dropped(self) -> int:
        return sum(reasons.total() for reasons in self.dropped.values())

    def check(self) -> None:
        """Every row that came in is out, in a group, or dropped; anything else is a bug of ours."""
        for source in self.rows_in | self.rows_out | Counter(dict.fromkeys(self.dropped, 1)):
            lost = self.rows_in[source] - self.rows_out[source] - self.joined[source]
            lost -= self.dropped.get(source, Counter()).total()
            assert lost == 0, f"{source}: {lost} rows neither kept nor dropped"

    def as_dict(self) -> dict[str, Any]:
        """{"rows_in", "rows_out", "rows_dropped", "by_origin": {source: {..., "reasons": {reason: n}}}, "notes"}

        and "rows_joined" where rows were put together in groups."""
        self.check()
        return {
            "rows_in": self.rows_in.total(),
            "rows_out": self.rows_out.total(),
            "rows_dropped": self.num_dropped,
            **({"rows_joined": self.joined.total()} if self.joined else {}),
            "by_origin": {
                source: {
                    "rows_in": self.rows_in[source],
                    "rows_out": self.rows_out[source],
                    "rows_dropped": self.dropped.get(source, Counter()).total(),
                    "reasons": dict(self.dropped.get(source, {})),
                }
                for source in self.rows_in
            },
            "notes": dict(self.notes),
        }


@dataclass
class Source:
    """One file (or hub split, or Python object): the name its rows' origins begin with, and what was recognised.

    fingerprint   tells this content from other content, where that is known without reading it all
    """

    name: str
    records: Callable[[dict[str, Any]], Iterator[tuple[int | None, Record]]]
    path: Path | None = None
    fingerprint: str | None = None
    facts: dict[str, Any] = field(default_factory=dict)
    shape: Shape | None = None

    def as_dict(self) -> dict[str, Any]:
        shape = self.shape
        told = {} if shape is None else {"shape": shape.name, "kind": shape.kind, "used": dict(shape.columns)}
        return {"name": self.name, **self.facts, **told}


class Reading:
    """An iterator's worth of rows with what was counted on the way. Iterate it once more to read once more."""

    def __init__(
        self,
        sources: list[Source],
        recognise: Callable[[Source, list[str], str, list[dict[str, Any]]], Shape],
        *,
        bad_rows: str,
        need_answer: bool,
        encoding: str,
        label_names: Sequence[str],
        weight: str | None,
        every: int | None,
        on_drop: Callable[[dict[str, Any]], None] | None,
        mixed: bool = False,
        written: Collection[str] | None = (),
    ) -> None:
        self.sources, self.counts = sources, Counts()
        self._recognise, self._bad_rows, self._need_answer = recognise, bad_rows, need_answer
        self._encoding, self._label_names, self._weight, self._on_drop = encoding, tuple(label_names), weight, on_drop
        self._every, self._mixed = every, mixed
        self._written = written  # columns that templates put into words; None: any of them
        self.bad: list[tuple[str, str]] = []

    @property
    def kind(self) -> str:
        """What the rows are: one of kinds.KINDS. Known once reading began."""
        found = dict.fromkeys(source.shape.kind for source in self.sources if source.shape)
        return "mixed" if len(found) > 1 else next(iter(found), "")

    def __iter__(self) -> Iterator[Row]:
        self.counts, self.bad = Counts(), []
        for source in self.sources:
            yield from self._source(source)
        if self._bad_rows == "error" and self.bad:
            raise self._explained()
        if self._label_names and all(source.shape and source.shape.kind != "text+label" for source in self.sources):
            raise SettingError(
                f"data.label_names names {len(self._label_names)} labels, but the rows are {KINDS.get(self.kind, self.kind)}.",
                wanted="Rows of a text and a label that is a number.",
                fix="Leave data.label_names out. In a template: data.answer='{{ COLUMN }}' writes what the column holds.",
            )
        if not self.counts.rows_out:
            raise DataError(
                f"No row of {', '.join(source.name for source in self.sources)} can be used.",
                wanted="At least one row.",
                fix="\n".join(f"{origin}  {detail}" for origin, detail in self.bad),
            )
        self.counts.check()

    def _source(self, source: Source) -> Iterator[Row]:
        source.facts.clear()
        stream = source.records(source.facts)
        head = list(islice(stream, _HEAD))
        if not head:
            raise DataError(f"{source.path or source.name} has no rows.", wanted="At least one row.")
        columns = list(dict.fromkeys(name for _, record in head if isinstance(record, dict) for name in record))
        source.shape = None
        if columns:
            first = next(number for number, record in head if isinstance(record, dict))
            where = _origin(source.name, first)
            if any(bad_byte(name) is not None for name in columns):
                self._refuse_encoding(source)
            source.facts["columns"] = printable(source.facts.get("columns", columns))
            sample = [record for _, record in head if isinstance(record, dict)]
            source.shape = self._recognise(source, columns, where, sample)
            others = {other.shape.kind: other.name for other in self.sources if other.shape}
            if len(others) > 1 and not self._mixed:
                told = "; ".join(f"{name} is {kind}" for kind, name in others.items())
                raise DataError(
                    f"The files hold different kinds of rows: {told}.", wanted="One kind.", fix="Name one of them."
                )
        rows = self._rows(source, chain(head, stream))
        for row in rows if source.shape is None or source.shape.kind != "group" else self._grouped(source, rows):
            row["id"] = content_id(row)
            self.counts.rows_out[source.name] += 1
            yield row

    def _rows(self, source: Source, stream: Iterable[tuple[int | None, Record]]) -> Iterator[Row]:
        for ordinal, (number, record) in enumerate(stream):
            self.counts.rows_in[source.name] += 1
            origin = _origin(source.name, number)
            try:
                row = self._row(source, record)
            except BadRow as error:
                self._drop(source, origin, error, record)
                continue
            row["origin"] = origin
            if self._every is not None and "text" in row:
                row["group"] = str(ordinal // self._every)
            yield row

    def _grouped(self, source: Source, rows: Iterable[Row]) -> Iterator[Row]:
        """Rows of one text each, put together by their group, which takes the origin of its first. Held in memory."""
        groups: dict[str, Row] = {}
        for row in rows:
            if "texts" in row:
                yield row
                continue
            first = groups.get(row["group"])
            if first is None:
                text = row.pop("text")
                groups[row["group"]] = {"texts": [text], **row}
            else:
                first["texts"].append(row["text"])
                self.counts.joined[source.name] += 1
        alone = sum(len(row["texts"]) == 1 for row in groups.values())
        if alone:
            self.counts.notes["groups of one text"] += alone
        yield from groups.values()

    def _row(self, source: Source, record: Record) -> Row:
        if isinstance(record, Broken):
            raise BadRow(record.reason, record.detail)
        record, changed = clean(record, twice={AUTO: "refuse", REPAIR: "repair"}.get(self._encoding, "keep"))
        if bad := changed.get("bad byte"):
            self._refuse_encoding(source)
            raise BadRow("bytes that are not text", bad)
        if source.shape is None:
            raise BadRow("missing field", "has no columns")
        row = canonical(record, source.shape, need_answer=self._need_answer, notes=self.counts.notes)
        for what in changed:
            self.counts.notes[what] += 1
        written = self._written
        for name in row.get("columns", {}):
            if written is not None and name not in written and name != self._weight and name not in source.shape.roots:
                unused = source.facts.setdefault("not_used", {})
                unused[name] = unused.get(name, 0) + 1
        if self._label_names and source.shape.kind == "text+label":
            row["label"] = self._named(row["label"])
        if self._weight:
            _weigh(row, record, self._weight)
        return row

    def _named(self, label: Any) -> Any:
        if label in self._label_names:
            return label
        try:
            number = int(label)
            if 0 <= number < len(self._label_names):
                return self._label_names[number]
        except (TypeError, ValueError):
            number = label
        raise BadRow("unknown label", f"label {number}: data.label_names names {len(self._label_names)} labels, from 0")

    def _refuse_encoding(self, source: Source) -> None:
        """The whole file is in another encoding: that is one error, not one for each row."""
        if source.path is not None and source.facts.get("format") not in ("parquet", "xlsx"):
            problem = wrong_bytes(source.path)
            if problem is not None and problem[0]:
                raise problem[1]

    def _drop(self, source: Source, origin: str, error: BadRow, record: Record) -> None:
        self.counts.drop(source.name, error.reason)
        detail = printable(error.detail)
        if len(self.bad) < _SHOWN:
            self.bad.append((origin, detail))
        if self._on_drop is not None:
            kept: Any = {"raw": record.raw} if isinstance(record, Broken) else record
            self._on_drop({"origin": origin, "reason": error.reason, "detail": detail, "row": printable(kept)})

    def _explained(self) -> DataError:
        number, total = self.counts.num_dropped, self.counts.rows_in.total()
        reasons: Counter[str] = sum(self.counts.dropped.values(), Counter())
        shown = "\n".join(f"  {origin}  {detail}" for origin, detail in self.bad)
        more = f"\n  ... and {number - len(self.bad):,} more" if number > len(self.bad) else ""
        fixes = []
        if any(reason.startswith("text encoded twice") for reason in reasons):
            fixes.append(
                "Text encoded twice can be put right: data.encoding: repair (or kept as it is: data.encoding: utf-8)"
            )
        if "wrong type" in reasons:
            fixes.append('Numbers and lists become text by a template: data.answer: "{{ NAME }}"')
        fixes.append("Correct them, or go on without them: data.bad_rows: drop")
        return DataError(
            f"{number:,} of {total:,} rows cannot be used:\n{shown}{more}",
            wanted="Reasons: " + ", ".join(f"{reason} ({n:,})" for reason, n in reasons.most_common()),
            fix="\n".join(fixes),
        )


def read(
    source: Any = None,
    *,
    name: str | None = None,
    config: str | None = None,
    split: str | None = None,
    format: str | None = None,
    encoding: str | None = None,
    header: bool | None = None,
    delimiter: str | None = None,
    sheet: str | None = None,
    columns: Mapping[str, str] | None = None,
    shape: str | None = None,
    prompt: str | None = None,
    answer: str | None = None,
    system: str | None = None,
    label_names: Sequence[str] = (),
    weight: str | None = None,
    bad_rows: str = "error",
    need_answer: bool = True,
    group: str | int | None = None,
    kinds: Sequence[str] = (),
    root: str | os.PathLike[str] = ".",
    on_drop: Callable[[dict[str, Any]], None] | None = None,
) -> Reading:
    """Rows of a source, recognised, checked and made canonical; nothing is read before iteration except a look at names.

    source   a path, a folder, a pattern, a list of those; a list of dicts, a dict of lists, a DataFrame, a Dataset
    name     instead of a source: a data set of the Hugging Face hub, with config and split
    columns  our word -> the source's column: {"answer": "reply"}
    prompt, answer, system   sandboxed jinja templates over the columns
    weight   a column with the weight of the row in training
    group    rows that belong together: the column whose value they share, or how many follow one another
    kinds    what the method learns from (see fitting.py): decides where columns can be read in more than one way, and whether files
             of several kinds may stand side by side ("mixed")
    root     what relative paths are relative to
    on_drop  gets {"origin", "reason", "detail", "row"} of each row that is left out

    Raises DataError for what is missing, empty, unreadable, ambiguous or (bad_rows="error") wrong in its rows.
    """
    if bad_rows not in ("error", "drop"):
        raise SettingError(f'data.bad_rows is "{bad_rows}".', wanted="error or drop.")
    encoding = encoding or AUTO
    options = {"format": format, "encoding": encoding, "header": header, "delimiter": delimiter, "sheet": sheet}
    if name is not None:
        sources = [hub_source(name, config, split or "train")]
    else:
        sources = find_sources(source, Path(root), options)
    made = shapes.templates(prompt=prompt, answer=answer, system=system)

    named = dict(columns or {})
    if isinstance(group, str):
        named["group"] = group
    elif group is not None and (isinstance(group, bool) or group < 2):
        raise SettingError(f"data.group is {group}.", wanted="A column's name, or a number of rows from 2.")
    every = group if isinstance(group, int) else None

    def recognised(source: Source, found: list[str], where: str, sample: list[dict[str, Any]]) -> Shape:
        wanted = "text" if every is not None else shape
        found_shape = recognise(
            found, where=where, named=named, shape=wanted, templates=made, sample=sample, kinds=kinds
        )
        if every is not None:
            told = f"{every} rows that follow one another: {' + '.join(found_shape.columns.values()) or 'data.text'}"
            return Shape(told, "group", found_shape.columns, found_shape.templates)
        return found_shape

    return Reading(
        sources,
        recognised,
        bad_rows=bad_rows,
        need_answer=need_answer,
        encoding=encoding,
        label_names=label_names,
        weight=weight,
        every=every,
        on_drop=on_drop,
        written=shapes.columns_read(prompt, answer, system),
        mixed="mixed" in kinds,
    )


# --- where rows come from


def find_sources(source: Any, root: Path, options: Mapping[str, Any]) -> list[Source]:
    """What `source` stands for, each file by itself. Raises DataError when there is nothing."""
    if source is None:
        raise DataError("No data is given.", fix="Name a file: data=questions.jsonl")
    if isinstance(source, str | os.PathLike):
        paths = expand(source, root, options.get("format"))
    elif isinstance(source, list | tuple) and source and all(isinstance(item, str | os.PathLike) for item in source):
        paths = [path for item in source for path in expand(item, root, options.get("format"))]
    else:
        return [_python_source(source)]
    twice = [path for path, n in Counter(path.resolve() for path in paths).items() if n > 1]
    if twice:
        raise DataError(f"{twice[0]} is named twice.", fix="Name each file once.")
    names = _short_names(paths)

    def reader(path: Path) -> Callable[[dict[str, Any]], Iterator[tuple[int | None, Record]]]:
        return lambda facts: records(path, facts, **options)

    return [Source(name, reader(path), path) for name, path in zip(names, paths)]


def expand(item: str | os.PathLike[str], root: Path, format: str | None = None) -> list[Path]:
    """The files that a path, a folder or a pattern stands for, sorted. Raises DataError naming what is near."""
    try:
        path = Path(root, Path(item).expanduser())
    except RuntimeError:
        raise DataError(
            f"{item} names the home folder of a user who is not here.", fix="Write the path out, or ~/ for your own."
        ) from None
    if path.is_file():
        return [path]
    if path.is_dir():
        return _folder(path, format)
    if any(mark in str(item) for mark in "*?["):
        found = sorted(Path(match) for match in glob.glob(str(path), recursive=True) if Path(match).is_file())
        if not found:
            raise DataError(f'No file matches "{item}".', fix=_nearby(path))
        return found
    looks_hub = re.fullmatch(r"[\w.-]+(/[\w.-]+)?", str(item)) and format_of(path) is None
    hub = f"\nA data set of the Hugging Face hub is named by its own key: data.name: {item}" if looks_hub else ""
    raise DataError(f"There is no file {path}.", fix=_nearby(path) + hub)


def _nearby(path: Path) -> str:
    parent = path.parent
    while not parent.is_dir():
        parent = parent.parent
    names = sorted(child.name for child in parent.iterdir() if not child.name.startswith("."))
    looked_for = path.relative_to(parent).parts[0] if path != parent else path.name
    close = nearest(looked_for, names)
    if close:
        return f"Did you mean: {', '.join(str(parent / name) for name in close)}"
    data = [name for name in names if format_of(Path(name)) in TABLES] or names
    return (
        f"In {parent} there are: {', '.join(data[:8])}" + (" ..." if len(data) > 8 else "")
        if data
        else f"{parent} is empty."
    )


def _folder(path: Path, format: str | None) -> list[Path]:
    files = sorted(
        file
        for file in path.rglob("*")
        if file.is_file() and not any(part.startswith(".") for part in file.relative_to(path).parts)
    )
    if not files:
        raise DataError(f"The folder {path} is empty.", wanted="Text files, or data files.")
    if format is not None:
        return files
    tables = [file for file in files if format_of(file) in TABLES]
    texts = [file for file in files if format_of(file) == "text"]
    other = [file for file in files if file not in tables and file not in texts]
    listed = ", ".join(str(file.relative_to(path)) for file in files[:8]) + (" ..." if len(files) > 8 else "")
    usual = Counter(file.suffix for file in tables or texts or files).most_common(1)[0][0]
    if other or (tables and texts):
        raise DataError(
            f"The folder {path} holds more than text files or data files of one kind: {listed}.",
            fix=f"Name the files, or a pattern: data: {path / ('*' + usual)}",
        )
    held_out = [file for file in tables if _HELD_OUT.search(file.stem)]
    if held_out and len(tables) > 1:
        raise DataError(
            f"The folder {path} holds {held_out[0].name}, which seems to be kept for testing: {listed}.",
            wanted="Files to train on.",
            fix="Name them: data.path: FILE, data.dev: FILE, data.test: FILE",
        )
    return tables or texts


def _short_names(paths: list[Path]) -> list[str]:
    """File names, as short as tells them apart."""
    for depth in range(1, max(len(path.parts) for path in paths) + 1):
        names = ["/".join(path.parts[-depth:]).lstrip("/") for path in paths]
        if len(set(names)) == len(names):
            return names
    return [str(path) for path in paths]


def _python_source(source: Any) -> Source:
    if hasattr(source, "features") and hasattr(source, "column_names"):
        return _dataset_source(source, "dataset")
    if hasattr(source, "to_dict") and hasattr(source, "columns"):
        listed = [str(name) for name in source.columns]

        def frame(facts: dict[str, Any]) -> Iterator[tuple[int | None, Record]]:
            facts["format"] = "DataFrame"
            for number, values in enumerate(source.itertuples(index=False, name=None), start=1):
                yield number, {name: plain(value) for name, value in zip(listed, values)}

        return Source("frame", frame)
    if isinstance(source, Mapping):
        sizes = {str(name): len(value) if isinstance(value, list | tuple) else None for name, value in source.items()}
        rows: Any = as_columns(
            {str(name): list(value) if isinstance(value, tuple) else value for name, value in source.items()}
        )
        if not rows and all(size is None for size in sizes.values()):
            rows = [dict(source)]
        elif not rows:
            told = ", ".join(f"{name} {size if size is not None else '(no list)'}" for name, size in sizes.items())
            raise DataError(
                f"A dict of columns has columns of different or no length: {told}.", wanted="Lists of one length."
            )
    elif isinstance(source, list | tuple):
        rows = source
    else:
        raise DataError(
            f"Data is given as {type(source).__name__}.",
            wanted="A path, a list of dicts, a dict of lists, a DataFrame or a Dataset.",
        )

    def listed_rows(facts: dict[str, Any]) -> Iterator[tuple[int | None, Record]]:
        facts["format"] = "Python"
        for number, item in enumerate(rows, start=1):
            if isinstance(item, Mapping):
                yield number, {str(name): plain(value) for name, value in item.items()}
            else:
                yield number, Broken("not an object", f"expected a dict, got {type(item).__name__}", str(item)[:200])

    return Source("rows", listed_rows)


def hub_source(name: str, config: str | None, split: str) -> Source:
    """A split of a Hugging Face data set, from its cache when offline. Raises DataError naming configs or splits."""
    dataset = _hub_dataset(name, config, split)
    return _dataset_source(dataset, "/".join(part for part in (name, config, split) if part))


def hub_splits(name: str, config: str | None) -> list[str]:
    """The splits that a hub data set has."""
    return list(_hub_dataset(name, config, None))


def _hub_dataset(name: str, config: str | None, split: str | None) -> Any:
    loaded = _loaded(name, config)
    if split is None:
        return loaded
    if split not in loaded:
        close = nearest(split, loaded)
        told = name + (f" ({config})" if config else "")
        raise DataError(
            f"The hub's data set {told} has no split {split}. Splits: {', '.join(loaded)}.",
            fix=f"Say which: data.split: {close[0] if close else next(iter(loaded))}",
        )
    return loaded[split]


@lru_cache(maxsize=1)  # the rows lie in a memory-mapped file; what is kept is the opened file
def _loaded(name: str, config: str | None) -> Any:
    try:
        import datasets
    except ImportError:
        raise DataError(
            f"The hub's data set {name} needs the package datasets, which is not installed.",
            fix='pip install "tunesmith[data]"',
        ) from None
    told = name + (f" ({config})" if config else "")
    try:
        return datasets.load_dataset(name, config)
    # not found, offline, no such config, needs a script; rows that its own files do not make
    except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        lines = [part for part in str(error).splitlines() if part.strip()]
        raise DataError(
            f"The hub's data set {told} cannot be loaded: {lines[0] if lines else type(error).__name__}",
            wanted="A data set of the Hugging Face hub, or one in its cache when offline.",
            fix="\n".join(lines[1:3])
            or f"Look at https://huggingface.co/datasets/{name} for its name, configs and splits.",
        ) from None


def _dataset_source(dataset: Any, name: str) -> Source:
    classes = {
        column: feature.int2str for column, feature in (dataset.features or {}).items() if hasattr(feature, "int2str")
    }

    def rows(facts: dict[str, Any]) -> Iterator[tuple[int | None, Record]]:
        facts["format"] = "Hugging Face"
        if classes:
            facts["labels_named"] = list(classes)
        for number, record in enumerate(dataset, start=1):
            made = {column: plain(value) for column, value in record.items()}
            for column, word in classes.items():
                if isinstance(made[column], int) and made[column] >= 0:
                    made[column] = word(made[column])
            yield number, made

    return Source(name, rows, fingerprint=getattr(dataset, "_fingerprint", None))


# --- one row


def _origin(name: str, number: int | None) -> str:
    return f"{name}:{number}"


def clean(record: dict[str, Any], *, twice: str = "refuse") -> tuple[dict[str, Any], dict[str, str]]:
    """A record with its text in NFC, and what was found: {"to NFC": ..., "repaired": ..., "bad byte": the message}.

    twice  what happens to text that was encoded twice: "refuse" (BadRow), "repair" or "keep"
    """
    found: dict[str, str] = {}

    def text(value: str, at: str) -> str:
        if value.isascii():
            return value
        byte = bad_byte(value)
        if byte is not None:
            before = re.split("[\udc80-\udcff]", value)[0][-20:]
            found["bad byte"] = f'{at}: byte 0x{byte:02x} after "{before}" is not UTF-8'
            return value
        if re.search("[\ud800-\udfff]", value):
            raise BadRow("half a character", f"{at}: half of a surrogate pair, as in \\ud83d without what follows it")
        if twice != "keep":
            right = repair(value)
            if right != value:
                if twice == "refuse":
                    i = next(i for i, (a, b) in enumerate(zip(value + "\0", right + "\0")) if a != b)
                    detail = f'{at}: "{value[i : i + 12]}" at character {i + 1} should be "{right[i : i + 6]}"'
                    raise BadRow("text encoded twice", detail)
                found["text encoded twice, put right"] = at
                value = right
        if not unicodedata.is_normalized("NFC", value):
            found["text brought to NFC"] = at
            value = unicodedata.normalize("NFC", value)
        return value

    def walk(value: Any, at: str, deep: int) -> Any:
        if isinstance(value, str):
            return text(value, at)
        if isinstance(value, list | dict) and deep > _DEEPEST:
            raise BadRow("nested too deeply", f"{at.split('[')[0]}: more than {_DEEPEST} lists inside one another")
        if isinstance(value, list):
            return [walk(item, f"{at}[{i}]", deep + 1) for i, item in enumerate(value)]
        if isinstance(value, dict):
            return {text(name, at): walk(item, f"{at}.{name}", deep + 1) for name, item in value.items()}
        if isinstance(value, int | float) and not -_LARGEST <= value <= _LARGEST:
            raise BadRow("too large a number", f"{at}: beyond {_LARGEST:.2g}, which no number here can be")
        return value

    return {text(name, "a column's name"): walk(value, name, 1) for name, value in record.items()}, found


def printable(value: Any, deep: int = 0) -> Any:
    """A record as it can be written to a file: what was no text is shown as \\xNN, what lies too deep as ..."""
    if isinstance(value, list | dict) and deep > _DEEPEST:
        return "..."
    if isinstance(value, str):
        return (
            value.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
            if not _half(value)
            else ascii(value)
        )
    if isinstance(value, list):
        return [printable(item, deep + 1) for item in value]
    if isinstance(value, dict):
        return {printable(name): printable(item, deep + 1) for name, item in value.items()}
    return value


def _half(text: str) -> bool:
    return re.search("[\ud800-\udc7f\udd00-\udfff]", text) is not None


def content_id(row: Row) -> str:
    """The first 16 hex digits of the sha1 of what a row says: messages and tools, text and label, and so on."""
    content = [row[key] for key in _CONTENT if key in row]
    told = json.dumps(content, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    return hashlib.sha1(told.encode()).hexdigest()[:16]


def _weigh(row: Row, record: Mapping[str, Any], column: str) -> None:
    value = shapes.pick(record, column)
    try:
        weight = float(value)
    except (TypeError, ValueError):
        weight = -1.0
    if not 0 <= weight < float("inf"):
        raise BadRow("wrong weight", f"{column}: expected a number >= 0, got {value!r}")
    if kind_of(row) != "chat":
        row["weight"] = weight
        return
    for message in row["messages"]:
        if message["role"] == "assistant":
            message["weight"] = weight * message.get("weight", 1)
