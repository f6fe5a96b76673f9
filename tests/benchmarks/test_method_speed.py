"""The timing of preference methods beside TRL: both sides get the same pairs, the table says what was met."""

from pathlib import Path

import numpy as np
import pytest
from benchmarks.method_speed import cases
from benchmarks.method_speed.__main__ import show


@pytest.fixture
def work(tmp_path: Path) -> Path:
    lengths = np.random.default_rng(0).integers(4, 600, size=200)
    np.savez(tmp_path / "rows.npz", ids=np.arange(lengths.sum()).astype(np.int16) % 200, lengths=lengths)
    return tmp_path


def test_a_pair_is_a_prompt_with_two_answers_that_fit(work: Path) -> None:
    found = cases.pairs(work, 48)
    assert len(found) == 48 and found == cases.pairs(work, 48) and found[:10] == cases.pairs(work, 10)
    for prompt, chosen, rejected in found:
        assert prompt and chosen and rejected
        assert max(len(prompt) + len(chosen), len(prompt) + len(rejected)) <= cases.CUT
    assert sum(len(a) != len(b) for _, a, b in found) > 24


def test_every_option_that_is_tried_is_known() -> None:
    assert {option for case in cases.CASES for option in case.options} <= set(cases.OPTIONS)
    assert len({case.name for case in cases.CASES}) == len(cases.CASES)


def test_the_table_takes_medians_pair_by_pair_and_says_what_was_met() -> None:
    def run(side: str, speed: float) -> dict:
        return {"side": side, "units_per_second": speed, "above_model_mb": 10.0, "option": "live"}

    runs = [*(run("ours", speed) for speed in (9.0, 50.0, 10.0)), *(run("trl", speed) for speed in (4.0, 4.5, 1.0))]
    line = show({"cases": {"dpo-lora": {"runs": runs}, "dpo-full": {"runs": runs[:3]}}}).splitlines()[-1]
    assert "| dpo-lora | 10.0 | 4.0 (live) | 10.00 2.25-11.11 (met: 2) | 10 / 10 |  | 3 |" == line
    rolled = [run | {"rollout_tokens_per_second": 100.0 if run["side"] == "ours" else 40.0} for run in runs]
    line = show({"cases": {"grpo-lora": {"runs": rolled}}}).splitlines()[-1]
    assert line.endswith("| 10 / 10 | 100 / 40 (2.50) | 3 |")


def test_prompts_of_rollouts_are_the_beginnings_of_rows(work: Path) -> None:
    found = cases.prompts(work, 32)
    assert len(found) == 32 and all(8 <= len(prompt) <= cases.PROMPT_TOKENS for prompt in found)
    assert cases.paid("ab1 ") == 0.5 and cases.paid("") == 0.0
