"""The whole road of the data into a run folder: read, clean by steps, split, count.

>>> prepared = prepare("runs/train-1", path="faq.jsonl", seed=0)
>>> len(prepared.train), prepared.counts["rows_dropped"], prepared.reused
(900, 3, False)
>>> open_test("runs/train-1", by="eval")            # counted in the manifest; training cannot

Writes data/train.jsonl, dev.jsonl, test.jsonl, dropped.jsonl and card.json. When the same sources, settings and seed were
prepared there before, the files are taken as they are. Memory stays flat: at most 16 bytes a row.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunesmith.core.errors import DataError, ProjectError
from tunesmith.core.files import explain_os_error, hash_file, hash_json, write_json, writing
from tunesmith.core.runs import RunFolder
from tunesmith.core.shelf import shelf
from tunesmith.data.card import Card
from tunesmith.data.fitting import fits
from tunesmith.data.formats import plain, refuse_unread
from tunesmith.data.hashes import HashSet, content_hash
from tunesmith.data.kinds import split_by
from tunesmith.data.read import Reading, hub_splits, read
from tunesmith.data.rows import Row, RowFile, line
from tunesmith.data.split import split as draw
from tunesmith.data.steps import Drop, Step, run_steps

FORMAT = 1
SPLITS = ("train", "dev", "test")
# Verbs that choose something by a score; what they chose would be measured on what it was chosen by.
CHOOSERS = ("train", "sweep", "curve", "ladder", "early stopping")


@dataclass(frozen=True)
class Prepared:
    """Rows in a run folder. The test rows are opened by `open_test` only."""

    folder: Path
    card: Mapping[str, Any]
    reused: bool

    @property
    def train(self) -> RowFile:
        return RowFile(self.folder / "data" / "train.jsonl")

    @property
    def dev(self) -> RowFile:
        """May have no rows."""
        return RowFile(self.folder / "data" / "dev.jsonl")

    @property
    def num_test(self) -> int:
        return int(self.card["splits"]["test"]["rows"])

    @property
    def kind(self) -> str:
        """What the rows are: one of kinds.KINDS."""
        return str(self.card["kind"])

    @property
    def counts(self) -> Mapping[str, Any]:
        """rows_in, rows_out, rows_dropped, and the same by origin with reasons."""
        return self.card["counts"]

    @property
    def hashes(self) -> Mapping[str, str]:
        """sha256 of each split's file, and of the sources."""
        return self.card["hashes"]


def open_test(folder: str | Path, *, by: str) -> RowFile:
    """The test rows of a run, for the verb `by`; each opening is counted in the run's manifest.

    Raises ProjectError for verbs that choose by a score, and when there are no test rows.
    """
    if by in CHOOSERS:
        raise ProjectError(f"{by} asked for the test rows.", wanted="It chooses by the dev rows: data/dev.jsonl.")
    path = Path(folder) / "data" / "test.jsonl"
    if not path.is_file():
        raise ProjectError(f"{folder} has no data/test.jsonl.", wanted="A run whose data has been prepared.")
    rows = RowFile(path)
    if not len(rows):
        raise ProjectError(f"{folder} has no test rows.", fix="Hold some out: data.test=0.1, or a file: data.test=FILE")
    RunFolder.open(folder).count_test_read(by=by)
    return rows


def prepare(
    folder: str | Path,
    *,
    path: Any = None,
    name: str | None = None,
    config: str | None = None,
    split: str | None = None,
    dev: float | str | None = None,
    test: float | str | None = None,
    stratify: str | None = None,
    steps: Sequence[Any] = (),
    seed: int | None = 0,
    kinds: str | Sequence[str] = (),
    root: str | Path = ".",
    helpers: Mapping[str, Any] | None = None,
    before: Mapping[str, str] | None = None,
    **reading: Any,
) -> Prepared:
    """Rows of a source into `folder`/data, split by `seed`; the keywords are those of DataSettings and of `read`.

    dev, test  a share, a number, None (a tenth, 1,000 at most), or a file of its own, which no step touches and whose
               rows are taken out of what is trained on
    steps      names or {name: settings} of the steps shelf, or steps themselves
    kinds      what the method learns from, where the columns can be read in more than one way; rows prepared before
               that fit are taken as they are
    helpers    functions that steps may need: {"ask": ...}
    before     the hashes that an earlier preparation of this run had (`data_hashes` of its manifest): other rows are refused

    Raises DataError and SettingError as `read` and `split` do; nothing is written then but what was there before.
    """
    folder, seed = Path(folder), seed or 0
    kinds = (kinds,) if isinstance(kinds, str) else tuple(kinds)
    given = {"path": path, "name": name, "config": config, "split": split, "dev": dev, "test": test}
    source, own, split = _sources(**given, kinds=kinds, root=root, **reading)
    made = [_step(step) for step in steps]
    opened = [source(part, None) for part in ("train", *own)]
    refuse_unread((file.path for reading_of in opened for file in reading_of.sources), reading)
    data_hash = hash_json([_hash(reading_of) for reading_of in opened])
    settings = {
        "config": config, "split": split, "own": own, "dev": dev, "test": test, "stratify": stratify, "seed": seed,
        "steps": [(step_name, repr(step), step_hash) for step_name, step, step_hash in made], **reading,
    }  # fmt: skip
    key = hash_json([FORMAT, data_hash, settings])
    done = _done(folder, key)
    if done is None or not fits(done["kind"], kinds):
        named = [(step_name, step) for step_name, step, _ in made]
        work = _Work(folder, named, helpers or {}, seed, stratify, before or {})
        sizes: dict[str, Any] = {part: 0 if part in own else size for part, size in (("dev", dev), ("test", test))}
        try:
            card = work.run(source, own, sizes)
        except OSError as error:
            explained = explain_os_error(error, folder)
            if explained is None:
                raise
            raise explained from error
        card["hashes"]["sources"], card["key"] = data_hash, key
        write_json(folder / "data" / "card.json", card)
        prepared = Prepared(folder, json.loads((folder / "data" / "card.json").read_text("utf-8")), False)
    else:
        _refuse_other_rows(folder, done["hashes"], before or {})
        prepared = Prepared(folder, done, True)
    if (folder / "manifest.json").is_file():
        RunFolder.open(folder).update_manifest(data_hashes=dict(prepared.hashes))
    return prepared


def reopen(folder: str | Path) -> Prepared | None:
    """What was prepared in a folder before, when its files are still what they were; for rows that came from no file."""
    card = _card(Path(folder))
    done = None if card is None else _done(Path(folder), card["key"])
    return None if done is None else Prepared(Path(folder), done, True)


class _Work:
    """One preparation: the files being written and what is counted."""

    def __init__(
        self,
        folder: Path,
        steps: list[tuple[str, Step]],
        helpers: Mapping[str, Any],
        seed: int,
        stratify: str | None,
        before: Mapping[str, str],
    ) -> None:
        self.folder, self.data = folder, folder / "data"
        self.steps, self.helpers, self.seed, self.stratify = steps, helpers, seed, stratify
        self.before = before

    def run(self, source: Any, own: list[str], sizes: Mapping[str, Any]) -> dict[str, Any]:
        self.data.mkdir(parents=True, exist_ok=True)
        self.readings: list[Reading] = []
        kept = self.data / ".kept.jsonl"
        with ExitStack() as stack:
            stack.callback(kept.unlink, missing_ok=True)
            self.files = {
                name: stack.enter_context(writing(self.data / f"{name}.jsonl")) for name in (*SPLITS, "dropped")
            }
            self.cards = {name: Card() for name in SPLITS}
            held_out: dict[str, HashSet] = {}
            for part in own:
                held_out[part] = HashSet()
                reading = source(part, self._write_drop)
                self.readings.append(reading)
                for row in self._without(reading, reading, held_out, but=part):
                    held_out[part].add(content_hash(row, split_by(row), seed=self.seed))
                    self._keep(part, row)
            reading = source("train", self._write_drop)
            self.readings.append(reading)
            others = {name for other in self.readings[:-1] for name in (src.name for src in other.sources)}
            for src in reading.sources:
                if src.name in others:
                    raise DataError(
                        f"{src.name} is given twice, to train on and to test on.", fix="Name different files."
                    )

            def dropped(step: str, drop: Drop) -> None:
                self._drop(reading, drop.row, drop.reason, drop.detail, step)

            cleaned = run_steps(reading, self.steps, dropped, self.helpers)
            with open(kept, "wb", buffering=1 << 20) as file:
                for row in self._without(cleaned, reading, held_out):
                    file.write(line(_renewed(row) if self.steps else row))
            rows = RowFile(kept)
            if not len(rows):
                raise DataError("No row is left to train on.", wanted="At least one.", fix=self._reasons())
            where = draw(rows, dev=sizes["dev"], test=sizes["test"], seed=self.seed, stratify=self._stratify(reading))
            for row in rows:
                self._keep(where(row), row)
            if not len(self.cards["train"]):
                raise DataError("No row is left to train on.", wanted="At least one.", fix="data.dev=0 data.test=0")
            self.hashes = {name: _hash_written(self.files[name]) for name in SPLITS}
            _refuse_other_rows(self.folder, self.hashes, self.before)  # before any file takes its place
        card = self._card(where.num_duplicates)
        self.readings.clear()  # they call back here: in that circle the cards' hashes would live on for most of a run
        return card

    def _keep(self, part: str, row: Row) -> None:
        self.files[part].write(line(row))
        self.cards[part].add(row)

    def _without(
        self, rows: Iterable[Row], reading: Reading, held_out: Mapping[str, HashSet], but: str | None = None
    ) -> Iterator[Row]:
        """Rows that are in no file held out for itself."""
        for row in rows:
            by = split_by(row)
            found = content_hash(row, by, seed=self.seed)
            inside = next((part for part, hashes in held_out.items() if part != but and found in hashes), None)
            if inside is None:
                yield row
            else:
                same = "also in" if by == "all" else "prompt also in"
                self._drop(reading, row, f"{same} {inside}", "", "split")

    def _drop(self, reading: Reading, row: Row, reason: str, detail: str, by: str) -> None:
        source = row["origin"].rpartition(":")[0]
        reading.counts.rows_out[source] -= 1
        reading.counts.drop(source, reason)
        self._write_drop({"origin": row["origin"], "reason": reason, "detail": detail, "by": by, "row": row})

    def _write_drop(self, drop: dict[str, Any]) -> None:
        self.files["dropped"].write(line(plain(drop)))

    def _reasons(self) -> str:
        reasons: Counter[str] = Counter()
        for reading in self.readings:
            reasons += sum(reading.counts.dropped.values(), Counter())
        return "Dropped: " + ", ".join(f"{reason} ({number:,})" for reason, number in reasons.most_common())

    def _stratify(self, reading: Reading) -> str | None:
        """The column to stratify by, under the name that rows have for it: their label is no longer a column."""
        labels = {source.shape.columns.get("label") for source in reading.sources if source.shape}
        return "label" if self.stratify and self.stratify in labels else self.stratify

    def _card(self, duplicates: int) -> dict[str, Any]:
        counts: dict[str, Any] = {"rows_in": 0, "rows_out": 0, "rows_dropped": 0, "by_origin": {}, "notes": Counter()}
        for reading in reversed(self.readings):
            part = reading.counts.as_dict()
            for name in ("rows_in", "rows_out", "rows_dropped"):
                counts[name] += part[name]
            if "rows_joined" in part:
                counts["rows_joined"] = counts.get("rows_joined", 0) + part["rows_joined"]
            counts["by_origin"].update(part["by_origin"])
            counts["notes"].update(part["notes"])
        written = sum(map(len, self.cards.values()))
        assert written == counts["rows_out"], f"{written} rows written, {counts['rows_out']} counted"
        assert counts["rows_in"] == counts["rows_out"] + counts["rows_dropped"] + counts.get("rows_joined", 0)
        sources = [source for reading in reversed(self.readings) for source in reading.sources]
        return {
            "format": FORMAT,
            "kind": self.cards["train"].kind,
            "sources": [{**source.as_dict(), "reads_as": str(source.shape)} for source in sources],
            "counts": {**counts, "notes": dict(counts["notes"])},
            "splits": {name: {**card.as_dict(), "file": f"data/{name}.jsonl"} for name, card in self.cards.items()},
            "duplicates": duplicates,
            "prompts_in_train_and_test": self.cards["test"].prompts_shared_with(self.cards["train"]),
            "seed": self.seed,
            "hashes": self.hashes,
        }


def _renewed(row: Row) -> Row:
    from tunesmith.data.read import content_id

    return {**row, "id": content_id(row)}


def hash_sources(*, root: str | Path = ".", steps: Any = (), stratify: Any = None, **given: Any) -> str:
    """The hash of the bytes or rows of a run's sources as they are now: the `sources` of what `prepare` would note.

    The keywords are those of DataSettings.
    """
    source, own, _ = _sources(**given, kinds=(), root=root)
    return hash_json([_hash(source(part, None)) for part in ("train", *own)])


def _sources(
    *, path: Any, name: str | None, config: str | None, split: str | None, dev: Any, test: Any, kinds: tuple[str, ...],
    root: str | Path, **reading: Any,
) -> tuple[Callable[[str, Any], Reading], list[str], str | None]:  # fmt: skip
    """(source of a part: source(part, on_drop), the parts that have a source of their own, the split of the hub's data set)."""
    files = {"dev": _own_file(dev), "test": _own_file(test)}
    hub = {}
    if name is not None and split is None:
        there = hub_splits(name, config)
        split = "train" if "train" in there else there[0] if len(there) == 1 else None
        if split is None:
            raise DataError(
                f"{name} has no split train. Splits: {', '.join(there)}.", fix=f"Say which: data.split: {there[0]}"
            )
        hub = {"dev": "validation" if dev is None else None, "test": "test" if test is None else None}
        hub = {part: other for part, other in hub.items() if other in there and other != split}
    shared: dict[str, Any] = {"root": root, "kinds": kinds, **reading}

    def source(part: str, on_drop: Any) -> Reading:
        if part == "train":
            return read(path, name=name, config=config, split=split, on_drop=on_drop, **shared)
        if part in hub:
            return read(name=name, config=config, split=hub[part], on_drop=on_drop, **shared)
        return read(files[part], on_drop=on_drop, **shared)

    return source, [part for part in ("test", "dev") if files[part] is not None or part in hub], split


def _own_file(size: Any) -> Any:
    return size if size is not None and not isinstance(size, int | float) else None


def _step(spec: Any) -> tuple[str, Step, str]:
    """A step by its spec, with its name and the hash of its file (a changed step is another preparation)."""
    if hasattr(spec, "apply"):
        return type(spec).__name__, spec, ""
    name = spec if isinstance(spec, str) else next(iter(spec))
    step = shelf("steps").make(spec)
    return name, step, hash_file(shelf("steps").path(name))


def _refuse_other_rows(folder: Path, found: Mapping[str, str], before: Mapping[str, str]) -> None:
    changed = [name for name in SPLITS if before.get(name, found[name]) != found[name]]
    if changed:
        raise DataError(
            f"The data of {folder} is no longer what the run was started on: other rows in {', '.join(changed)}.",
            wanted="The same rows, read with the same settings: a run goes on with what it began to learn from.",
            fix="Put them back as they were, or start a new run on the new ones: tunesmith train, without --resume.",
        )


def _hash_written(file: Any) -> str:
    """The hash of a file that is still being written under another name."""
    file.flush()
    return hash_file(file.name)


def _hash(reading: Reading) -> list[str]:
    """What tells these sources from others: their names and the hashes of their bytes or rows."""
    hashes = []
    for source in reading.sources:
        if source.path is not None:
            hashes.append(f"{source.name} {hash_file(source.path)}")
            continue
        if source.fingerprint is not None:
            hashes.append(f"{source.name} {source.fingerprint}")
            continue
        digest = hashlib.sha256()
        for number, record in source.records({}):
            digest.update(json.dumps([number, record], ensure_ascii=True, default=str).encode())
        hashes.append(f"{source.name} {digest.hexdigest()}")
    return hashes


def _card(folder: Path) -> dict[str, Any] | None:
    """The card of an earlier preparation in this folder, if there was one."""
    path = folder / "data" / "card.json"
    if not path.is_file():
        return None
    try:
        card = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise DataError(
            f"{path} is not JSON: {error}.",
            wanted="What preparing the data wrote.",
            fix=f"Remove {path.parent}: rows that came from files are prepared again.",
        ) from None
    return dict(card)


def _done(folder: Path, key: str) -> dict[str, Any] | None:
    """The card of an earlier preparation with this key, when its files are still what they were."""
    card = _card(folder)
    if card is None or card.get("key") != key:
        return None
    same = all(
        (folder / "data" / f"{name}.jsonl").is_file()
        and hash_file(folder / "data" / f"{name}.jsonl") == card["hashes"][name]
        for name in SPLITS
    )
    return card if same and (folder / "data" / "dropped.jsonl").is_file() else None
