"""Every results file of the repository has a table, and the tables are made from nothing else."""

import pytest
from benchmarks import tables
from benchmarks.common import RESULTS


def test_every_results_file_is_told() -> None:
    assert {file.stem for file in RESULTS.glob("*.json")} <= set(tables.TABLES)


@pytest.mark.parametrize("name", tables.TABLES)
def test_a_table_is_made_of_what_is_there(name: str) -> None:
    told = tables.table(name)
    if (RESULTS / f"{name}.json").exists():
        assert "Measured 20" in told and len(told.splitlines()) > 2 and "nan" not in told.split()
    else:
        assert told == "Not measured yet."


def test_results_that_go_on_bear_the_date_of_their_last_run(tmp_path, monkeypatch):
    from benchmarks import common

    monkeypatch.setattr(common, "RESULTS", tmp_path)
    common.write_results(
        "some", {"date": "1999-12-31 00:00:00", "machine": {"processor": "another"}, "cases": {"a": 1}}
    )
    found = common.read_results("some")
    assert found["date"] > "2026" and found["machine"]["processor"] == common.processor() and found["cases"] == {"a": 1}
