"""How long a plan takes: `tunesmith plan` for models of 8 and 70 billion parameters, in a fresh process, imports included.

    python -m benchmarks.plan_seconds [--runs 3] [--table]

The real step of each configuration is run on fake tensors: no weights are needed, none are read. The bar: 15 seconds for 8B, 45 for 70B on two cores.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.common import read_results, table, write_results

NAME = "plan_seconds"
BARS = {"Llama-3.1-8B": 15.0, "Llama-3.1-70B": 45.0}  # seconds
CASES: dict[str, tuple[str, ...]] = {
    "8B LoRA": ("model=Llama-3.1-8B", "method=sft", "adapter=lora", "length=2048", "--on", "24GB"),
    "8B full": ("model=Llama-3.1-8B", "method=sft", "adapter=full", "length=2048", "--on", "H100"),
    "8B DPO QLoRA": ("model=Llama-3.1-8B", "method=dpo", "adapter=qlora", "length=2048", "--on", "24GB"),
    "70B QLoRA": ("model=Llama-3.1-70B", "method=sft", "adapter=qlora", "length=2048", "--on", "H100"),
    "70B full, ZeRO-3": ("model=Llama-3.1-70B", "method=sft", "adapter=full", "length=2048", "--on", "H100", "--devices", "64", "--zero", "3"),
    "70B DPO LoRA": ("model=Llama-3.1-70B", "method=dpo", "adapter=lora", "length=2048", "--on", "H200"),
}  # fmt: skip


def one(words: tuple[str, ...]) -> dict[str, Any]:
    """One plan in a process of its own, in an empty folder: seconds and most resident memory from start to end, and what it said."""
    with tempfile.TemporaryDirectory() as folder:
        measured = Path(folder) / "usage.json"
        code = (
            "import json, resource, subprocess, sys; "
            "done = subprocess.run([sys.executable, '-m', 'tunesmith', 'plan', *sys.argv[2:], '--json'], capture_output=True, text=True); "
            "used = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024; "
            "open(sys.argv[1], 'w').write(json.dumps([done.returncode, done.stdout, done.stderr, used]))"
        )
        began = time.perf_counter()
        subprocess.run([sys.executable, "-c", code, str(measured), *words], check=True, cwd=folder)
        seconds = time.perf_counter() - began
        status, said, errors, used = json.loads(measured.read_text())
    if status:
        raise SystemExit(f"tunesmith plan {' '.join(words)} failed ({status}):\n{errors[-2000:]}")
    return {"seconds": seconds, "peak_bytes": used, "device": json.loads(said)["forecast"]["device"]}


def show(found: Mapping[str, Any]) -> str:
    """A line a configuration: median seconds, their span, the bar."""
    lines = []
    for name, record in found["cases"].items():
        seconds = [run["seconds"] for run in record["runs"]]
        bar = BARS[next(word.removeprefix("model=") for word in record["words"] if word.startswith("model="))]
        word = "met" if max(seconds) <= bar else "missed"
        lines.append([name, f"{median(seconds):.1f} ({min(seconds):.1f}-{max(seconds):.1f})", f"{bar:.0f} ({word})",
                      f"{max(run['peak_bytes'] for run in record['runs']) / 1e6:,.0f}", f"{record['runs'][0]['device'] / 1e9:,.1f}"])  # fmt: skip
    return table(["configuration", "seconds", "bar", "the planner's own peak, MB", "planned on the device, GB"], lines)


def main() -> None:
    """Arguments, runs, table."""
    ask = argparse.ArgumentParser(prog="python -m benchmarks.plan_seconds", description="Seconds of a plan.")
    ask.add_argument("--runs", type=int, default=3)
    ask.add_argument("--table", action="store_true", help="run nothing")
    given = ask.parse_args()
    if given.table:
        print(show(read_results(NAME) or {"cases": {}}))
        return
    cases: dict[str, Any] = {}
    for name, words in CASES.items():
        cases[name] = {"words": words, "runs": [one(words) for _ in range(given.runs)]}
        write_results(NAME, {"cases": cases})
        print(show({"cases": {name: cases[name]}}).splitlines()[-1], flush=True)
    print(show({"cases": cases}))


if __name__ == "__main__":
    main()
