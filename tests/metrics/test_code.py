"""code: programs judged by what they do."""

import pytest

from tunesmith.core.errors import DataError, SettingError
from tunesmith.metrics.code import Code
from tunesmith.testing import check_metric

ADD = "def add(a, b):\n    return a + b\n"
ROW = {
    "id": "1",
    "origin": "rows.jsonl:1",
    "columns": {"tests": ["assert add(1, 2) == 3", "assert add('a', 'b') == 'ab'"]},
}


def test_right_wrong_and_half_right():
    metric = Code()
    assert metric.score(ADD, ROW) == {"score": 1.0, "share": 1.0}
    assert metric.score(f"Here it is:\n```python\n{ADD}```\nDone.", ROW)["score"] == 1.0
    half = metric.score("def add(a, b): return 3", ROW)
    assert half == {"score": 0.0, "share": 0.5, "reason": "fails a test: AssertionError"}
    assert metric.score("I cannot.", ROW)["reason"].startswith("does not run: SyntaxError")
    assert metric.score("  ", ROW)["reason"] == "no program"


def test_human_eval_rows():
    metric = Code(tests="test", entry="entry_point", before="prompt")
    columns = {
        "prompt": 'def twice(x):\n    """Two times x."""\n',
        "test": "def check(candidate):\n    assert candidate(2) == 4\n    assert candidate(-1) == -2\n",
        "entry_point": "twice",
    }
    assert metric.score("    return 2 * x\n", {"columns": columns})["score"] == 1.0
    assert metric.score("```python\ndef twice(x):\n    return x + x\n```", {"columns": columns})["score"] == 1.0
    assert metric.score("    return x\n", {"columns": columns})["score"] == 0.0
    asked = {"messages": [{"role": "user", "content": columns.pop("prompt")}], "columns": columns}
    assert metric.score("    return 2 * x\n", asked)["score"] == 1.0  # read as the question, it is no column any longer


def test_cases_are_compared_outside():
    metric = Code(cases="cases")
    row = {"columns": {"cases": [{"input": "4\n", "output": "5"}, {"input": "-1", "output": "0\n"}]}}
    assert metric.score("print(int(input()) + 1)", row)["score"] == 1.0
    found = metric.score("print(5)", row)
    assert (found["score"], found["share"], found["reason"]) == (0.0, 0.5, "another output")
    apps = {"columns": {"cases": '{"inputs": ["4"], "outputs": ["5"]}'}}
    assert metric.score("print(int(input()) + 1)", apps)["score"] == 1.0


def test_bad_rows_are_named():
    with pytest.raises(DataError, match='rows.jsonl:1 has no column "cases"'):
        Code(cases="cases").check(ROW)
    with pytest.raises(DataError, match="its own answer fails its tests"):
        Code().check(ROW | {"answer": "def add(a, b): return 3"})
    Code().check(ROW | {"answer": ADD})
    with pytest.raises(DataError, match="holds no tests"):
        Code().check({"columns": {"tests": []}})
    with pytest.raises(SettingError, match="seconds"):
        Code(seconds=0)


def test_summary_counts_reasons():
    metric = Code()
    values = [metric.score(text, ROW) for text in (ADD, "def add(a, b): return 3", "1 / 0")]
    summary = metric.summary(values)
    assert summary.value == pytest.approx(1 / 3) and summary.extra["tests_passed"] == pytest.approx(0.5)
    assert summary.extra["reasons"] == {"fails a test": 1, "does not run": 1}


def test_shelf():
    check_metric(Code(), rows=[ROW], right=[ADD])
