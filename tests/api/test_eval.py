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


def test_raw_text_is_measured_by_position_too(folder, faq):
    pages = [{"text": f"Page {n} says: {'all is well. ' * 8}"} for n in range(14)]
    (folder / "pages.jsonl").write_text("\n".join(map(json.dumps, pages)))
    keys = {
        "data.path": "pages.jsonl",
        "model": "pico",
        "method": "pretrain",
        "adapter": "full",
        "quiet": True,
        "length": 64,
        "too_long": "split",
    }
    run = tunesmith.train(out="runs/pages", **keys, **{"train.steps": 2, "data.test": 4, "data.dev": 2})["run"]
    found = tunesmith.eval(run, quiet=True, **{"eval.positions": 4, "eval.base": True})
    by = found["positions"]
    assert (
        by["edges"] == [0, 16, 32, 48, 64] and len(by["loss"]) == len(by["base"]["loss"]) == len(by["difference"]) == 4
    )
    assert by["texts"] == found["n"] and all(loss > 0 for loss in by["loss"])
    assert by["difference"][1]["value"] == pytest.approx(by["loss"][1] - by["base"]["loss"][1], abs=1e-6)
    assert "Loss by position, nats a token:" in found.text and "before" in found.text and "16-31" in found.text
    kept = json.loads(Path(run, "evals/test.json").read_text())
    assert kept["positions"]["loss"] == by["loss"]
    with pytest.raises(ProjectError, match="no running text"):
        scored(**{"eval.positions": 4})


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


def test_the_base_on_the_same_rows_and_the_report_of_both(run):
    plain = tunesmith.eval(run, **QUIET)
    told = tunesmith.report(run).text
    assert f"tunesmith eval {run} eval.base=true eval.panel=true" in " ".join(told.split())
    result = tunesmith.eval(run, **{"eval.base": True}, **QUIET)
    assert result["metrics"] == plain["metrics"] and result["cost"]["asked_now"] == 0  # the run's own answers were kept
    alone = tunesmith.eval(
        model="pico",
        data=DATA,
        metrics=["exact_match", "chrf"],
        **{"generate.max_tokens": 4, **QUIET},
        out="runs/alone",
    )
    assert result["base"]["metrics"] == alone["metrics"]
    (exact, chrf) = result["base"]["comparisons"]
    assert (exact["a"], exact["b"], exact["n"]) == ("before tuning", "after tuning", 8) and "McNemar" in exact["test"]
    assert chrf["a_value"] == alone["metrics"]["chrf"]["value"] and chrf["b_value"] == plain["metrics"]["chrf"]["value"]
    assert f"exact_match: {exact['verdict']}" in result.text
    page = Path(run, "report.html")
    told = " ".join(tunesmith.report(run).text.split())
    assert "Before tuning On the same rows it had exact_match" in told
    assert f"tunesmith eval {run} eval.panel=true" in told and "eval.base" not in told
    assert "Is the difference real?" in page.read_text("utf-8") and "after · exact_match" in page.read_text("utf-8")
    tunesmith.eval(run, **{"eval.base": True, "eval.panel": True}, lang="ko", **QUIET)
    told = " ".join(tunesmith.report(run, lang="ko").text.split())
    assert "재지 않은 것" not in told and "무엇이 나빠졌나" in told and "test, 전 exact_match" in told


def test_answers_drawn_again_are_counted_and_their_spread_is_told(faq):
    with pytest.raises(SettingError, match="temperature 0"):
        scored(**{"eval.samples": 3})
    keys = {"eval.samples": 3, "generate.temperature": 1.0, "generate.seed": 5, "generate.max_tokens": 1}
    result = scored(out="runs/drawn", metrics=["chrf"], **keys)
    places = ["evals/test", "evals/samples/test-2", "evals/samples/test-3"]
    drawn = [read_evaluation(Path("runs/drawn", place)) for place in places]
    said = [tuple(row["prediction"] for row in each.rows) for each in drawn]
    assert len(set(said)) == 3 and [each.summary["generate"]["seed"] for each in drawn] == [5, 6, 7]
    same = [len({a, b}) == 1 for row in zip(*said) for a, b in (row[:2], row[1:], row[::2])]
    assert result["samples"]["n"] == 3 and result["samples"]["agreement"]["value"] == pytest.approx(
        sum(same) / len(same)
    )
    values = [each.summary["metrics"]["chrf"]["value"] for each in drawn]
    assert result["samples"]["metrics"]["chrf"]["mean"] == pytest.approx(sum(values) / 3)
    assert (result["samples"]["metrics"]["chrf"]["least"], result["samples"]["metrics"]["chrf"]["most"]) == (
        min(values), max(values),
    )  # fmt: skip
    assert "Asked 3 times, two answers are the same: " in result.text and "chrf: mean of 3 draws" in result.text
    assert json.loads(Path("runs/drawn/evals/test.json").read_text())["samples"] == result["samples"]
    one = scored(out="runs/once", metrics=["chrf"], **keys | {"eval.samples": 1})
    assert one["metrics"] == result["metrics"] and "samples" not in one and not Path("runs/once/evals/samples").exists()
    with pytest.raises(ProjectError, match="nothing is drawn"):
        tunesmith.eval("runs/drawn", likelihood=True, **{"eval.samples": 2}, **QUIET)


def test_what_was_rated_bad_is_never_the_reference(folder):
    rows = [{"prompt": f"What is {i}?", "completion": "no" if i % 3 else "yes", "label": not i % 3} for i in range(30)]
    (folder / "votes.jsonl").write_text("\n".join(map(json.dumps, rows)))
    keys = {"model": "pico", "method": "kto", "data": {"path": "votes.jsonl", "dev": 3, "test": 12}, "train.steps": 1}
    tunesmith.train(**keys, out="runs/kto", **{"generate.max_tokens": 4, "train.sample": 3}, **QUIET)
    events = [json.loads(line) for line in Path("runs/kto/events.jsonl").read_text().splitlines()]
    assert {one["expected"] for event in events for one in event.get("samples", [])} <= {"yes", ""}
    found = tunesmith.eval("runs/kto", **QUIET)
    lines = read_evaluation("runs/kto/evals/test").rows
    labels = [json.loads(line)["label"] for line in Path("runs/kto/data/test.jsonl").read_text().splitlines()]
    assert {line["answer"] for line in lines} == {"yes"} and len(lines) == sum(labels) == found["n"]
    assert found["rated"] == {"good": sum(labels), "bad_left_out": 12 - sum(labels)}
    assert f"{12 - sum(labels)} rows rated bad were left out" in found.text
    few = tunesmith.eval("runs/kto", **{"eval.rows": 2, "eval.name": "few"}, **QUIET)
    assert few["n"] == 2
    bad = [{**row, "completion": "no", "label": False} for row in rows]
    (folder / "bad.jsonl").write_text("\n".join(map(json.dumps, bad)))
    with pytest.raises(ProjectError, match="No test row of .* is rated good"):
        tunesmith.eval(**keys | {"data": {"path": "bad.jsonl", "test": 12}}, out="runs/bad", **QUIET)


def test_a_reward_model_scores_the_answers_that_are_there(folder):
    from tunesmith.evals.reward import RewardModel

    pairs = [{"prompt": f"Say {i}", "chosen": f"{i} it is", "rejected": "no"} for i in range(24)]
    (folder / "pairs.jsonl").write_text("\n".join(map(json.dumps, pairs)))
    tunesmith.train(
        model="pico",
        method="reward",
        data={"path": "pairs.jsonl", "dev": 4, "test": 4},
        steps=2,
        out="runs/judge",
        **QUIET,
    )
    judge = RewardModel.open("runs/judge")
    chats = [{"prompt": row["prompt"], "completion": row["chosen"]} for row in pairs]
    votes = [{**row, "label": i % 2 == 0} for i, row in enumerate(chats)]
    for name, rows in (("chats", chats), ("votes", votes)):
        (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))
        found = tunesmith.eval(
            model="runs/judge", data={"path": f"{name}.jsonl", "test": 8}, out=f"runs/{name}", **QUIET
        )
        lines = read_evaluation(f"runs/{name}/evals/test").rows
        asked = [{"messages": [{"role": "user", "content": line["prompt"]}]} for line in lines]
        wanted = judge.score(asked, [line["prediction"] for line in lines])
        assert [line["metrics"]["reward"] for line in lines] == pytest.approx(wanted, abs=1e-6)
        assert found["metrics"]["reward"]["value"] == pytest.approx(sum(wanted) / 8) and "reward  " in found.text
    good = [value for line, value in zip(lines, wanted) if line["label"]]
    assert found["metrics"]["reward"]["extra"]["good"] == {"mean": pytest.approx(sum(good) / len(good)), "n": len(good)}
    assert "Rated good: mean reward" in found.text and "rated" not in found and "%" not in found.text.split("(95")[0]
    told = tunesmith.report("runs/votes").text
    assert "reward" in told and "%" not in told.split("reward", 1)[1].split("(")[0]
    (folder / "asked.jsonl").write_text("\n".join(json.dumps({"prompt": row["prompt"]}) for row in pairs))
    with pytest.raises(DataError, match="no answer to score"):
        tunesmith.eval(model="runs/judge", data={"path": "asked.jsonl", "shape": "prompts", "test": 8}, **QUIET)


@pytest.mark.parametrize("method", ["classify", "reward"])
def test_the_panel_of_a_model_that_does_not_write_is_left_out_with_a_word(folder, method):
    rows = [{"text": f"This is {i}.", "label": "odd" if i % 2 else "even"} for i in range(24)]
    if method == "reward":
        rows = [{"prompt": f"Say {i}", "chosen": f"{i}", "rejected": "no"} for i in range(24)]
    (folder / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    keys = {
        "model": "pico",
        "method": method,
        "data": {"path": "rows.jsonl", "dev": 4, "test": 8},
        "steps": 1,
        "eval.panel": True,
    }
    tunesmith.train(**keys, out="runs/made", **QUIET)
    found = tunesmith.eval("runs/made", **QUIET)
    assert found["panel_left_out"] == "classify" and "panel" not in found and found["n"] == 8
    assert "this one is of kind classify, so it was left out" in found.text
    assert "classify 모델이라 뺐습니다" in tunesmith.eval("runs/made", lang="ko", **QUIET).text
    with pytest.raises(ProjectError, match="no score from before tuning"):
        tunesmith.eval("runs/made", **{"eval.base": True}, **QUIET)


def test_test_rows_too_long_go_as_in_training(folder):
    rows = [{"question": f"What is {i} plus {i}?", "answer": "even" if i % 2 else "odd"} for i in range(16)]
    (folder / "faq.jsonl").write_text("\n".join(map(json.dumps, rows)))
    long = [{**row, "question": "word " * 200 + row["question"]} if i % 2 else row for i, row in enumerate(rows[:5])]
    (folder / "test.jsonl").write_text("\n".join(map(json.dumps, long)))
    data = {"path": "faq.jsonl", "test": "test.jsonl", "dev": 2}
    for policy, fact, n in (("trim_prompt", {"trimmed": 2}, 5), ("drop", {"left_out": 2}, 3)):
        tunesmith.train(model="pico", data=data, too_long=policy, steps=1, out=f"runs/{policy}", **QUIET)
        found = tunesmith.eval(f"runs/{policy}", **{"generate.max_tokens": 4}, **QUIET)
        assert found["n"] == n and found["too_long"] == {"policy": policy, **fact}
        assert f"too_long: {policy}" in found.text and "2" in found.text


def test_rows_that_call_tools_are_scored_from_the_command_too(folder):
    tools = [{"name": name, "parameters": {"type": "object"}} for name in ("lamp", "door")]
    rows = []
    for i in range(24):
        call = {
            "id": f"call_{i}",
            "function": {"name": ("lamp", "door")[i % 2], "arguments": json.dumps({"on": i % 3 > 0})},
        }
        said = {"role": "assistant", "content": None, "tool_calls": [call]}
        rows.append({"messages": [{"role": "user", "content": f"Do {i}."}, said], "tools": tools})
    (folder / "calls.jsonl").write_text("\n".join(map(json.dumps, rows)))
    keys = {
        "model": "pico",
        "data": {"path": "calls.jsonl", "test": 6},
        "metrics": ["exact_match", "json_field"],
        **QUIET,
    }
    found = tunesmith.eval(**keys, **{"generate.max_tokens": 4}, out="runs/said")
    lines = read_evaluation("runs/said/evals/test").rows
    assert found["metrics"]["exact_match"]["value"] == found["metrics"]["json_field"]["value"] == 0.0
    assert all(set(json.loads(line["answer"])) == {"name", "arguments"} for line in lines)
    found = tunesmith.eval(**keys, likelihood=True, out="runs/likely")
    likely = read_evaluation("runs/likely/evals/test-likelihood").rows
    assert found["likelihood"]["labels"] == 4 and {line["prediction"] for line in likely} <= {
        json.dumps({"name": name, "arguments": {"on": on}}) for name in ("lamp", "door") for on in (True, False)
    }
    right = [line["prediction"] == line["answer"] for line in likely]
    assert found["metrics"]["json_field"]["value"] == found["metrics"]["exact_match"]["value"] == sum(right) / 6


def test_what_a_metric_says_beside_its_figure():
    from tunesmith.api.eval import _parts

    extra = {
        "refused": {"share": 0.5, "n": 28},
        "wrongly_refused": {"share": None, "n": 0},
        "reasons": {"does not run": 2, "another result": 1},
    }
    assert _parts(extra, korean=False) == ["  refused: 50.0% of 28", "  not right: does not run 2, another result 1"]
    assert _parts({"reasons": {}, "clusters": 3}, korean=True) == []
