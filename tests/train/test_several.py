"""train --nproc: two processes make the run that one makes; one that is lost stops the other, and one alone goes on with it."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

import tunesmith

KEYS = ["model=pico", "adapter=full", "batch_size=4", "steps=8", "train.eval_every=4", "train.save_every=2"]


@pytest.fixture
def project(tmp_path):
    words = [
        "one",
        "two",
        "three",
        "four",
        "five",
        "six",
        "seven",
        "eight",
        "nine",
        "ten",
        "apple",
        "pear",
        "plum",
        "fig",
    ]
    rows = [{"prompt": f"Say {word}" * (1 + len(word) % 3), "completion": f"{word}!"} for word in words]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


def command(project, out, *more):
    return [sys.executable, "-m", "tunesmith", "train", "data=rows.jsonl", *KEYS, f"out={out}", "--quiet", *more]


def steps(project, out):
    lines = [json.loads(line) for line in (project / out / "events.jsonl").read_text().splitlines()]
    return {e["step"]: e for e in lines if "lr" in e}, [e["dev_loss"] for e in lines if "dev_loss" in e]


def alone(project, out):
    settings = {"batch_size": 4, "steps": 8, "train.eval_every": 4, "train.save_every": 2}
    tunesmith.train(
        data=str(project / "rows.jsonl"), model="pico", adapter="full", out=str(project / out), quiet=True, **settings
    )
    return steps(project, out)


@pytest.mark.slow
def test_two_processes_make_the_run_of_one(project):
    wanted, dev = alone(project, "one")
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run(
        command(project, "two", "--nproc", "2"), cwd=project, env=env, check=True, capture_output=True, timeout=600
    )
    found, dev_found = steps(project, "two")
    assert "2 per pass × 1 accumulated × 2 devices = 4 rows per update" in tunesmith.runs(str(project / "two")).text
    assert list(found) == list(wanted) == list(range(1, 9))
    for number, step in wanted.items():
        assert found[number]["loss"] == pytest.approx(step["loss"], rel=1e-5)
        assert found[number]["grad_norm"] == pytest.approx(step["grad_norm"], rel=1e-4)
        assert [found[number][k] for k in ("units", "tokens", "trained_tokens")] == [
            step[k] for k in ("units", "tokens", "trained_tokens")
        ]
    assert dev_found == pytest.approx(dev, rel=1e-5)
    seen = [json.loads(line)["seen"] for line in (project / "two" / "loss_per_row.jsonl").read_text().splitlines()]
    assert sum(seen) == sum(step["units"] for step in wanted.values())
    assert json.loads((project / "two" / "manifest.json").read_text())["status"] == "finished"


@pytest.mark.slow
def test_a_time_budget_is_the_same_number_of_steps_for_all(project):
    """Each has its own clock; two that plan unlike numbers of steps wait for each other without end."""
    words = [word for word in command(project, "two", "--nproc", "2") if not word.startswith(("steps", "train."))]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run([*words, "train.minutes=0.005"], cwd=project, env=env, check=True, capture_output=True, timeout=240)
    found, _ = steps(project, "two")
    chosen = json.loads((project / "two" / "chosen.json").read_text())
    assert len(found) == chosen["steps"] and "minutes at" in chosen["why"]["steps"]
    assert json.loads((project / "two" / "manifest.json").read_text())["status"] == "finished"


@pytest.mark.slow
def test_one_that_is_lost_stops_the_other_and_one_alone_goes_on(project):
    wanted, _ = alone(project, "one")
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    long = [
        word.replace("steps=8", "steps=100000").replace("eval_every=4", "eval_every=100000")
        for word in command(project, "two", "--nproc", "2")
    ]
    long[long.index("train.save_every=2")] = "train.save_every=1"
    process = subprocess.Popen(long, cwd=project, env=env, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    checkpoints = project / "two" / "checkpoints"
    until = time.monotonic() + 300
    while not list(checkpoints.glob("step-*")) and time.monotonic() < until:
        time.sleep(0.1)
    children = subprocess.run(
        ["ps", "-o", "pid=", "--ppid", str(process.pid)], check=False, capture_output=True, text=True
    ).stdout.split()
    assert len(children) == 2
    os.kill(int(children[1]), signal.SIGKILL)
    said = process.communicate(timeout=300)[1]
    assert process.returncode == 2 and "Traceback" not in said
    assert "tunesmith train --resume two" in said
    text = (project / "two" / "project.yaml").read_text()
    (project / "two" / "project.yaml").write_text(text.replace("steps: 100000", "steps: 8"))
    done = max(int(path.name.removeprefix("step-")) for path in checkpoints.glob("step-*"))
    tunesmith.train(resume=str(project / "two"), quiet=True)
    found, _ = steps(project, "two")
    for number in range(
        1, min(done, 8) + 1
    ):  # the schedule knew of more steps; the order of rows and the first losses are the same
        assert found[number]["units"] == wanted[number]["units"]
    assert found[1]["loss"] == pytest.approx(wanted[1]["loss"], rel=1e-5)
    assert json.loads((project / "two" / "manifest.json").read_text())["status"] == "finished"
