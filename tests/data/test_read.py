import gzip
import json
import tracemalloc
import unicodedata

import pytest

from tunesmith.core.errors import DataError, SettingError, UserError
from tunesmith.data.read import clean, content_id, read

ROWS = [{"question": f"질문 {i}?", "answer": f"답 {i}."} for i in range(3)]
LINES = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS)


def chat(prompt, answer):
    return [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}]


EXPECTED = [chat(row["question"], row["answer"]) for row in ROWS]


def put(tmp_path, name, content):
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def said(reading):
    return [row["messages"] for row in reading]


def as_csv(rows, delimiter=",", end="\n"):
    return (
        end.join(
            delimiter.join(f'"{cell}"' for cell in line) for line in [list(rows[0]), *(row.values() for row in rows)]
        )
        + end
    )


def table(module, tmp_path, name):
    pandas = pytest.importorskip("pandas")
    path = tmp_path / name
    getattr(pandas.DataFrame(ROWS), module)(path, index=False)
    return path


# --- every format gives the same rows


@pytest.mark.parametrize(
    ("name", "content", "first"),
    [
        ("a.jsonl", LINES, "a.jsonl:1"),
        ("a.jsonl", LINES.replace("\n", "\r\n"), "a.jsonl:1"),
        ("a.jsonl", "\ufeff" + LINES.replace("\n", "\n\n").rstrip(), "a.jsonl:1"),
        ("a.jsonl", json.dumps(ROWS, indent=1), "a.jsonl:2"),
        ("a.jsonl", json.dumps(ROWS), "a.jsonl:1"),
        ("a.jsonl.gz", gzip.compress(LINES.encode(), mtime=0), "a.jsonl.gz:1"),
        ("packed_without_saying.jsonl", gzip.compress(LINES.encode(), mtime=0), "packed_without_saying.jsonl:1"),
        ("a.json", json.dumps(ROWS, indent=2, ensure_ascii=False), "a.json:2"),
        ("a.json", json.dumps({"version": 1, "data": ROWS, "by": ["me"]}, indent=2), "a.json:4"),
        ("a.json", LINES, "a.json:1"),
        ("a.json", "".join(json.dumps(row, indent=4) for row in ROWS), "a.json:1"),
        ("a.json", json.dumps({key: [row[key] for row in ROWS] for key in ROWS[0]}), "a.json:1"),
        ("a.csv", as_csv(ROWS), "a.csv:2"),
        ("a.csv", "\ufeff" + as_csv(ROWS, end="\r\n"), "a.csv:2"),
        ("a.csv", as_csv(ROWS, ";").replace('"', ""), "a.csv:2"),
        ("a.csv", as_csv(ROWS, "|"), "a.csv:2"),
        ("a.csv", as_csv(ROWS, "\t"), "a.csv:2"),
        ("a.tsv", as_csv(ROWS, "\t").replace('"', ""), "a.tsv:2"),
        ("a.csv.gz", gzip.compress(as_csv(ROWS).encode(), mtime=0), "a.csv.gz:2"),
    ],
)
def test_formats(tmp_path, name, content, first):
    reading = read(put(tmp_path, name, content))
    rows = list(reading)
    assert [row["messages"] for row in rows] == EXPECTED
    assert rows[0]["origin"] == first
    assert all("columns" not in row for row in rows)
    counts = reading.counts.as_dict()
    assert (counts["rows_in"], counts["rows_out"], counts["rows_dropped"]) == (3, 3, 0)
    # reading once more gives the same
    assert [row["id"] for row in reading] == [row["id"] for row in rows]


@pytest.mark.parametrize(("module", "name", "first"), [("to_parquet", "a.parquet", 1), ("to_excel", "a.xlsx", 2)])
def test_binary_tables(tmp_path, module, name, first):
    path = table(module, tmp_path, name)
    rows = list(read(path))
    assert [row["messages"] for row in rows] == EXPECTED and rows[0]["origin"] == f"{name}:{first}"
    assert said(read(put(tmp_path, name + ".gz", gzip.compress(path.read_bytes())))) == EXPECTED
    assert said(read(put(tmp_path, "an_ending_that_lies.csv", path.read_bytes()))) == EXPECTED
    broken = put(tmp_path, "broken" + path.suffix, path.read_bytes()[:-40])
    with pytest.raises(DataError, match="cannot be read as"):
        list(read(broken))


def test_sheets_and_cells_as_people_see_them(tmp_path):
    openpyxl = pytest.importorskip("openpyxl")
    import datetime

    book = openpyxl.Workbook()
    book.active.title = "faq"
    for line in (["question", "answer", "when"], ["2+2?", 4, datetime.datetime(2024, 1, 2)], [], ["half?", 0.5, None]):
        book.active.append(line)
    book.save(tmp_path / "a.xlsx")
    rows = list(read(tmp_path / "a.xlsx"))
    assert [row["messages"][1]["content"] for row in rows] == ["4", "0.5"]
    assert rows[0]["columns"] == {"when": "2024-01-02"} and rows[1]["origin"] == "a.xlsx:4"
    book.create_sheet("more").append(["x"])
    book.save(tmp_path / "b.xlsx")
    with pytest.raises(DataError, match="2 sheets with rows: faq, more.\nSay which"):
        list(read(tmp_path / "b.xlsx"))
    assert len(list(read(tmp_path / "b.xlsx", sheet="faq"))) == 2
    with pytest.raises(UserError, match='no sheet "fak".\nDid you mean: faq'):
        list(read(tmp_path / "b.xlsx", sheet="fak"))


def test_cells_over_many_lines_and_quotes_inside(tmp_path):
    content = 'question,answer\n"two\nlines","he said ""no"", twice"\nplain,"a, b"\n'
    rows = list(read(put(tmp_path, "a.csv", content)))
    assert [row["messages"] for row in rows] == [chat("two\nlines", 'he said "no", twice'), chat("plain", "a, b")]
    assert [row["origin"] for row in rows] == ["a.csv:2", "a.csv:4"]
    rows = list(read(put(tmp_path, "b.csv", 'question,answer\n"a \\"b\\"","c"\n"d","e, \\"f\\""\n')))
    assert [row["messages"] for row in rows] == [chat('a "b"', "c"), chat("d", 'e, "f"')]


def test_a_table_without_header(tmp_path):
    path = put(tmp_path, "a.tsv", "0\t0\t메일을 지울까?\r\n0\t1\t다 지워.\r\n")
    with pytest.raises(DataError, match="Found: column_1, column_2, column_3"):
        list(read(path))
    rows = list(read(path, columns={"text": "column_3", "label": "column_2"}))
    assert [(row["text"], row["label"], row["origin"]) for row in rows] == [
        ("메일을 지울까?", "0", "a.tsv:1"), ("다 지워.", "1", "a.tsv:2"),
    ]  # fmt: skip
    words = put(tmp_path, "b.csv", "안녕,반가워\n잘 가,또 봐\n")
    with pytest.raises(DataError, match="data.header: false"):
        list(read(words))
    named = {"question": "column_1", "answer": "column_2"}
    assert said(read(words, header=False, columns=named)) == [chat("안녕", "반가워"), chat("잘 가", "또 봐")]


def test_one_column_with_commas_inside_is_one_column(tmp_path):
    path = put(tmp_path, "a.csv", "text\nhello there\nbye\n")
    assert [row["text"] for row in read(path)] == ["hello there", "bye"]


def test_text_files_and_folders(tmp_path):
    for name, text in {"b.txt": "둘", "a.md": "하나\n\n줄", "in/c.txt": "셋"}.items():
        put(tmp_path, f"docs/{name}", text)
    put(tmp_path, "docs/.hidden", "x")
    rows = list(read(tmp_path / "docs"))
    assert [(row["text"], row["origin"]) for row in rows] == [
        ("하나\n\n줄", "a.md:1"),
        ("둘", "b.txt:1"),
        ("셋", "c.txt:1"),
    ]
    lines = list(read(tmp_path / "docs" / "a.md", format="lines"))
    assert [(row["text"], row["origin"]) for row in lines] == [("하나", "a.md:1"), ("줄", "a.md:3")]


def test_several_files_folders_of_them_and_patterns(tmp_path):
    for part in ("x", "y"):
        put(tmp_path, f"{part}/part.jsonl", LINES)
    rows = list(read([tmp_path / "x" / "part.jsonl", tmp_path / "y" / "part.jsonl"]))
    assert [row["origin"] for row in rows][::3] == ["x/part.jsonl:1", "y/part.jsonl:1"]
    reading = read("*/part.jsonl", root=tmp_path)
    assert len(list(reading)) == 6
    assert list(reading.counts.as_dict()["by_origin"]) == ["x/part.jsonl", "y/part.jsonl"]
    assert len(list(read("x", root=tmp_path))) == 3
    with pytest.raises(DataError, match="named twice"):
        read(["x/part.jsonl", "x"], root=tmp_path)


def test_python_objects():
    pandas = pytest.importorskip("pandas")
    columns = {key: [row[key] for row in ROWS] for key in ROWS[0]}
    for source in (ROWS, tuple(ROWS), columns, pandas.DataFrame(ROWS)):
        rows = list(read(source))
        assert [row["messages"] for row in rows] == EXPECTED
    assert rows[0]["origin"] == "frame:1"
    assert said(read(ROWS[0])) == EXPECTED[:1]
    frame = pandas.DataFrame({"text": ["a", "b"], "label": [1, 0], "n": [1.0, float("nan")]})
    row = list(read(frame))[1]
    assert (row["text"], row["label"], row["columns"]) == ("b", 0, {"n": None})
    json.dumps(row, allow_nan=False)
    with pytest.raises(DataError, match="different or no length: a 2, b 1"):
        read({"a": [1, 2], "b": [1]})
    with pytest.raises(DataError, match="given as int"):
        read(7)
    with pytest.raises(DataError, match="rows has no rows"):
        list(read([]))


# --- the hub, offline


def test_a_hub_data_set_from_the_cache(hub):
    reading = read(name=hub, config="ynat", split="validation", columns={"text": "title"})
    rows = list(reading)
    assert [(row["text"], row["label"]) for row in rows] == [("validation 하나", "정치"), ("validation 둘", "경제")]
    assert rows[0]["origin"] == "some/topics/ynat/validation:1"
    with pytest.raises(DataError, match="has no split trian. Splits: train, validation.\nSay which: data.split: train"):
        read(name=hub, config="ynat", split="trian")
    with pytest.raises(DataError, match="some/other cannot be loaded|some/other.*cannot be loaded"):
        read(name="some/other")


@pytest.mark.parametrize("error", ["DatasetGenerationError", "NonMatchingSplitsSizesError", "DatasetNotFoundError"])
def test_what_the_hubs_library_raises_is_told(monkeypatch, error):
    datasets = pytest.importorskip("datasets")

    def load(name, config):
        raise getattr(datasets.exceptions, error)("An error occurred while generating the dataset\nline 3 is no JSON")

    monkeypatch.setattr(datasets, "load_dataset", load)
    with pytest.raises(DataError, match="some/set cannot be loaded: An error occurred") as caught:
        read(name="some/set")
    assert caught.value.fix == "line 3 is no JSON"


# --- what is wrong is said


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.jsonl", "", "is empty"),
        ("a.jsonl", "\n \n", "has no rows"),
        ("a.csv", "", "is empty"),
        ("a.csv", "question,answer\n", "has no rows"),
        ("a.json", "[]", "has no rows"),
        (
            "a.json",
            '[{"question": "q", "answer": "a"}, {"question": "q", "ans',
            r"a.json:1 is not JSON: the file ends in the middle of a value",
        ),
        ("a.json", '{"data": [{"question": "q", "answer": "a"}', r"not JSON: expected ,, the file ends"),
        ("a.json", '[{"a": 1} {"b": 2}]', r"a.json:1 is not JSON: expected ,, got \{"),
        ("a.json", "hello", r"expected \[ or \{"),
        (
            "a.jsonl",
            '{"question": "q", "answer": "a"}\n{"question": "q", "ans',
            r"a.jsonl:2  expected a JSON object, ends early at column 19",
        ),
        (
            "a.jsonl",
            '{"question": "q", "answer": "a"}\n[1]\n',
            r"a.jsonl:2  expected an object with columns, got \[1\]",
        ),
        ("a.jsonl", '{"question": "q", "question": "r", "answer": "a"}\n', 'key "question" stands 2 times'),
        ("a.json", '[{"question": "q", "question": "r", "answer": "a"}]', 'key "question" stands 2 times'),
        ("a.json", '{"question": "q", "question": "r", "answer": "a"}', 'key "question" stands twice'),
        ("a.jsonl", '{"question": "q", "answer": "a", "score": NaN}\n', "NaN is not JSON"),
        ("a.jsonl", '{"question": "q", "answer": "half \\ud83d"}\n', "answer: half of a surrogate pair"),
        ("a.jsonl", b'{"question": "q", "answer": "\xff"}\n', "byte 0xff after"),
        ("a.jsonl", '{"question": "q", "answer": "ì•ˆë…•"}\n', r'answer: "ì•ˆë…•" at character 1 should be "안녕"'),
        ("a.csv", "question,answer\na,b\nc,d,e\n", r"a.csv:3  expected 2 cells, got 3 \(a comma"),
        ("a.csv", 'question,answer\na,b\n"c,d\ne,f\n', r"a.csv:3 opens a quote that is never closed; the 1 lines"),
        ("a.csv", "answer,answer\na,b\n", 'names the column "answer" 2 times'),
        ("a.dat", "x", "an ending that says nothing"),
        ("a.jsonl", "{" * 100_000, "not JSON|nested too deeply"),
        ("a.jsonl", "<html><body>404</body></html>\n", "expected a JSON object"),
    ],
)
def test_each_mistake_is_one_clear_error(tmp_path, name, content, says):
    with pytest.raises(UserError, match=says):
        list(read(put(tmp_path, name, content)))


def test_a_file_that_is_not_there(tmp_path):
    put(tmp_path, "data/questions.jsonl", LINES)
    with pytest.raises(DataError, match=r"There is no file .*quetsions.jsonl.\nDid you mean: .*questions.jsonl"):
        read("data/quetsions.jsonl", root=tmp_path)
    with pytest.raises(DataError, match="Did you mean: .*data"):
        read("dta/questions.jsonl", root=tmp_path)
    with pytest.raises(DataError, match="data.name: klue"):
        read("klue", root=tmp_path)
    with pytest.raises(DataError, match='No file matches "data/.*.csv"'):
        read("data/*.csv", root=tmp_path)
    with pytest.raises(DataError, match="No data is given"):
        read(None)


def test_folders_that_are_not_clear(tmp_path):
    put(tmp_path, "a/train.csv", as_csv(ROWS))
    put(tmp_path, "a/test.csv", as_csv(ROWS))
    with pytest.raises(DataError, match="holds test.csv, which seems to be kept for testing"):
        read("a", root=tmp_path)
    put(tmp_path, "b/x.csv", as_csv(ROWS))
    put(tmp_path, "b/README.md", "about")
    with pytest.raises(DataError, match=r"more than text files.*\n.*b/\*.csv"):
        read("b", root=tmp_path)
    (tmp_path / "c").mkdir()
    with pytest.raises(DataError, match="folder .* is empty"):
        read("c", root=tmp_path)


def test_files_of_different_kinds_are_not_mixed(tmp_path):
    put(tmp_path, "a.jsonl", LINES)
    put(tmp_path, "b.jsonl", '{"text": "x"}\n')
    with pytest.raises(DataError, match="different kinds of rows: a.jsonl is chat; b.jsonl is text"):
        list(read(["a.jsonl", "b.jsonl"], root=tmp_path))


BAD = [
    '{"question": "ok", "answer": "ok"}', '{"question": "q", "answer": 4}', "{broken", '{"question": "q"}',
    '{"question": "q", "answer": ""}', '{"question": 1, "answer": "a"}', '{"question": "q", "answer": ["a"]}',
    '{"question": "fine", "answer": "fine"}',
]  # fmt: skip


def test_the_first_five_offenders_and_the_count(tmp_path):
    path = put(tmp_path, "faq.jsonl", "\n".join(BAD))
    with pytest.raises(DataError) as caught:
        list(read(path))
    assert str(caught.value).splitlines() == [
        "6 of 8 rows cannot be used:",
        "  faq.jsonl:2  answer: expected text, got a number 4",
        "  faq.jsonl:3  expected a JSON object, Expecting property name enclosed in double quotes at column 2: {broken",
        '  faq.jsonl:4  has no "answer". Found: question',
        "  faq.jsonl:5  answer: empty",
        "  faq.jsonl:6  question: expected text, got a number 1",
        "  ... and 1 more",
        "Reasons: wrong type (3), not JSON (1), missing field (1), empty answer (1)",
        'Numbers and lists become text by a template: data.answer: "{{ NAME }}"',
        "Correct them, or go on without them: data.bad_rows: drop",
    ]


def test_bad_rows_can_be_dropped_and_are_counted(tmp_path):
    drops = []
    reading = read(put(tmp_path, "faq.jsonl", "\n".join(BAD)), bad_rows="drop", on_drop=drops.append)
    assert said(reading) == [chat("ok", "ok"), chat("fine", "fine")]
    counts = reading.counts.as_dict()
    assert counts["by_origin"]["faq.jsonl"] == {
        "rows_in": 8, "rows_out": 2, "rows_dropped": 6,
        "reasons": {"wrong type": 3, "not JSON": 1, "missing field": 1, "empty answer": 1},
    }  # fmt: skip
    assert [drop["origin"] for drop in drops] == [f"faq.jsonl:{i}" for i in range(2, 8)]
    assert drops[0]["row"] == {"question": "q", "answer": 4} and drops[1]["row"] == {"raw": "{broken"}
    with pytest.raises(DataError, match="No row of b.jsonl can be used"):
        list(read(put(tmp_path, "b.jsonl", BAD[1]), bad_rows="drop"))
    with pytest.raises(SettingError, match="error or drop"):
        read(tmp_path / "faq.jsonl", bad_rows="skip")


def test_one_broken_byte_drops_one_row_but_another_encoding_is_an_error(tmp_path):
    lines = [line.encode() for line in LINES.splitlines(keepends=True)]
    lines[1] = lines[1].replace("답".encode(), b"\xb4\xe4")
    reading = read(put(tmp_path, "a.jsonl", b"".join(lines)), bad_rows="drop")
    assert said(reading) == [EXPECTED[0], EXPECTED[2]]
    korean = put(tmp_path, "b.jsonl", LINES.encode("cp949"))
    with pytest.raises(DataError, match="CP949.*\n.*\n.*data.encoding: cp949"):
        list(read(korean, bad_rows="drop"))
    assert said(read(korean, encoding="cp949")) == EXPECTED
    csv = put(tmp_path, "c.csv", as_csv([{"질문": "왜?", "답변": "그냥"}] * 3).encode("cp949"))
    with pytest.raises(DataError, match="CP949"):
        list(read(csv))
    assert said(read(csv, encoding="euc-kr"))[0] == chat("왜?", "그냥")
    # far behind the head that is looked at first
    late = json.dumps({"question": "a", "answer": "b" * 10_000}) + "\n"
    late = late * 150
    far = put(tmp_path, "d.jsonl", late.encode() + LINES.encode("cp949"))
    with pytest.raises(DataError, match=r"line 151\)"):
        list(read(far))


def test_text_encoded_twice_is_refused_repaired_or_kept(tmp_path):
    twice = "안녕하세요".encode().decode("latin-1")
    path = put(tmp_path, "a.jsonl", json.dumps({"question": twice, "answer": "ok"}))
    with pytest.raises(DataError, match="data.encoding: repair"):
        list(read(path))
    reading = read(path, encoding="repair")
    assert said(reading) == [chat("안녕하세요", "ok")]
    assert reading.counts.notes == {"text encoded twice, put right": 1}
    assert said(read(path, encoding="utf-8")) == [chat(twice, "ok")]


def test_text_is_brought_to_nfc_and_counted():
    apart = unicodedata.normalize("NFD", "한국어")
    reading = read([{"question": apart, "answer": "a"}, {"question": "한국어", "answer": "a"}])
    rows = list(reading)
    assert rows[0]["messages"] == rows[1]["messages"] and rows[0]["id"] == rows[1]["id"]
    assert reading.counts.notes == {"text brought to NFC": 1}
    record, found = clean({apart: [{apart: apart}]})
    assert record == {"한국어": [{"한국어": "한국어"}]} and list(found) == ["text brought to NFC"]


def test_ids_are_of_the_content():
    one, two = {"text": "a", "label": 1}, {"text": "a", "label": 2}
    assert content_id(one) == content_id({**one, "origin": "x:1", "columns": {"b": 1}}) != content_id(two)
    assert len(content_id(one)) == 16


def test_labels_are_named_and_rows_weighed():
    rows = list(read([{"text": "a", "label": 1}, {"text": "b", "label": "0"}], label_names=("bad", "good")))
    assert [row["label"] for row in rows] == ["good", "bad"]
    with pytest.raises(DataError, match="label 2: data.label_names names 2 labels"):
        list(read([{"text": "a", "label": 2}], label_names=("bad", "good")))
    rows = list(read([{"question": "q", "answer": "a", "w": 0.5}], weight="w"))
    assert rows[0]["messages"][1] == {"role": "assistant", "content": "a", "weight": 0.5}
    assert next(iter(read([{"text": "a", "w": "2"}], weight="w")))["weight"] == 2.0
    with pytest.raises(DataError, match="w: expected a number >= 0, got 'x'"):
        list(read([{"text": "a", "w": "x"}], weight="w"))


def test_a_shape_that_changes_in_the_middle_names_the_line(tmp_path):
    content = LINES * 40 + '{"question": "q", "reply": "a"}\n' + LINES
    with pytest.raises(DataError, match=r'faq.jsonl:121  has no "answer". Found: question, reply'):
        list(read(put(tmp_path, "faq.jsonl", content)))


@pytest.mark.parametrize(("name", "line"), [("a.jsonl", "%s\n"), ("a.json", "%s,\n"), ("a.csv", "%s")])
def test_memory_does_not_grow_with_the_rows(tmp_path, name, line):
    def peak(number):
        if name == "a.csv":
            content = "question,answer\n" + '"why is it so?","because"\n' * number
        else:
            body = (line % '{"question": "why is it so?", "answer": "because it is"}') * number
            content = "[" + body.rstrip(",\n") + "]" if name == "a.json" else body
        path = put(tmp_path, name, content)
        del content
        tracemalloc.start()
        assert sum(1 for _ in read(path)) == number
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    peak(10)
    small, large = peak(300), peak(3_000)
    assert (
        large < small + 900_000
    )  # a row here takes about 1.5 kB as Python objects; the look at the head grows with the file up to 1 MB


def test_groups_by_a_column_and_by_counting(tmp_path):
    lines = ["0\ta", "1\tb", "0\tc", "1\td", "2\te", "0\tf"]
    path = tmp_path / "groups.tsv"
    path.write_text("\n".join(lines), "utf-8")
    reading = read(path, header=False, columns={"text": "column_2"}, group="column_1")
    rows = list(reading)
    assert reading.kind == "group" and [row["texts"] for row in rows] == [["a", "c", "f"], ["b", "d"], ["e"]]
    assert [(row["group"], row["origin"]) for row in rows][1] == ("1", "groups.tsv:2")
    counts = reading.counts.as_dict()
    assert (counts["rows_in"], counts["rows_out"], counts["rows_joined"]) == (6, 3, 3)
    assert counts["notes"] == {"groups of one text": 1}
    rows = list(read(path, header=False, columns={"text": "column_2"}, group=3))
    assert [row["texts"] for row in rows] == [["a", "b", "c"], ["d", "e", "f"]]
    assert len({row["id"] for row in rows}) == 2
    with pytest.raises(SettingError, match="data.group is 1"):
        read(path, group=1)


def test_malformed_pairs_are_the_first_five_with_their_lines_and_a_count(tmp_path):
    path = tmp_path / "pairs.jsonl"
    rows = [{"prompt": "p", "chosen": "a", "rejected": "b" if i == 3 else "a"} for i in range(9)]
    path.write_text("\n".join(map(json.dumps, rows)), "utf-8")
    with pytest.raises(DataError) as caught:
        list(read(path))
    assert "8 of 9 rows cannot be used" in str(caught.value) and "... and 3 more" in str(caught.value)
    assert "pairs.jsonl:1  chosen and rejected are the same answer" in str(caught.value)
    (row,) = read(path, bad_rows="drop")
    assert row["origin"] == "pairs.jsonl:4"


def test_a_weight_of_a_pair_is_the_rows(tmp_path):
    rows = [{"prompt": "p", "chosen": "a", "rejected": "b", "w": 0.5}]
    (row,) = read(rows, weight="w")
    assert row["weight"] == 0.5 and "weight" not in row["chosen"][0]


def test_a_number_that_json_does_not_know_before_broken_json(tmp_path):
    path = tmp_path / "a.json"
    path.write_text('[{"question":NaN "x", "answer": "a"}]', "utf-8")
    with pytest.raises(DataError, match="is not JSON"):
        list(read(path))
