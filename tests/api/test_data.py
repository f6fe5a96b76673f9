"""data shows shape, counts that add up, the card, and what is trained on."""

import json
from pathlib import Path

import pytest

import tunesmith
from tunesmith.cli import main
from tunesmith.core.errors import DataError, ProjectError

ROWS = [{"question": f"질문 {i}?", "reply": f"답 {i}."} for i in range(12)]


@pytest.fixture
def faq(folder: Path) -> str:
    Path("faq.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return "faq.jsonl"


def test_shape_counts_and_first_rows(faq: str):
    result = tunesmith.data(faq, **{"data.columns.answer": "reply", "dev": 2, "test": 3})
    assert (result["rows_in"], result["rows_out"], result["rows_dropped"]) == (12, 12, 0)
    assert result["counts"]["by_origin"]["faq.jsonl"]["rows_in"] == 12
    assert {name: part["rows"] for name, part in result["splits"].items()} == {"train": 7, "dev": 2, "test": 3}
    assert result["sources"][0]["used"] == {"prompt": "question", "answer": "reply"}
    assert (
        "shape named (question -> reply)" in result.text or "shape question_answer (question -> reply)" in result.text
    )
    assert "user: 질문" in result.text and len(result["first"]) == 3
    assert [path.name for path in Path().iterdir()] == ["faq.jsonl"]


def test_a_wrong_shape_names_the_columns_and_the_fix(faq: str, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(DataError, match='faq.jsonl:1 has no "answer". Found: question, reply.'):
        tunesmith.data(faq)
    assert main(["data", faq]) == 2
    assert "data.columns.answer: reply" in capsys.readouterr().err


def test_bad_rows_are_counted_and_add_up(faq: str, capsys: pytest.CaptureFixture[str]):
    with open(faq, "a") as file:
        file.write('{"question": "x"}\n{broken\n')
    assert main(["data", faq, "data.columns.answer=reply", "bad_rows=drop", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["rows_in"] == 14 == facts["rows_out"] + facts["rows_dropped"]
    assert facts["counts"]["by_origin"]["faq.jsonl"]["reasons"] == {"missing field": 1, "not JSON": 1}


def test_show_what_is_trained_on(faq: str):
    result = tunesmith.data(faq, show=2, html="tokens.html", model="pico", **{"data.columns.answer": "reply"})
    assert len(result["shown"]) == 2
    assert "⟦답 " in result["shown"][0] and result["shown"][0] in result.text
    assert "<mark>답" in Path("tokens.html").read_text("utf-8")


@pytest.mark.parametrize(
    ("words", "num"),
    [(["--show"], 3), (["--show", "--json"], 3), (["--show", "2"], 2), (["--show=1"], 1), (["show=2"], 2)],
)
def test_show_alone_means_three_rows(faq: str, capsys: pytest.CaptureFixture[str], words: list[str], num: int):
    assert main(["data", "data.columns.answer=reply", "model=pico", faq, *words]) == 0
    assert main(["data", *words, "data.columns.answer=reply", "model=pico", faq]) == 0  # no word after it is taken
    both = capsys.readouterr().out
    assert both.count("⟦답 ") == 2 * num
    assert len(tunesmith.data(faq, show=True, model="pico", **{"data.columns.answer": "reply"})["shown"]) == 3


def test_columns_that_nothing_reads_are_named(folder: Path):
    """Not those that a template puts into words, a weight, or a path into nested values reads."""
    rows = [{"question": "Q?", "answer": "A.", "id": i, "url": "u", "importance": 1, "a b": "x"} for i in range(5)]
    rows[4]["late"] = 1
    Path("faq.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = tunesmith.data("faq.jsonl", dev=0, test=0, **{"data.weight": "importance"})
    assert found["sources"][0]["not_used"] == {"id": 5, "url": 5, "a b": 5, "late": 1}
    assert "  not used: id, url, a b, late\n" in found.text
    written = {"data.prompt": "{{ question }} {{ row['a b'] }}", "data.answer": "{{ answer }} {{ url }}"}
    found = tunesmith.data("faq.jsonl", dev=0, test=0, **written)
    assert set(found["sources"][0]["not_used"]) == {"id", "importance", "late"}
    whole = {"data.prompt": "{% for word in row.values() %}{{ word }} {% endfor %}", "data.answer": "{{ answer }}"}
    assert "not_used" not in tunesmith.data("faq.jsonl", dev=0, test=0, **whole)["sources"][0]
    Path("deep.jsonl").write_text(json.dumps({"q": "Q?", "all": [{"out": "A."}], "x": 1}) + "\n")
    found = tunesmith.data("deep.jsonl", dev=0, test=0, **{"data.columns": {"question": "q", "answer": "all.0.out"}})
    assert found["sources"][0]["not_used"] == {"x": 1}
    Path("plain.jsonl").write_text('{"question": "Q?", "answer": "A."}\n')
    assert "not used" not in tunesmith.data("plain.jsonl", dev=0, test=0).text


def test_of_a_project_and_kept(faq: str):
    Path("tunesmith.yaml").write_text(
        "data: {path: faq.jsonl, columns: {answer: reply}, steps: [dedup], dev: 0, test: 0}\nout: kept\n", "utf-8"
    )
    result = tunesmith.data()
    assert result["out"] == "kept" and len(Path("kept/data/train.jsonl").read_text().splitlines()) == 12
    assert tunesmith.data("tunesmith.yaml")["rows_out"] == 12
    # a file named on the command line is read by itself
    with pytest.raises(DataError, match='has no "answer"'):
        tunesmith.data(faq)


def test_nothing_to_read(folder: Path):
    with pytest.raises(DataError, match="No data is given"):
        tunesmith.data()
    with pytest.raises((DataError, ProjectError), match="no-such"):
        tunesmith.data("no-such.jsonl")


def test_a_model_judges_rows(folder: Path):
    texts = [
        "The train leaves the station at nine in the morning, and we arrive in the evening.",
        "xq7 vvz kpw3 qqj zx0 wvk jjq8 ppz qxv zzk wqj",
        "오늘은 날씨가 맑고 바람이 조금 불겠습니다.",
    ]
    Path("notes.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts * 2))
    step = {"perplexity": {"model": "mini", "unit": "bits_per_byte", "most": 4}}
    result = tunesmith.data("notes.jsonl", **{"data.steps": [step], "dev": 0, "test": 0, "out": "kept"})
    assert (result["rows_out"], result["rows_dropped"]) == (4, 2)
    dropped = [json.loads(line) for line in Path("kept/data/dropped.jsonl").read_text().splitlines()]
    assert [(drop["row"]["text"], drop["reason"], drop["by"]) for drop in dropped] == [
        (texts[1], "too surprising", "perplexity")
    ] * 2
    assert dropped[0]["detail"].endswith("bits per byte, at most 4")
    with pytest.raises(DataError, match="No row is left"):
        tunesmith.data("notes.jsonl", **{"data.steps": [{"perplexity": {"least": 1e9}}]})


def test_korean_words(faq: str):
    told = tunesmith.data(faq, **{"data.columns.answer": "reply", "dev": 2, "test": 3, "lang": "ko"}).text
    for words in ("모양 ", "들어옴", "남음", "글자 수: 중앙값, 95 %, 최대", "질문 ", "처음 몇 행:"):
        assert words in told, told
    assert "rows" not in told.lower() and "kept" not in told
