import pickle
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunesmith.data.rows import RowFile, write_rows

texts = st.text(st.characters(exclude_categories=["Cs"]))


@settings(max_examples=50, deadline=None)
@given(st.lists(st.dictionaries(texts, st.one_of(texts, st.integers(), st.none()))))
def test_what_goes_in_comes_out(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("rows") / "a.jsonl"
    assert write_rows(path, rows) == len(rows)
    file = RowFile(path)
    assert len(file) == len(rows) and list(file) == rows
    if rows:
        assert file[-1] == rows[-1] and pickle.loads(pickle.dumps(file))[0] == rows[0]
    with pytest.raises(IndexError):
        file[len(rows)]


def test_last_line_without_newline(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"a": 1}\n{"a": 2}')
    assert [row["a"] for row in RowFile(path)] == [1, 2]


def test_a_write_that_fails_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.jsonl"
    write_rows(path, [{"a": 1}])
    with pytest.raises(ValueError):
        write_rows(path, [{"a": 2}, {"a": float("nan")}])
    assert list(RowFile(path)) == [{"a": 1}]
    assert [child.name for child in tmp_path.iterdir()] == ["a.jsonl"]


def test_memory_is_eight_bytes_a_row(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"text": "a row of some length, so that the file is bigger than its index"}\n' * 200_000)
    tracemalloc.start()
    file = RowFile(path)
    file[199_999]
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(file) == 200_000 and size < 10 * 200_000
