"""Files of several kinds stand side by side when the method says that it reads them so."""

import json

import pytest

from tunesmith.core.errors import DataError
from tunesmith.data.prepare import prepare
from tunesmith.data.read import read


def files(folder):
    (folder / "faq.jsonl").write_text(
        "".join(json.dumps({"question": f"{i}?", "answer": f"{i}!"}) + "\n" for i in range(12))
    )
    (folder / "notes.jsonl").write_text("".join(json.dumps({"text": f"note {i}"}) + "\n" for i in range(6)))
    return [folder / "faq.jsonl", folder / "notes.jsonl"]


def test_each_file_has_its_own_shape(tmp_path):
    reading = read(files(tmp_path), kinds=("chat", "text", "mixed"))
    rows = list(reading)
    assert reading.kind == "mixed"
    assert sum("messages" in row for row in rows) == 12 and sum("text" in row for row in rows) == 6
    with pytest.raises(DataError, match="different kinds"):
        list(read(files(tmp_path), kinds=("chat", "text")))


def test_the_card_says_mixed(tmp_path):
    paths = files(tmp_path)
    prepared = prepare(
        tmp_path / "run", path=[str(path) for path in paths], seed=0, kinds=("chat", "text", "mixed"), dev=0.2, test=0
    )
    assert prepared.kind == "mixed"
    assert len(prepared.train) + len(prepared.dev) == 18
    again = prepare(
        tmp_path / "run", path=[str(path) for path in paths], seed=0, kinds=("chat", "text", "mixed"), dev=0.2, test=0
    )
    assert again.reused
