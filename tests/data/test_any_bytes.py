"""Whatever the bytes of a file are, reading it gives rows or one explained error, never a traceback."""

import gzip
import io
import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tunesmith.core.errors import UserError
from tunesmith.data.read import read
from tunesmith.data.rows import line

ROWS = [
    {"question": "질문?", "answer": 'a "b", c'},
    {"messages": [{"role": "user", "content": "x"}]},
    {"text": "é", "label": 1.5},
]
JSON = json.dumps(ROWS, ensure_ascii=False).encode()
SEEDS = {
    "a.jsonl": b"".join(json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in ROWS),
    "a.json": JSON,
    "b.json": b'{"data": ' + JSON + b', "n": 1}',
    "a.csv": 'question,answer\n"질,\n문","a ""b"""\nc,d\n'.encode(),
    "a.tsv": "질문\t답변\r\n왜\t그냥\r\n".encode("utf-8-sig"),
    "a.jsonl.gz": gzip.compress(JSON, mtime=0),
    "a.txt": "글".encode("cp949"),
}


def binary():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"question": ["q", "r"], "answer": ["a", "b"]})
    made = {}
    for name, write in {"a.parquet": frame.to_parquet, "a.xlsx": frame.to_excel}.items():
        buffer = io.BytesIO()
        write(buffer, index=False)
        made[name] = buffer.getvalue()
    return made


SEEDS |= binary()


@st.composite
def damaged(draw):
    name = draw(st.sampled_from(sorted(SEEDS)))
    content = bytearray(SEEDS[name])
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(content)))
        kind = draw(st.sampled_from(["cut", "put", "change", "repeat"]))
        if kind == "cut":
            del content[at : at + draw(st.integers(1, 40))]
        elif kind == "put":
            content[at:at] = draw(
                st.one_of(
                    st.binary(max_size=6),
                    st.sampled_from([b'"', b"{", b"[", b"\\", b"\n", b"\x00", b",", b"NaN", "뷁".encode()]),
                )
            )
        elif kind == "change" and at < len(content):
            content[at] = draw(st.integers(0, 255))
        else:
            content += content[at : at + 60]
    return name, bytes(content)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(damaged(), st.sampled_from(["error", "drop"]), st.sampled_from([None, "repair", "utf-16", "cp949"]))
def test_rows_or_one_explained_error(tmp_path_factory, file, bad_rows, encoding):
    name, content = file
    path = tmp_path_factory.getbasetemp() / name
    path.write_bytes(content)
    drops = []
    reading = read(path, bad_rows=bad_rows, encoding=encoding, on_drop=drops.append)
    try:
        rows = list(reading)
    except UserError as error:
        assert str(error).strip()
        return
    counts = reading.counts.as_dict()
    assert counts["rows_in"] == counts["rows_out"] + counts["rows_dropped"]
    assert len(rows) == counts["rows_out"] and len(drops) == counts["rows_dropped"]
    for row in (*rows, *drops, *(source.as_dict() for source in reading.sources)):
        line(row)  # can be written: UTF-8, no NaN
