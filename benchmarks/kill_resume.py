"""Does a run that is killed again and again end with the same weights? SIGKILL at random moments, --resume, compare hashes.

    python -m benchmarks.kill_resume                      # 20 kills of a pico run, half a minute a kill on two slow cores
    python -m benchmarks.kill_resume --kills 5 --adapter full --precision bf16 --optimizer muon

One run is left alone. Another is killed at random moments of its life (starting up, between steps, while a checkpoint is
written) and resumed; when it ends before all kills are spent, the next one begins. Needs no data: the rows are made here.
"""

import argparse
import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.common import write_results


def write_rows(path: Path, number: int = 60) -> None:
    """Additions as questions and answers."""
    draw = random.Random(0)
    rows = [(draw.randrange(100), draw.randrange(100)) for _ in range(number)]
    path.write_text(
        "".join(json.dumps({"question": f"{a} + {b}?", "answer": f"It is {a + b}."}) + "\n" for a, b in rows)
    )


def command(folder: Path, name: str, settings: dict[str, Any]) -> list[str]:
    """A new run, or going on with the one that is there."""
    start = [sys.executable, "-m", "tunesmith", "train"]
    if (folder / name / "manifest.json").exists():
        return [*start, "--resume", name, "--quiet"]
    return [*start, "data=rows.jsonl", f"out={name}", *(f"{k}={v}" for k, v in settings.items()), "--quiet"]


def finished(folder: Path, name: str) -> dict[str, Any] | None:
    """What the manifest says of a run's end, None before it."""
    path = folder / name / "manifest.json"
    return json.loads(path.read_text()).get("outcome") if path.exists() else None


def to_the_end(folder: Path, name: str, settings: dict[str, Any]) -> dict[str, Any]:
    """Let it run, and return its outcome."""
    done = subprocess.run(command(folder, name, settings), cwd=folder, capture_output=True, text=True, check=False)
    outcome = finished(folder, name)
    if done.returncode or outcome is None:
        raise SystemExit(f"{name} did not finish (exit {done.returncode}):\n{done.stdout}{done.stderr}")
    return outcome


def kill_once(folder: Path, name: str, settings: dict[str, Any], draw: random.Random) -> str | None:
    """Start or resume, kill at a random moment; in words where that was, or None when the run ended first."""
    journal = folder / name / "events.jsonl"
    before = journal.stat().st_size if journal.exists() else 0
    early = draw.random() < 0.2  # some kills come before the first step: while imports, data or model are loaded
    process = subprocess.Popen(
        command(folder, name, settings), cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    began = time.monotonic()
    wait = draw.uniform(0, 4) if early else draw.uniform(0, 1.5)
    while process.poll() is None:
        written = journal.exists() and journal.stat().st_size != before
        if early or written:
            break
        time.sleep(0.005)
    try:
        process.wait(wait)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        process.wait()
        lines = journal.read_text().splitlines() if journal.exists() else []
        return f"{time.monotonic() - began:.1f} s after its start, {len(lines)} lines in its journal"
    said = process.stdout.read().decode() if process.stdout else ""
    if process.returncode:
        raise SystemExit(f"{name} failed (exit {process.returncode}):\n{said}")
    return None


def torture(
    folder: Path, kills: int, settings: dict[str, Any], seed: int = 0, tell: Any = print
) -> tuple[str, list[str]]:
    """(hash of the run left alone, hashes of the killed runs)."""
    draw = random.Random(seed)
    write_rows(folder / "rows.jsonl")
    wanted = to_the_end(folder, "alone", settings)
    tell(
        f"left alone: {wanted['steps']} steps, weights {wanted['result_hash'][:16]}, last loss {wanted['last_loss']:.6f}"
    )
    hashes: list[str] = []
    spent = 0
    while spent < kills:
        name = f"killed-{len(hashes) + 1}"
        while spent < kills:
            where = kill_once(folder, name, settings, draw)
            if where is None:
                break
            spent += 1
            tell(f"kill {spent:>2}: {name}, {where}")
        outcome = finished(folder, name) or to_the_end(folder, name, settings)
        hashes.append(outcome["result_hash"])
        same = outcome["result_hash"] == wanted["result_hash"] and outcome["last_loss"] == wanted["last_loss"]
        tell(f"{name}: weights {outcome['result_hash'][:16]} {'equal' if same else 'DIFFERENT'}")
    return wanted["result_hash"], hashes


def show(found: dict[str, Any]) -> str:
    """A results file in words."""
    shape = ", ".join(
        f"{key.removeprefix('train.')} {found['settings'][key]}"
        for key in ("model", "adapter", "train.precision", "train.steps")
    )
    return f"{found['kills']} kills over {found['runs']} runs ({shape}): {found['equal']} of {found['runs']} final hashes equal the uninterrupted run's."


def main() -> int:
    """Print each kill and the hashes; exit 1 when one differs."""
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("--kills", type=int, default=20)
    ask.add_argument("--steps", type=int, default=400)
    ask.add_argument("--seed", type=int, default=0, help="of the moments")
    ask.add_argument("--adapter", default="lora")
    ask.add_argument("--precision", default="fp32")
    ask.add_argument("--optimizer", default="adamw")
    ask.add_argument("--model", default="pico")
    given = ask.parse_args()
    settings = {
        "model": given.model, "adapter": given.adapter, "train.precision": given.precision, "train.optimizer": given.optimizer,
        "train.steps": given.steps, "train.save_every": 3, "train.threads": 1, "train.batch_size": 4, "train.sample": 0,
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        wanted, hashes = torture(Path(folder), given.kills, settings, given.seed)
    equal = sum(h == wanted for h in hashes)
    found = {
        "kills": given.kills,
        "runs": len(hashes),
        "equal": equal,
        "settings": settings,
        "seed": given.seed,
        "weights": wanted,
    }
    print(show(found))
    write_results("kill_resume", found)
    return 0 if equal == len(hashes) else 1


if __name__ == "__main__":
    raise SystemExit(main())
