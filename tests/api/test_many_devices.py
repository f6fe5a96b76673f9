"""train.shard through the command line: --nproc, torchrun, a lost process, another number of them, two hosts in network namespaces."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from safetensors.torch import load_file

import tunesmith
from tunesmith.core.errors import SettingError

WORDS = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "apple", "pear", "plum", "fig"]
ENV = {**os.environ, "OMP_NUM_THREADS": "1"}
KEYS = {"model": "pico", "adapter": "full", "batch_size": 4, "steps": 6, "train.eval_every": 3}


@pytest.fixture
def project(tmp_path):
    rows = [{"prompt": f"Say {word}" * (1 + len(word) % 3), "completion": f"{word}!"} for word in WORDS]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


def words(out, **more):
    return ["train", "data=rows.jsonl", f"out={out}", "--quiet", *(f"{k}={v}" for k, v in {**KEYS, **more}.items())]


def events(folder):
    return [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]


def alone(project, out="one"):
    tunesmith.train(data=str(project / "rows.jsonl"), out=str(project / out), quiet=True, **KEYS)
    return project / out


def same(found, wanted):
    """Losses, dev losses, sampled answers there, and the weights of the result."""
    for a, b in zip(events(found), events(wanted), strict=True):
        assert a["kind"] == b["kind"]
        for name in {"loss", "dev_loss"} & a.keys():
            assert a[name] == pytest.approx(b[name], rel=1e-5)
        assert len(a.get("samples", [])) == len(b.get("samples", []))
    left, right = (load_file(folder / "model" / "model.safetensors") for folder in (found, wanted))
    assert left.keys() == right.keys()
    for name, value in left.items():
        assert (value - right[name]).abs().max() <= 1e-3 * max(1.0, float(right[name].abs().max())), name


@pytest.mark.slow
def test_torchrun_starts_the_processes(project):
    """Each cuts all weights; the answers to dev prompts and the result are those of the whole model."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", "29871"]
    subprocess.run(
        [*launcher, "-m", "tunesmith", *words("two", **{"train.shard": "all"})],
        cwd=project, env=ENV, check=True, capture_output=True, timeout=600,
    )  # fmt: skip
    same(project / "two", alone(project))
    assert tunesmith.load(project / "two")


@pytest.mark.slow
def test_a_lost_process_stops_the_run_and_another_number_goes_on(project):
    """One of two is killed while both wait after the first step; one process makes the rest as if nothing had happened."""
    (project / "wait").touch()
    more = {"train.shard": "gradients", "train.pause_file": project / "wait"}
    command = [sys.executable, "-m", "tunesmith", *words("two", **more), "--nproc", "2"]
    process = subprocess.Popen(
        command, cwd=project, env=ENV, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    )
    until = time.monotonic() + 500
    journal = project / "two" / "events.jsonl"
    while not (journal.exists() and any(e["kind"] == "pause" for e in events(project / "two"))):
        assert time.monotonic() < until and process.poll() is None
        time.sleep(0.2)
    children = subprocess.run(
        ["ps", "-o", "pid=", "--ppid", str(process.pid)], check=True, capture_output=True, text=True
    )
    os.kill(int(children.stdout.split()[1]), signal.SIGKILL)
    (project / "wait").unlink()
    said = process.communicate(timeout=500)[1]
    assert process.returncode == 2 and "Traceback" not in said and "tunesmith train --resume two" in said
    tunesmith.train(resume=str(project / "two"), quiet=True)
    wanted = [e for e in events(alone(project)) if e["kind"] in ("step", "eval", "end")]
    found = [e for e in events(project / "two") if e["kind"] in ("step", "eval", "end")]
    for a, b in zip(found, wanted, strict=True):
        assert [a.get(k) for k in ("kind", "step")] == [b.get(k) for k in ("kind", "step")]
        for name in {"loss", "dev_loss", "grad_norm"} & a.keys():
            assert a[name] == pytest.approx(b[name], rel=1e-4)


def test_nproc_and_torchrun_that_disagree(project, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "4")
    with pytest.raises(SettingError, match=r"nproc is 2.*4"):
        tunesmith.train(data=str(project / "rows.jsonl"), out=str(project / "x"), nproc=2, quiet=True, **KEYS)


def namespaces():
    """Why two hosts cannot be made here, or None."""
    if sys.platform != "linux" or not shutil.which("ip"):
        return "no ip command"
    made = subprocess.run(["ip", "netns", "add", "ts-probe"], check=False, capture_output=True, text=True)
    if made.returncode:
        return f"ip netns add: {made.stderr.strip()}"
    subprocess.run(["ip", "netns", "del", "ts-probe"], check=True)
    return None


@pytest.mark.slow
def test_two_hosts(project):
    """One process in each of two network namespaces that see each other over a pair of virtual cards, and nothing else."""
    if reason := namespaces():
        pytest.skip(reason)
    script = Path(__file__).resolve().parents[2] / "examples" / "two_hosts.sh"
    subprocess.run(
        ["bash", str(script), sys.executable, *words("two", **{"train.shard": "optimizer"})],
        cwd=project, env=ENV, check=True, capture_output=True, timeout=600,
    )  # fmt: skip
    same(project / "two", alone(project))


@pytest.mark.slow
def test_workers_of_ray(project):
    """A local Ray cluster of two workers."""
    pytest.importorskip("ray", reason="the extra cluster is not installed")
    keys = "\n".join(
        f"{name.removeprefix('train.')}: {value}" for name, value in KEYS.items() if name.startswith("train.")
    )
    rest = "\n".join(f"{name}: {value}" for name, value in KEYS.items() if not name.startswith("train."))
    (project / "tunesmith.yaml").write_text(f"data: rows.jsonl\n{rest}\ntrain:\n  shard: optimizer\n  {keys}\n")
    script = Path(__file__).resolve().parents[2] / "examples" / "ray" / "train.py"
    env = {**ENV, "RAY_USAGE_STATS_ENABLED": "0", "RAY_TMPDIR": "/tmp", "HOME": str(project)}
    subprocess.run(
        [sys.executable, str(script), "tunesmith.yaml", "two"], cwd=project, env=env, check=True, capture_output=True, timeout=600
    )  # fmt: skip
    same(project / "two", alone(project))
