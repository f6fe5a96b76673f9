"""Reading a run folder: liberal, and honest about what it could not read."""

from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

from tunesmith.report.read import glance, in_percent, lengths_of, lines, read_run

spec = spec_from_file_location("report_fixtures", Path(__file__).parent / "conftest.py")
made = module_from_spec(spec)
spec.loader.exec_module(made)


def test_a_torn_last_line_is_ignored_and_others_are_named(tmp_path):
    path = tmp_path / "events.jsonl"
    path.write_text('{"a": 1}\n[2]\n\n{"a": 3}\n{"a": ', encoding="utf-8")
    problems: list[str] = []
    assert list(lines(path, problems)) == [{"a": 1}, {"a": 3}] and problems == []
    path.write_text('{"a": 1}\n{"torn\n{"a": 3}\n', encoding="utf-8")
    assert list(lines(path, problems)) == [{"a": 1}, {"a": 3}]
    assert problems == ["events.jsonl (1 lines are not JSON)"]


def test_a_resumed_run_tells_a_step_twice_and_the_last_counts(tmp_path):
    made.dump_lines(
        tmp_path / "events.jsonl",
        [{"kind": "step", "step": s, "loss": v} for s, v in ((1, 3.0), (2, 2.0), (3, 9.0), (2, 1.5), (3, 1.0))],
    )
    assert [(s["step"], s["loss"]) for s in read_run(tmp_path).steps] == [(1, 3.0), (2, 1.5), (3, 1.0)]


def test_missing_files_are_named(tmp_path):
    run = read_run(tmp_path)
    assert run.missing == [
        "project.yaml",
        "manifest.json",
        "events.jsonl",
        "data/card.json",
        "memory.json",
        "parameters.json",
    ]
    assert run.steps == [] and run.evaluations == []


def test_the_worst_rows_are_wrong_and_the_surest_come_first(tmp_path):
    rows = [
        {"prompt": str(k), "metrics": {"exact_match": k % 2 == 0}, "logprob": -k / 10, "tokens": 10, "seconds": 0.5}
        for k in range(40)
    ]
    made.dump(tmp_path / "evals/test.json", {"metrics": {"exact_match": {"value": 0.5, "n": 40}}})
    made.dump_lines(tmp_path / "evals/test.jsonl", rows)
    (evaluation,) = read_run(tmp_path).evaluations
    assert [row["prompt"] for row in evaluation.worst] == [str(k) for k in range(1, 20, 2)]
    assert (evaluation.num_rows, evaluation.tokens_written, evaluation.seconds_per_answer) == (40, 10, 0.5)


def test_of_a_score_that_should_be_low_the_highest_are_worst(tmp_path):
    rows = [{"prompt": str(k), "metrics": {"perplexity": float(k)}} for k in range(30)]
    made.dump(tmp_path / "evals/dev.json", {"metrics": {"perplexity": {"value": 15.0, "n": 30, "better": "lower"}}})
    made.dump_lines(tmp_path / "evals/dev.jsonl", rows)
    assert [row["prompt"] for row in read_run(tmp_path).evaluations[0].worst] == [str(k) for k in range(29, 19, -1)]


def test_hardest_rows_get_their_texts_from_the_training_rows(run_folder):
    run = read_run(run_folder)
    hardest = run.rows.hardest[0]
    assert hardest["loss"] == pytest.approx(max(run.rows.losses)) and run.rows.num == len(run.rows.losses) == 400
    assert "intent" in run.texts[hardest["origin"]]["answer"]


def test_lengths_fall_into_equal_steps_that_add_up():
    found = lengths_of([*range(5, 120)] * 3, limit=100)
    assert sum(found["counts"]) == 345 and len(found["edges"]) == len(found["counts"]) + 1
    assert len({b - a for a, b in zip(found["edges"], found["edges"][1:], strict=False)}) == 1
    assert (found["longest"], found["limit"], found["median"]) == (119, 100, 62)
    assert lengths_of([]) == {} and lengths_of([7])["counts"] == [1]


def test_a_glance_reads_no_journal_but_its_end(run_folder):
    facts = glance(run_folder)
    assert (facts["model"], facts["method"], facts["adapter"], facts["status"]) == ("mini", "sft", "lora", "finished")
    assert facts["score"]["metric"] == "exact_match" and facts["score"]["share"]


def test_what_is_shown_in_percent():
    share = {"value": 0.4, "low": 0.2, "high": 0.6, "better": "higher"}
    assert in_percent(share) and in_percent({"value": 1})
    for other in (
        {"high": 1.2},
        {"low": -0.1},
        {"better": "lower"},
        {"extra": {"unit": "reward"}},
        {"value": None, "low": None, "high": None},
    ):
        assert not in_percent({**share, **other}), other
