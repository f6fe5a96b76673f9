"""sql: the query an answer holds returns what the reference query returns, on a real SQLite database (execution match).

Use it for text-to-SQL: two queries may be written differently and mean the same.

Formula: answers whose result equals the reference's / answers.

Source: Yu et al. 2018 (Spider), arXiv 1809.08887; execution match: Zhong et al. 2020, arXiv 2010.02840.

SQL: 답의 질의를 실제 SQLite에서 돌려 기준 질의와 같은 결과를 내는 비율입니다. 쓰기와 설정 변경은 막혀 있고 시간과 크기도
제한됩니다.

>>> metric = Sql(schema="CREATE TABLE pets(name, age); INSERT INTO pets VALUES ('Bori', 3), ('Nabi', 5);")
>>> metric.score("SELECT name FROM pets WHERE age > 4", {"answer": "SELECT name FROM pets ORDER BY age DESC LIMIT 1"})["score"]
1.0

A model's query runs locked down: the database is opened read-only, only SELECT, reading columns and functions are allowed (no ATTACH,
PRAGMA, write, load_extension), one statement, with limits on time, rows and the size of any value. Rows are compared in order
when the reference query orders them (ORDER BY outside any parentheses), otherwise as a bag; columns by position, not by name.
"""

import math
import re
import sqlite3
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

from tunesmith.core.errors import DataError, SettingError
from tunesmith.metrics._text import out_of_fence
from tunesmith.metrics._values import Summary, mean_summary, origin_of, references

ALLOWED = {sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_RECURSIVE}
FORBIDDEN_FUNCTIONS = {"load_extension", "fts3_tokenizer", "readfile", "writefile", "edit"}
LONGEST_VALUE = 1_000_000  # bytes of one text or blob
BUILD_ALLOWED = {
    getattr(sqlite3, f"SQLITE_{name}")
    for name in [
        "SELECT",
        "READ",
        "FUNCTION",
        "INSERT",
        "UPDATE",
        "DELETE",
        "TRANSACTION",
        "CREATE_TABLE",
        "CREATE_INDEX",
        "CREATE_VIEW",
        "CREATE_TEMP_TABLE",
        "CREATE_TEMP_INDEX",
        "REINDEX",
        "DROP_TABLE",
        "DROP_INDEX",
        "DROP_VIEW",
        "ALTER_TABLE",
        "ANALYZE",
        "SAVEPOINT",
    ]
}


class QueryFailed(Exception):
    """A query did not run to its end; the text says why."""


@dataclass(frozen=True)
class Sql:
    """Share of answers whose query returns the reference's result; the reasons of the others are counted in `extra`."""

    database: str = ""
    """SQLite file that all rows ask.

    모든 행이 질의하는 SQLite 파일."""
    schema: str = ""
    """SQL script that builds the database in memory instead (CREATE TABLE ...; INSERT ...).

    대신 메모리에 데이터베이스를 만드는 SQL 스크립트(CREATE TABLE ...; INSERT ...)."""
    column: str = ""
    """Column of the row that holds its own schema script or file name, as `read` says, for sets with many databases.

    행마다 자기 데이터베이스가 있을 때, 그 스크립트나 파일 이름이 든 열(`read`가 정함)."""
    read: Literal["schema", "database"] = "schema"
    """What that column holds.

    그 열에 무엇이 들어 있는지."""
    folder: str = "."
    """Files named by rows must lie in this folder.

    행이 가리키는 파일은 이 폴더 안에 있어야 합니다."""
    seconds: float = 5.0
    """Time limit of one query.

    질의 하나의 시간 제한(초)."""
    rows: int = 10_000
    """A query that returns more rows than this has failed.

    이보다 많은 행을 돌려주는 질의는 실패로 봅니다."""
    fenced: bool = True
    """Take the query out of a ```sql fence when the answer has one.

    답에 ```sql 울타리가 있으면 그 안의 질의를 꺼냅니다."""

    def __post_init__(self) -> None:
        if sum(map(bool, (self.database, self.schema, self.column))) != 1:
            raise SettingError(
                "The metric sql needs one database.",
                wanted="Exactly one of `database` (a file), `schema` (a script) and `column` (of the row).",
            )
        if self.seconds <= 0 or self.rows <= 0:
            raise SettingError("The metric sql needs limits above 0.", wanted="seconds > 0 and rows > 0.")

    def check(self, row: Mapping[str, Any]) -> None:
        """Run the reference queries, so that a broken one is found before anything is generated."""
        for gold in references(row):
            self._gold(gold, row)

    def score(self, prediction: str, row: Mapping[str, Any]) -> dict[str, Any]:
        """Score 1.0 when the result is that of a reference query, else 0.0 with the reason."""
        wanted = [(self._gold(gold, row), is_ordered(gold)) for gold in references(row)]
        try:
            with closing(self._open(row)) as database:
                said = run(database, self._query(prediction), seconds=self.seconds, most_rows=self.rows)
        except QueryFailed as error:
            return {"score": 0.0, "reason": str(error)}
        if any(same_result(said, result, ordered=ordered) for result, ordered in wanted):
            return {"score": 1.0}
        return {"score": 0.0, "reason": "another result"}

    def summary(self, values: Sequence[Any]) -> Summary:
        """Execution accuracy with its Wilson interval; `extra`: how many failed for which reason."""
        reasons = Counter(value["reason"].partition(":")[0] for value in values if not value["score"])
        return mean_summary(values, extra={"reasons": dict(reasons.most_common())})

    def _query(self, text: str) -> str:
        return (out_of_fence(text, "sql|sqlite") if self.fenced else text).strip()

    def _gold(self, query: str, row: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        try:
            with closing(self._open(row)) as database:
                return run(database, query, seconds=self.seconds, most_rows=self.rows)
        except QueryFailed as error:
            raise DataError(
                f"{origin_of(row)}: its reference query does not run: {error}",
                wanted=f"A single SELECT that ends within {self.seconds:g} s and {self.rows:,} rows: {query[:200]}",
            ) from None

    def _open(self, row: Mapping[str, Any]) -> sqlite3.Connection:
        if self.database:
            return open_file(Path(self.database))
        if self.schema:
            return build(self.schema)
        columns = row.get("columns") or {}
        if self.column not in columns:
            raise DataError(
                f'{origin_of(row)} has no column "{self.column}".',
                wanted=f"The {self.read} its query is about. Found: {', '.join(columns) or 'no columns'}.",
            )
        if self.read == "schema":
            return build(str(columns[self.column]))
        path = Path(self.folder, str(columns[self.column]))
        if not path.resolve().is_relative_to(Path(self.folder).resolve()):
            raise DataError(f"{path} lies outside {self.folder}.", wanted="Databases inside the metric's folder.")
        return open_file(path)


def open_file(path: Path) -> sqlite3.Connection:
    """A database file, read-only."""
    if not path.is_file():
        raise DataError(f"There is no database {path}.", wanted="An SQLite file.")
    return sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True, isolation_level=None)


def build(script: str) -> sqlite3.Connection:
    """A database in memory out of a schema script, which may create and fill tables and nothing else."""
    database = sqlite3.connect(":memory:", isolation_level=None)
    database.set_authorizer(
        lambda action, first, second, *_: (
            sqlite3.SQLITE_OK if action in BUILD_ALLOWED and _harmless(action, second) else sqlite3.SQLITE_DENY
        )
    )
    until = time.monotonic() + 30
    database.set_progress_handler(lambda: time.monotonic() > until, 10_000)
    try:
        database.executescript(script)
    except sqlite3.Error as error:
        database.close()
        raise DataError(
            f"A schema script does not run: {error}", wanted=f"CREATE and INSERT for SQLite: {script[:200]}"
        ) from None
    return database


def run(database: sqlite3.Connection, query: str, *, seconds: float, most_rows: int) -> list[tuple[Any, ...]]:
    """The rows of one SELECT, run locked down. QueryFailed when it is refused, broken, too slow or too long."""
    database.set_authorizer(None)  # that of `build`, which allows no PRAGMA
    database.execute("PRAGMA query_only = ON")
    database.execute("PRAGMA trusted_schema = OFF")
    database.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, LONGEST_VALUE)
    database.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, 0)
    database.setlimit(sqlite3.SQLITE_LIMIT_LIKE_PATTERN_LENGTH, 1_000)
    until = time.monotonic() + seconds
    late = False

    def out_of_time() -> bool:
        nonlocal late
        late = time.monotonic() > until
        return late

    database.set_authorizer(
        lambda action, first, second, *_: (
            sqlite3.SQLITE_OK if action in ALLOWED and _harmless(action, second) else sqlite3.SQLITE_DENY
        )
    )
    database.set_progress_handler(out_of_time, 1_000)
    database.text_factory = lambda raw: raw.decode("utf-8", "replace")
    try:
        rows = database.execute(query).fetchmany(most_rows + 1)
    except (sqlite3.Error, sqlite3.Warning, ValueError, OverflowError) as error:
        if late:
            raise QueryFailed(f"too slow: over {seconds:g} s") from None
        kind = "refused" if re.search("authori[sz]|prohibited", str(error)) else "does not run"
        raise QueryFailed(f"{kind}: {error}") from None
    if not rows and not _is_query(query):
        raise QueryFailed("refused: not a query")
    if len(rows) > most_rows:
        raise QueryFailed(f"too many rows: over {most_rows:,}")
    return rows


def same_result(a: Sequence[tuple[Any, ...]], b: Sequence[tuple[Any, ...]], *, ordered: bool) -> bool:
    """Equal rows, in order or as a bag; numbers equal within 1e-6 of their size, 1 = 1.0, text by its exact characters."""
    if len(a) != len(b) or (a and b and len(a[0]) != len(b[0])):
        return False
    if not ordered:
        a, b = sorted(a, key=_sort_key), sorted(b, key=_sort_key)
    return all(_same_value(x, y) for one, other in zip(a, b) for x, y in zip(one, other))


def is_ordered(query: str) -> bool:
    """Whether the outermost query has an ORDER BY: texts, comments and parentheses taken out first."""
    plain = re.sub(
        r"'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|`[^`]*`|\[[^\]]*\]|--[^\n]*|/\*.*?\*/", " x ", query, flags=re.DOTALL
    )
    while (shorter := re.sub(r"\([^()]*\)", " x ", plain)) != plain:
        plain = shorter
    return re.search(r"\border\s+by\b", plain, re.IGNORECASE) is not None


def _is_query(query: str) -> bool:
    plain = re.sub(r"--[^\n]*|/\*.*?\*/", " ", query, flags=re.DOTALL).strip().lower()
    return plain.startswith(("select", "with", "values"))


def _harmless(action: int, function: str | None) -> bool:
    return action != sqlite3.SQLITE_FUNCTION or (function or "").lower() not in FORBIDDEN_FUNCTIONS


def _sort_key(row: tuple[Any, ...]) -> tuple[Any, ...]:
    # numbers by 6 significant digits, so that two almost equal ones do not change the order of the columns behind them
    return tuple(
        (0, 0) if value is None else (1, float(f"{value:.5e}")) if isinstance(value, (int, float)) else (2, str(value))
        for value in row
    )


def _same_value(a: Any, b: Any) -> bool:
    if isinstance(a, (int, float)) and isinstance(b, (int, float)):
        return math.isclose(a, b, rel_tol=1e-6, abs_tol=1e-9)
    return type(a) is type(b) and a == b
