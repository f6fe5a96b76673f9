"""The benchmark of the methods: claims and cells fit together, the words follow from the interval, a cell runs and is kept."""

import argparse
import json
import re
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from benchmarks.methods import __main__ as methods
from benchmarks.methods import judge, preferences
from benchmarks.methods.__main__ import NO_CELL, PARTS, cells, in_a_process, run_one, show
from benchmarks.methods.context import Context, spread, write_rows
from benchmarks.methods.texts import blanks_of, recall

from tunesmith.core.shelf import shelf

CLAIM = judge.Claim("x is above y", cell="x", figure="score", against="y")


def result(score: float, claims: list[str] | None = None) -> dict:
    return {"figures": {"score": score}, "claims": [CLAIM.mark] if claims is None else claims, "runs": {}}


def test_every_claim_is_about_a_figure_that_a_cell_gives() -> None:
    every, known = judge.claims(), cells()
    assert len(every) == len(
        yaml.safe_load(Path(judge.__file__).with_name("directions.yaml").read_text(encoding="utf-8"))
    )
    assert {name for claim in every for name in (claim.cell, claim.against) if name} <= set(known)
    assert len({claim.claim for claim in every}) == len(every)
    assert all(cell.__doc__ for cell in known.values())


def sources() -> list[str]:
    return [Path(judge.__file__).with_name(f"{part}.py").read_text(encoding="utf-8") for part in PARTS]


def test_every_method_and_adapter_has_a_cell_or_a_reason() -> None:
    named = {name for source in sources() for name in re.findall(r'"(\w+)"', source)}
    assert {*shelf("objectives").names(), *shelf("adapters").names()} - named == set(NO_CELL)
    assert all(f"`{name}` {why}" in show({"cells": {}}) for name, why in NO_CELL.items())


def test_what_a_cell_needs_runs_before_it() -> None:
    order = list(cells())
    for source in sources():
        for name, body in re.findall(r"^def (\w+)\(ctx: Context\)(.*?)(?=^def |\Z)", source, re.DOTALL | re.MULTILINE):
            for needed in re.findall(r'run_of\("(\w+)"', body):
                if name in order:
                    assert order.index(needed) < order.index(name)


@pytest.mark.parametrize(
    ("numbers", "more_than", "word"),
    [
        ([0.1, 0.12, 0.11], 0.0, judge.CONFIRMED),
        ([-0.1, -0.12, -0.11], 0.0, judge.REFUTED),
        ([0.1, -0.1, 0.05], 0.0, judge.NOT_HERE),
        ([0.1, 0.12, 0.11], 0.11, judge.NOT_HERE),
        ([-0.011, -0.012, -0.01], -0.02, judge.CONFIRMED),
        ([0.3], 0.0, judge.NOT_HERE),
    ],
)
def test_the_word_follows_from_the_interval(numbers: list[float], more_than: float, word: str) -> None:
    found = judge.verdict(judge.Claim("c", "x", "score", more_than=more_than), numbers)
    assert found is not None and found.word == word and found.seeds == len(numbers)


def test_the_interval_is_students() -> None:
    """Three values with mean 2 and sd 1: 2 +- 4.3027 / sqrt(3)."""
    found = judge.verdict(CLAIM, [1.0, 2.0, 3.0])
    assert found is not None
    assert (found.low, found.high) == (pytest.approx(2 - 2.48414, abs=1e-4), pytest.approx(2 + 2.48414, abs=1e-4))


def test_seeds_are_paired_and_a_missing_half_is_no_number() -> None:
    results = {"x/0": result(0.5), "y/0": result(0.3), "x/1": result(0.9), "x/2": result(0.6), "y/2": result(0.5)}
    assert judge.values(CLAIM, results) == pytest.approx([0.2, 0.1])
    assert judge.verdict(CLAIM, []) is None
    assert "not measured" in show({"cells": {}}, [CLAIM])


def test_a_claim_changed_after_measuring_shows() -> None:
    results = {f"{cell}/{seed}": result(0.1 * (cell == "x") + 0.001 * seed) for cell in "xy" for seed in range(3)}
    assert judge.lines(results, [CLAIM])[0][-1] == judge.CONFIRMED
    results["x/0"] = result(0.1, claims=["another"])
    assert "changed after measuring" in judge.lines(results, [CLAIM])[0][-1]


def test_the_table_shows_means_over_seeds_and_what_training_itself_held() -> None:
    memory = {"process_peak": 90e6, "weights": 30e6, "frozen": {}, "measured": True}
    votes = {"seconds": 2.0, "memory": {"weights": 50e6}}
    runs = {"run": {"seconds": 4.0, "memory": memory}, "votes": votes, "test_rows_left_out": 3}
    results = {f"x/{seed}": {**result(score), "runs": runs} for seed, score in enumerate((0.25, 0.75))}
    line = next(line for line in show({"cells": results}, [CLAIM]).splitlines() if line.startswith("| x |"))
    assert line == "| x | 2 | 6 | 90 | 50 | 0 | 0 | 0 | 0 | score 0.5 |"


def test_rows_are_taken_evenly_and_other_rows_are_another_file(tmp_path: Path) -> None:
    assert spread(range(10), 5) == [0, 2, 4, 6, 8] and spread(range(3), 9) == [0, 1, 2] and spread([], 2) == []
    first, same, other = (write_rows(tmp_path / "a.jsonl", [{"text": text}]) for text in ("one", "one", "two"))
    assert first == same != other and json.loads(Path(other).read_text(encoding="utf-8")) == {"text": "two"}


def test_blanks_of_prose_are_whole_words_and_nothing_is_lost() -> None:
    long, words = " ".join(f"w{i}" for i in range(60)), "too few words"
    (blank,) = blanks_of(f" = Title = \n {long} \n{words}\n")
    assert "".join(blank) == long and blank[1] == " w30 w31 w32 w33 w34 w35 w36 w37"


def test_recall_by_hand() -> None:
    import numpy as np

    near = np.array([[9, 3, 1, 0], [3, 9, 2, 0], [1, 0, 9, 2], [0, 2, 1, 9]], dtype=float)
    assert recall(near, np.array([0, 0, 1, 1]), k=1) == pytest.approx(3 / 4)
    assert recall(near, np.array([0, 0, 1, 1]), k=3) == 1.0


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Training that trains nothing: how often it began anew, how often it went on, and how it ends."""
    told = {"new": 0, "resumed": 0, "status": "finished"}

    def train(**given: Any) -> dict[str, Any]:
        told["resumed" if "resume" in given else "new"] += 1
        (Path(given.get("resume") or given["out"]) / "checkpoints" / "1").mkdir(parents=True, exist_ok=True)
        return {"status": told["status"], "seconds": 1.0}

    monkeypatch.setattr("tunesmith.api.train.train", train)
    return told


def test_a_run_goes_on_only_with_the_same_settings_and_the_same_start(tmp_path: Path, trained: dict[str, Any]) -> None:
    def first(lr: float) -> None:
        Context("first", 0, "pico", tmp_path).train(lr=lr)

    def second() -> None:
        ctx = Context("second", 0, "pico", tmp_path)
        ctx.train(model=ctx.run_of("first"))

    for lr, new, resumed in ((1.0, 2, 0), (1.0, 2, 2), (2.0, 4, 2)):
        first(lr)
        second()
        assert (trained["new"], trained["resumed"]) == (new, resumed)
    Context("first", 0, "pico", tmp_path, starts={"base": "other weights"}).train(lr=2.0)
    assert trained["new"] == 5


def test_a_stopped_training_ends_the_cell(tmp_path: Path, trained: dict[str, Any]) -> None:
    trained["status"] = "stopped"
    with pytest.raises(SystemExit, match="was stopped before its end"):
        Context("first", 0, "pico", tmp_path).train()


def test_a_cell_that_takes_too_long_is_killed_and_again_begins_with_an_empty_folder(tmp_path: Path) -> None:
    given = argparse.Namespace(model="pico", out=tmp_path, smoke=True, again=True, jobs=2)
    old = tmp_path / "sft_small-0" / "run" / "project.yaml"
    old.parent.mkdir(parents=True)
    old.touch()
    began = time.perf_counter()
    assert in_a_process("sft_small", 0, given, seconds=0.05) is None
    assert time.perf_counter() - began < 30 and not old.exists()


def test_chains_run_side_by_side_and_the_cells_of_one_after_each_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    running: list[str] = []
    together = threading.Barrier(2)  # two first cells must run at once, or this test ends by its time limit
    seen: list[tuple[str, int]] = []

    def cell(name: str, seed: int, given: argparse.Namespace, **_: Any) -> dict[str, Any] | None:
        assert str(seed) not in running
        running.append(str(seed))
        if name == "a":
            together.wait(timeout=20)
        seen.append((name, seed))
        running.remove(str(seed))
        return None if (name, seed) == ("b", 1) else {"figures": {"x": 1.0}}

    monkeypatch.setattr(methods, "in_a_process", cell)
    given = argparse.Namespace(minutes=1, jobs=2, smoke=True)
    results: dict[str, Any] = {}
    failed, left = methods.measure([[("a", 0), ("b", 0)], [("a", 1), ("b", 1)]], given, results, "w")
    assert (failed, left) == (["b/1"], []) and set(results) == {"a/0", "b/0", "a/1"}
    assert [one for one in seen if one[1] == 0] == [("a", 0), ("b", 0)] and results["a/0"]["weights"] == "w"
    given.minutes = 0
    assert methods.measure([[("a", 0)]], given, results, "w") == ([], ["a/0"])


@pytest.fixture
def votes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "data" / "pref_en_small"
    folder.mkdir(parents=True)
    rows = [
        {"instruction": f"Say number {i}.", "input": "", "output": f"It is {i}.", "chosen": f"It is {i}.", "rejected": f"{i}, so what"}
        for i in range(60)
    ]  # fmt: skip
    (folder / "instruction-data-with-preference.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    monkeypatch.setenv("TUNESMITH_DATA", str(tmp_path))
    return tmp_path / "out"


def test_cells_run_are_kept_and_start_from_each_other(votes: Path) -> None:
    first = run_one("sft_small", Context("sft_small", 0, "pico", votes, smoke=True))
    assert set(first["figures"]) >= {"likelihood_gain", "preferred_gain"} and first["claims"]
    done = run_one("dpo_small", Context("dpo_small", 0, "pico", votes, smoke=True))
    assert done["figures"]["pairs"] > 0 and done["peak_bytes"] > 0
    assert done["runs"]["run"]["settings"]["model"].endswith("sft_small-0/run")
    assert done["runs"]["run"]["seconds"] > 0 and done["runs"]["run"]["memory"]["process_peak"] > 0
    events = Path(votes, "dpo_small-0", "run", "events.jsonl").read_bytes()
    again = run_one("dpo_small", Context("dpo_small", 0, "pico", votes, smoke=True))  # nothing is trained twice
    assert again["figures"] == pytest.approx(done["figures"], abs=1e-6)
    assert Path(votes, "dpo_small-0", "run", "events.jsonl").read_bytes() == events
    with pytest.raises(SystemExit, match="needs sft_small"):
        run_one("dpo_small", Context("dpo_small", 7, "pico", votes, smoke=True))


def test_no_prompt_is_for_training_and_for_testing(votes: Path) -> None:
    keys = preferences.small(Context("x", 0, "pico", votes), preferences.VOTES)
    asked = {
        part: {row["prompt"] for row in preferences.lines_of(Path(keys[part]))} for part in ("data.path", "data.test")
    }
    assert all(asked.values()) and not asked["data.path"] & asked["data.test"]
