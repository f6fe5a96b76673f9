"""tunesmith compare: runs and files, names, refusals; through the command line with --json."""

import json

import pytest

import tunesmith
from tunesmith.cli.command import run as command
from tunesmith.core.errors import DataError, SettingError
from tunesmith.evals.files import score_line, summarise, write_evaluation
from tunesmith.metrics.accuracy import Accuracy
from tunesmith.metrics.macro_f1 import MacroF1

METRICS = {"accuracy": Accuracy(), "macro_f1": MacroF1()}


def made(folder, name, wrong, n=60):
    """An evaluation in which the first `wrong` rows are wrong."""
    lines = []
    for i in range(n):
        row = {"id": f"{i:03}", "origin": f"a:{i}", "answer": "ab"[i % 2]}
        said = "ab"[(i + (i < wrong)) % 2]
        lines.append({**row, "prediction": said, **score_line(METRICS, said, row)})
    write_evaluation(folder / "evals", name, lines, {"metrics": summarise(METRICS, lines)})


@pytest.fixture
def runs(folder):
    made(folder / "runs" / "before", "test", 40)
    made(folder / "runs" / "tuned", "test", 10)
    made(folder / "runs" / "tuned", "dev", 12)
    return folder / "runs"


def test_two_runs_in_words(runs):
    result = tunesmith.compare("runs/before", "runs/tuned")
    assert result.text.startswith("accuracy: tuned is better than before by 50.0 points")
    assert "McNemar" in result.text and "same 60 rows" in result.text and "Holm" in result.text
    one = result["comparisons"][0]
    assert one["winner"] == "tuned" and one["told_apart"] and result["n"] == 60
    assert [c["metric"] for c in result["comparisons"]] == ["accuracy", "macro_f1"]
    only = tunesmith.compare("runs/before", "runs/tuned", metric="accuracy", lang="ko")
    assert len(only["comparisons"]) == 1 and "더 좋음" in only.text and only["comparisons"][0]["p"] == one["p"]


def test_files_of_one_run_by_their_names(runs):
    text = tunesmith.compare("runs/tuned/evals/dev.json", "runs/tuned/evals/test", metric="accuracy").text
    assert "dev and test are not told apart" in text
    assert (
        "test and dev"
        in tunesmith.compare("runs/tuned", "runs/tuned/evals/dev.jsonl", name="test", metric="accuracy").text
    )


def test_from_the_command_line(runs):
    told = json.loads(command(["compare", "runs/before", "runs/tuned", "--metric", "accuracy", "--json"]))
    assert told["comparisons"][0]["difference"] == pytest.approx(0.5)
    assert "better" in command(["compare", "runs/before", "runs/tuned"])


def test_mistakes_are_explained(runs):
    with pytest.raises(DataError, match="There is no runs/nowhere"):
        tunesmith.compare("runs/nowhere", "runs/tuned")
    with pytest.raises(DataError, match="before has no evaluation dev"):
        tunesmith.compare("runs/before", "runs/tuned", name="dev")
    with pytest.raises(SettingError, match="acuracy"):
        tunesmith.compare("runs/before", "runs/tuned", metric="acuracy")
    made(runs / "short", "test", 5, n=30)
    with pytest.raises(DataError, match="30 are only in the first"):
        tunesmith.compare("runs/before", "runs/short")
    (runs / "empty").mkdir()
    with pytest.raises(DataError, match="no evaluation of the same name"):
        tunesmith.compare("runs/before", "runs/empty")
