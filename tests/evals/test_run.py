"""evaluate: files, resume after a kill, what is refused; answers are those of generate."""

import json

import pytest

from tunesmith.core.errors import DataError, SpaceError
from tunesmith.evals import run as module
from tunesmith.evals.files import read_evaluation
from tunesmith.evals.run import answer_seed, as_question, evaluate, fingerprint
from tunesmith.metrics.accuracy import Accuracy
from tunesmith.metrics.exact_match import ExactMatch
from tunesmith.metrics.macro_f1 import MacroF1
from tunesmith.model.generate import generate
from tunesmith.model.load import load


def metrics():
    return {"exact_match": ExactMatch(), "macro_f1": MacroF1()}


def run(pico, text, rows, folder, **more):
    return evaluate(pico, text, rows, more.pop("metrics", metrics()), folder=folder, name="dev", max_tokens=6, **more)


def test_writes_a_line_a_row_and_the_summaries(pico, text, rows, tmp_path):
    seen = []
    summary = run(pico, text, rows, tmp_path, batch=4, shown=lambda done, whole: seen.append((done, whole)))
    found = read_evaluation(tmp_path / "dev")
    assert seen == [(i + 1, 6) for i in range(6)]
    assert [line["id"] for line in found.rows] == [row["id"] for row in rows]
    answers = generate(pico, [text.prompt(row["messages"][:1]) for row in rows], max_tokens=6, eos_ids=text.stops)
    assert [line["prediction"] for line in found.rows] == [answer.text for answer in answers]
    assert [line["tokens"] for line in found.rows] == [len(answer.ids) for answer in answers]
    line = found.rows[3]
    assert (line["prompt"], line["answer"], line["origin"]) == ("Where is 부산?", "부산", "faq.jsonl:4")
    assert line["details"]["macro_f1"]["gold"] == "부산" and line["metrics"]["exact_match"] in (0.0, 1.0)
    assert summary["metrics"]["exact_match"]["n"] == 6 and summary["metrics"]["exact_match"]["spec"]["exact_match"]
    assert summary["cost"]["tokens_per_answer"] == sum(len(answer.ids) for answer in answers) / 6
    assert summary["cost"]["seconds_per_answer"] > 0 and sum(summary["finish"].values()) == 6


def test_a_killed_evaluation_goes_on_where_it_was(pico, text, rows, tmp_path, monkeypatch):
    whole = run(pico, text, rows, tmp_path / "whole")

    class Kill(BaseException):
        pass

    def stop_after_three(done, _):
        if done == 3:
            raise Kill

    with pytest.raises(Kill):
        run(pico, text, rows, tmp_path / "cut", batch=2, shown=stop_after_three)
    path = tmp_path / "cut" / "dev.jsonl"
    assert len(path.read_text().splitlines()) == 3 and not (tmp_path / "cut" / "dev.json").exists()
    with pytest.raises(DataError, match="not finished"):
        read_evaluation(tmp_path / "cut" / "dev")
    with open(path, "a") as file:
        file.write('{"id": "torn')
    asked = []
    real = generate
    monkeypatch.setattr(
        "tunesmith.model.generate.generate", lambda m, prompts, **k: asked.extend(prompts) or real(m, prompts, **k)
    )
    resumed = run(pico, text, rows, tmp_path / "cut")
    assert len(asked) == 3 and resumed["metrics"] == whole["metrics"] and resumed["rows_hash"] == whole["rows_hash"]
    kept = ("id", "prediction", "tokens", "metrics")
    assert [[a[k] for k in kept] for a in read_evaluation(tmp_path / "cut" / "dev").rows] == [
        [b[k] for k in kept] for b in read_evaluation(tmp_path / "whole" / "dev").rows
    ]


def test_other_weights_settings_or_prompts_are_asked_again_scores_are_always_new(
    pico, text, rows, tmp_path, monkeypatch
):
    run(pico, text, rows, tmp_path)
    asked = []
    real = generate
    monkeypatch.setattr(
        "tunesmith.model.generate.generate", lambda m, prompts, **k: asked.append(len(prompts)) or real(m, prompts, **k)
    )
    again = run(pico, text, rows, tmp_path, metrics={"exact_match": ExactMatch(ignore_case=True)})
    assert asked == [] and again["metrics"]["exact_match"]["spec"]["exact_match"]["ignore_case"] is True
    assert again["cost"]["seconds_per_answer"] > 0 and again["cost"]["asked_now"] == 0
    run(pico, text, rows, tmp_path, fresh=True)
    run(pico, text, rows, tmp_path, stop=["\n"])
    run(load("pico", seed=1), text, rows, tmp_path, stop=["\n"])
    run(load("pico", seed=1), text, rows, tmp_path, stop=["\n"], ask=lambda row: [{"role": "user", "content": "hm?"}])
    assert asked == [6, 6, 6, 6]


def test_sampling_has_a_seed_per_row_whatever_the_order(pico, text, rows, tmp_path):
    def said(rows, folder, **more):
        run(pico, text, rows, folder, temperature=1.0, **more)
        return {line["id"]: line["prediction"] for line in read_evaluation(folder / "dev").rows}

    first = said(rows, tmp_path / "a", batch=3)
    assert said(rows[::-1], tmp_path / "b", batch=6) == first
    assert said(rows[2:4], tmp_path / "c") == {row["id"]: first[row["id"]] for row in rows[2:4]}
    assert said(rows, tmp_path / "d", seed=1) != first


def test_fingerprint_sees_one_changed_weight_matrix():
    one, two = load("pico", seed=0), load("pico", seed=0)
    assert fingerprint(one.net) == fingerprint(two.net) != fingerprint(load("pico", seed=1).net)
    two.net.model.layers[0].mlp.up_proj.weight.data[0, 0] += 0.01
    assert fingerprint(one.net) != fingerprint(two.net)


def test_rows_are_checked_before_anything_is_generated(pico, text, rows, tmp_path, monkeypatch):
    def never(*_, **__):
        raise AssertionError("asked")

    monkeypatch.setattr("tunesmith.model.generate.generate", never)
    with pytest.raises(DataError, match="6 of 6 rows cannot be scored:\n  faq.jsonl:1.*no field.*\n  faq.jsonl:2"):
        run(pico, text, rows, tmp_path, metrics={"accuracy": Accuracy(field="intent")})
    with pytest.raises(DataError, match="^faq.jsonl:1: its answer has no field"):
        run(pico, text, rows[:1], tmp_path, metrics={"accuracy": Accuracy(field="intent")})
    with pytest.raises(DataError, match="no rows"):
        run(pico, text, [], tmp_path)
    rows[2]["messages"][0]["content"] = "x" * 600
    with pytest.raises(SpaceError, match="1 of 6 prompts.*faq.jsonl:3"):
        run(pico, text, rows, tmp_path)
    with pytest.raises(DataError, match='no column "town".*\nFound: city'):
        run(pico, text, rows[:1], tmp_path, cluster="town")


def test_rows_that_belong_together_widen_the_interval(pico, text, rows, tmp_path):
    summary = run(pico, text, rows, tmp_path, cluster="city")
    assert summary["metrics"]["exact_match"]["extra"]["clusters"] == 4  # a b s 부
    assert [line["cluster"] for line in read_evaluation(tmp_path / "dev").rows] == ["a", "b", "s", "부", "b", "b"]


def test_as_question():
    user, said = {"role": "user", "content": "hi"}, {"role": "assistant", "content": "yo"}
    assert as_question({"messages": [user, said]}) == {"messages": [user], "answer": "yo"}
    assert as_question({"messages": [user], "answers": ["a"]})["answers"] == ["a"]
    for bad in ({"text": "raw", "origin": "x:1"}, {"messages": [said]}):
        with pytest.raises(DataError):
            as_question(bad)
    assert answer_seed(0, {"id": "a"}, 1) == answer_seed(0, {"id": "a"}, 2) != answer_seed(1, {"id": "a"}, 1)


def test_files_that_are_no_evaluation(tmp_path):
    with pytest.raises(DataError, match="no evaluation"):
        read_evaluation(tmp_path / "test")
    (tmp_path / "old.jsonl").write_text("")
    (tmp_path / "old.json").write_text(json.dumps({"format": 9, "n": 0}))
    with pytest.raises(DataError, match="format 9"):
        read_evaluation(tmp_path / "old.json")
    (tmp_path / "old.json").write_text(json.dumps({"format": 1, "n": 2}))
    with pytest.raises(DataError, match="has 0 rows"):
        read_evaluation(tmp_path / "old")


def test_import_is_light():
    import subprocess
    import sys

    names = (
        "tunesmith.evals.run, tunesmith.evals.compare, tunesmith.evals.files, tunesmith.evals.panel, "
        "tunesmith.evals.likelihood, tunesmith.evals.perplexity"
    )
    code = f"import sys, {names}; print([m for m in ('torch', 'scipy', 'transformers') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
    assert module.evaluate.__doc__
