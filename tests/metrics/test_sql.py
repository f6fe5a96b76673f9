"""sql: results compared as the reference asks, queries locked down."""

import sqlite3

import pytest

from tunesmith.core.errors import DataError, SettingError
from tunesmith.metrics.sql import Sql, build, is_ordered, run, same_result

SCHEMA = """
CREATE TABLE city(name TEXT, people INTEGER, area REAL);
INSERT INTO city VALUES ('서울', 9400000, 605.2), ('부산', 3300000, 770.1), ('Jeju', 670000, 1849.2), ('서울', 1, 1.0);
"""


@pytest.fixture
def metric():
    return Sql(schema=SCHEMA, seconds=1.0, rows=100)


def scored(metric, said, gold):
    return metric.score(said, {"answer": gold})["score"]


def test_execution_match_not_text_match(metric):
    gold = "SELECT name FROM city WHERE people > 1000000"
    assert scored(metric, "select c.name from city as c where c.people >= 1000001;", gold) == 1.0
    assert scored(metric, "SELECT name FROM city", gold) == 0.0
    assert scored(metric, "SELECT name, people FROM city WHERE people > 1000000", gold) == 0.0
    assert scored(metric, "```sql\nSELECT name FROM city WHERE people > 1000000\n```", gold) == 1.0


def test_order_counts_only_where_the_reference_orders(metric):
    up, down = "SELECT name FROM city ORDER BY people", "SELECT name FROM city ORDER BY people DESC"
    assert scored(metric, up, down) == 0.0 and scored(metric, down, down) == 1.0
    assert scored(metric, up, "SELECT name FROM city") == 1.0


def test_a_bag_not_a_set(metric):
    assert scored(metric, "SELECT DISTINCT name FROM city", "SELECT name FROM city") == 0.0


def test_numbers_nulls_and_text():
    assert same_result([(1, 0.1 + 0.2)], [(1.0, 0.3)], ordered=True)
    assert same_result([(None,), (2,)], [(2,), (None,)], ordered=False)
    assert not same_result([(1,)], [("1",)], ordered=True)
    assert not same_result([(None,)], [(0,)], ordered=True)
    assert same_result([(1.00000001, "a"), (1.0, "b")], [(1.0, "a"), (1.0, "b")], ordered=False)


@pytest.mark.parametrize(
    "query, ordered",
    [
        ("SELECT a FROM t ORDER  BY a", True),
        ("SELECT a FROM (SELECT a FROM t ORDER BY a LIMIT 3)", False),
        ("SELECT a, row_number() OVER (ORDER BY b) FROM t", False),
        ("SELECT 'order by' FROM t -- order by a", False),
        ('SELECT "order by" FROM t', False),
        ("WITH x AS (SELECT (1)) SELECT * FROM x\norder by 1 /* ) */", True),
    ],
)
def test_where_order_by_stands(query, ordered):
    assert is_ordered(query) is ordered


@pytest.mark.parametrize(
    "query, reason",
    [
        ("DROP TABLE city", "refused"),
        ("INSERT INTO city VALUES ('x', 1, 1)", "refused"),
        ("UPDATE city SET people = 0", "refused"),
        ("ATTACH DATABASE '/tmp/x.db' AS x", "refused"),
        ("PRAGMA table_info(city)", "refused"),
        ("SELECT * FROM pragma_database_list", "refused"),
        ("SELECT load_extension('/tmp/x.so')", "refused"),
        ("BEGIN", "refused"),
        ("CREATE TEMP TABLE x(a)", "refused"),
        ("VACUUM INTO '/tmp/x.db'", "refused"),
        ("", "refused"),
        ("SELECT 1; SELECT 2", "does not run"),
        ("SELECT name FROM town", "does not run"),
        ("SELEC name", "does not run"),
        ("SELECT 'a\x00b", "does not run"),
        ("SELECT zeroblob(900000000)", "does not run"),
        ("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n", "too slow"),
        ("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i FROM n LIMIT 500", "too many rows"),
    ],
)
def test_locked_down(metric, query, reason, tmp_path):
    value = Sql(schema=SCHEMA, seconds=0.2, rows=100).score(query, {"answer": "SELECT 1"})
    assert value["score"] == 0.0 and value["reason"].startswith(reason), value


def test_a_file_is_opened_read_only_and_is_unchanged(tmp_path):
    path = tmp_path / "towns #1?.db"
    with sqlite3.connect(path) as database:
        database.executescript(SCHEMA)
    database.close()
    before = path.read_bytes()
    metric = Sql(database=str(path))
    assert scored(metric, "SELECT count(*) FROM city", "SELECT 4") == 1.0
    assert metric.score("DELETE FROM city", {"answer": "SELECT 4"})["reason"].startswith("refused")
    assert path.read_bytes() == before and [p.name for p in tmp_path.iterdir()] == [path.name]


def test_each_row_its_own_database(tmp_path):
    rows = {"answer": "SELECT a FROM t", "columns": {"tables": "CREATE TABLE t(a); INSERT INTO t VALUES (7);"}}
    assert Sql(column="tables").score("SELECT 7", rows)["score"] == 1.0
    sqlite3.connect(tmp_path / "a.db").close()
    metric = Sql(column="db", read="database", folder=str(tmp_path))
    assert metric.score("SELECT 1", {"answer": "SELECT 1", "columns": {"db": "a.db"}})["score"] == 1.0
    for name, text in (("../b.db", "outside"), ("b.db", "no database")):
        with pytest.raises(DataError, match=text):
            metric.score("SELECT 1", {"answer": "SELECT 1", "columns": {"db": name}})
    with pytest.raises(DataError, match='no column "tables"'):
        Sql(column="tables").check({"answer": "SELECT 1", "columns": {"x": 1}})


def test_a_schema_script_may_only_build_tables(tmp_path):
    for script in (
        f"ATTACH '{tmp_path}/x.db' AS x",
        "PRAGMA journal_mode = WAL",
        "SELECT load_extension('x')",
        "CREATE",
    ):
        with pytest.raises(DataError, match="schema script"):
            build(script)
    assert not list(tmp_path.iterdir())


def test_a_broken_reference_is_the_rows_mistake(metric):
    with pytest.raises(DataError, match="spider.jsonl:9.*no such table"):
        metric.check({"answer": "SELECT * FROM nowhere", "origin": "spider.jsonl:9"})


def test_summary_counts_the_reasons(metric):
    row = {"answer": "SELECT 1"}
    summary = metric.summary([metric.score(q, row) for q in ("SELECT 1", "SELECT 2", "DROP TABLE city", "SELEC")])
    assert summary.value == 0.25 and summary.extra["reasons"] == {"another result": 1, "refused": 1, "does not run": 1}


def test_one_database_must_be_named():
    for settings in ({}, {"database": "a.db", "schema": "x"}, {"schema": "x", "seconds": 0}):
        with pytest.raises(SettingError):
            Sql(**settings)


def test_values_that_are_no_utf8_do_not_stop_the_evaluation():
    with build("CREATE TABLE t(a)") as database:
        assert run(database, "SELECT CAST(x'ff41' AS TEXT)", seconds=1, most_rows=5) == [("\ufffdA",)]
