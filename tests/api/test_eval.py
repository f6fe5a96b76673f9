"""tunesmith eval: a run, an untuned model, a part of the rows, raw text, the panel; what may be changed and what not."""

import json
from pathlib import Path

import pytest

import tunesmith
from tunesmith.core.errors import DataError, ModelError, ProjectError, SettingError
from tunesmith.core.runs import RunFolder
from tunesmith.evals.files import read_evaluation

QUIET = {"quiet": True}
DATA = {"path": "faq.jsonl", "dev": 6, "test": 8}


@pytest.fixture
def faq(folder):
    rows = [{"question": f"What is {i} plus {i}?", "answer": "even" if i % 2 else "odd"} for i in range(40)]
    (folder / "faq.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder


def scored(**keys):
    return tunesmith.eval(model="pico", data=DATA, **{"generate.max_tokens": 4, **QUIET, **keys})


@pytest.fixture
def run(faq):
    keys = {"model": "pico", "data": DATA, "out": "runs/tuned", "steps": 2, "metrics": ["exact_match", "chrf"]}
    tunesmith.train(**keys, **{"generate.max_tokens": 4}, **QUIET)
    return "runs/tuned"


def test_an_untuned_model_makes_a_run_of_its_own(faq):
    result = scored(
        out="runs/before", metrics=["exact_match", {"format": {"max_length": 3}}, {"format": {"language": "en"}}]
    )
    assert list(result["metrics"]) == ["exact_match", "format", "format-2"] and result["n"] == 8
    assert result["tuned"] is False and result["split"] == "test" and result["test_reads"] == 1
    found = read_evaluation("runs/before/evals/test")
    assert len(found.rows) == 8 and {row["answer"] for row in found.rows} <= {"even", "odd"}
    assert "exact_match  " in result.text and "95 %" in result.text and "n = 8" in result.text
    again = tunesmith.eval("runs/before", **QUIET)  # goes on with it: answers are kept, the reading is counted
    assert again["cost"]["asked_now"] == 0 and again["test_reads"] == 2 and again["metrics"] == result["metrics"]
    assert len(RunFolder.open("runs/before").manifest()["test_reads"]) == 2
    with pytest.raises(ProjectError, match="already holds a run"):
        scored(out="runs/before")


def test_exact_match_is_the_default_and_dev_is_not_counted(faq):
    result = scored(**{"eval.split": "dev", "eval.name": "look"})
    assert list(result["metrics"]) == ["exact_match"] and result["n"] == 6 and result["test_reads"] == 0
    assert result["file"] == "runs/eval-1/evals/look.json" and "test rows" not in result.text


def test_a_run_is_scored_on_its_own_rows(run):
    result = tunesmith.eval(run, **QUIET)
    assert result["tuned"] and result["n"] == 8 and list(result["metrics"]) == ["exact_match", "chrf"]
    ids = [row["id"] for row in read_evaluation(f"{run}/evals/test").rows]
    assert ids == [json.loads(line)["id"] for line in Path(run, "data/test.jsonl").read_text().splitlines()]
    other = tunesmith.eval(run, metrics=["accuracy"], lang="ko", **{"eval.name": "other", "eval.rows": 5}, **QUIET)
    assert list(other["metrics"]) == ["accuracy"] and other["n"] == 5 and "시험 데이터를 2번" in other.text
    assert tunesmith.eval(run, **{"eval.rows": 5, "eval.name": "again"}, **QUIET)["rows_hash"] == other["rows_hash"]
    with pytest.raises(ProjectError, match="model cannot be changed"):
        tunesmith.eval(run, model="mini", **QUIET)
    with pytest.raises(SettingError, match="exact_match"):
        tunesmith.eval(run, metrics=["exact_macth"], **QUIET)


def test_the_likeliest_of_the_training_answers(run):
    result = tunesmith.eval(run, likelihood=True, metrics=["exact_match", "accuracy"], **QUIET)
    found = read_evaluation(f"{run}/evals/test-likelihood")
    assert {row["prediction"] for row in found.rows} <= {"even", "odd"} and result["likelihood"]["labels"] == 2
    assert all({row["prediction"], row["runner_up"]} == {"even", "odd"} for row in found.rows)
    assert result["metrics"]["accuracy"]["value"] == result["metrics"]["exact_match"]["value"]


def test_a_metric_of_ones_own_for_a_run(run, faq):
    (faq / "metrics").mkdir()
    (faq / "metrics" / "short.py").write_text(
        '"""short: three letters or fewer."""\n\nfrom dataclasses import dataclass\nfrom tunesmith.metrics import mean_summary\n\n\n'
        "@dataclass(frozen=True)\nclass Short:\n    def score(self, prediction, row):\n        return float(len(prediction) <= 3)\n\n"
        "    def summary(self, values):\n        return mean_summary(values)\n"
    )
    result = tunesmith.eval(run, use=["metrics/short.py"], metrics=["short"], **{"eval.name": "short"}, **QUIET)
    lengths = [len(row["prediction"]) for row in read_evaluation(f"{run}/evals/short").rows]
    assert result["metrics"]["short"]["value"] == sum(n <= 3 for n in lengths) / 8
    told = tunesmith.compare(f"{run}/evals/short.json", f"{run}/evals/short.json")
    assert "not told apart" in told.text


def test_the_panel_before_and_after(run):
    result = tunesmith.eval(run, **{"eval.panel": True}, **QUIET)
    assert [change["name"] for change in result["panel"]] == ["text en", "text ko", "choice en", "choice ko"]
    assert "English text: " in result.text and "after" in result.text
    told = json.loads(Path(run, "evals/panel.json").read_text())["panel"]
    assert told == json.loads(json.dumps(result["panel"]))
    both = tunesmith.compare(f"{run}/evals/panel-before.json", f"{run}/evals/panel-scores.json")
    assert [c["difference"] for c in both["panel"]] == [c["difference"] for c in result["panel"]]


def test_raw_text_is_measured_in_bits_per_byte(folder):
    texts = [
        {"text": f"The {word} stood by the river and {i} birds sang." * 2}
        for i, word in enumerate(["tree"] * 20 + ["집"] * 20)
    ]
    (folder / "book.jsonl").write_text("\n".join(json.dumps(t, ensure_ascii=False) for t in texts), encoding="utf-8")
    result = tunesmith.eval(model="pico", method="pretrain", data={"path": "book.jsonl", "test": 10, "dev": 4}, **QUIET)
    bits = result["metrics"]["bits_per_byte"]
    assert bits["n"] == 10 and bits["better"] == "lower" and 5 < bits["low"] < bits["value"] < bits["high"] < 12
    assert "perplexity" in result.text and len(read_evaluation(result["file"]).rows) == 10


def test_mistakes_are_explained(faq):
    with pytest.raises(DataError, match="No data"):
        tunesmith.eval(model="pico", **QUIET)
    with pytest.raises(ModelError):
        tunesmith.eval(model="no/such/folder", data=DATA, **QUIET)
    with pytest.raises(ProjectError, match="no-such"):
        tunesmith.eval("no-such.yaml", **QUIET)
    with pytest.raises(DataError, match="no field"):
        scored(metrics=[{"accuracy": {"field": "intent"}}])
