"""Whole processes: killed at random moments and resumed the weights are those of a run left alone; SIGTERM saves and leaves."""

import json
import signal
import subprocess
import time

import pytest
from benchmarks.kill_resume import command, finished, torture, write_rows

SETTINGS = {
    "model": "pico", "adapter": "lora", "train.steps": 60, "train.save_every": 3, "train.threads": 1, "train.batch_size": 4,
    "train.sample": 0,
}  # fmt: skip


@pytest.mark.slow
def test_killed_at_random_moments_the_final_hash_is_that_of_a_run_left_alone(tmp_path):
    told = []
    wanted, hashes = torture(tmp_path, 3, SETTINGS, seed=1, tell=told.append)
    assert hashes == [wanted] * len(hashes), "\n".join(told)
    assert sum(line.startswith("kill ") for line in told) == 3


@pytest.mark.slow
def test_sigterm_saves_leaves_and_the_run_goes_on(tmp_path):
    write_rows(tmp_path / "rows.jsonl")
    settings = {**SETTINGS, "train.steps": 100_000}
    process = subprocess.Popen(command(tmp_path, "run", settings), cwd=tmp_path, stdout=subprocess.PIPE, text=True)
    journal = tmp_path / "run" / "events.jsonl"
    while process.poll() is None and not (journal.exists() and '"kind": "step"' in journal.read_text()):
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    said, _ = process.communicate(timeout=120)
    assert process.returncode == 0
    assert "nothing is lost" in said
    assert "tunesmith train --resume run" in said
    assert finished(tmp_path, "run") is None
    last = json.loads(journal.read_text().splitlines()[-1])
    assert (last["kind"], last["by"]) == ("stopped", "SIGTERM")
    assert (tmp_path / "run" / "checkpoints" / f"step-{last['step']:06d}" / "progress.json").exists()
