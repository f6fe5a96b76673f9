"""See the top of benchmarks/methods/__init__.py."""

import argparse
import importlib
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks.common import read_results, table, write_results
from benchmarks.methods import judge
from benchmarks.methods.context import Context

NAME = "methods"
PARTS = ("preferences", "bank", "texts", "rewards")
CELL_SECONDS = 900  # the slowest cell needs a few minutes: one that hangs must not cost the others their time
MEMORY = ("process_peak", "weights", "gradients", "optimizer", "activations", "helpers")
NO_CELL = {
    "seq2seq": "needs an encoder-decoder base, and none is embedded",
    "tokens": "trains the rows of new tokens, and none of these tasks has any",
}


def cells(parts: tuple[str, ...] = PARTS) -> dict[str, Callable[[Context], dict[str, Any]]]:
    """{cell: function} of the parts, in the order in which they run."""
    found = [cell for part in parts for cell in importlib.import_module(f"benchmarks.methods.{part}").CELLS]
    return {cell.__name__: cell for cell in found}


def run_one(name: str, ctx: Context) -> dict[str, Any]:
    """A cell's result: figures, what was trained, seconds, the most memory this process held."""
    began = time.perf_counter()
    figures = cells()[name](ctx)
    return {
        "figures": {key: float(value) for key, value in figures.items()},
        "runs": ctx.facts,
        "seconds": round(time.perf_counter() - began, 1),
        "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "claims": judge.marks(name, judge.claims()),
    }


def in_a_process(
    name: str,
    seed: int,
    given: argparse.Namespace,
    *,
    seconds: float = CELL_SECONDS,
    stopped: threading.Event | None = None,
) -> dict[str, Any] | None:
    """The cell in a process of its own, so that its memory is its own and a failure is only its own; None on failure.

    It and all it started are killed after `seconds`, or when `stopped` is set; asked `again`, it begins with an empty folder.
    """
    answer = given.out / f"{name}-{seed}.json"
    answer.unlink(missing_ok=True)
    if given.again and (earlier := Context(name, seed, given.model, given.out).folder()).exists():
        shutil.rmtree(earlier)
    command = [
        sys.executable, "-m", "benchmarks.methods", "--cell", name, "--seed", str(seed), "--model", given.model,
        "--out", str(given.out), *(["--smoke"] if given.smoke else []),
    ]  # fmt: skip
    threads = {"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // given.jobs))}
    cell = subprocess.Popen(command, env={**os.environ, **threads}, start_new_session=True)
    ends = time.monotonic() + seconds
    while (code := cell.poll()) is None and time.monotonic() < ends and not (stopped and stopped.is_set()):
        time.sleep(0.05)
    if code is None:
        os.killpg(cell.pid, signal.SIGKILL)
        cell.wait()
        print(
            f"{name}/{seed} was killed" + ("" if stopped and stopped.is_set() else f" after {seconds:g} seconds"),
            flush=True,
        )
        return None
    return json.loads(answer.read_text()) if code == 0 and answer.exists() else None


def measure(
    chains: Sequence[list[tuple[str, int]]], given: argparse.Namespace, results: dict[str, Any], weights: str
) -> tuple[list[str], list[str]]:
    """Put the figures of every (cell, seed) into `results` and the results file. Returns (those that failed, those not started).

    A chain is a part of one seed: its cells use each other's runs, so they run one after the other, `given.jobs` chains at a time.
    """
    failed: list[str] = []
    left: list[str] = []
    ends, one_writes, stopped = time.monotonic() + 60 * given.minutes, threading.Lock(), threading.Event()

    def follow(chain: list[tuple[str, int]]) -> None:
        for name, seed in chain:
            key = f"{name}/{seed}"
            if time.monotonic() > ends or stopped.is_set():
                left.append(key)
                continue
            found = in_a_process(name, seed, given, stopped=stopped)
            with one_writes:
                if found is None:
                    failed.append(key)
                    continue
                results[key] = {**found, "weights": weights}
                print(f"{key} {json.dumps(found['figures'])}", flush=True)
                if not given.smoke:
                    write_results(NAME, {"model": given.model, "cells": results})

    with ThreadPoolExecutor(given.jobs) as several:
        waited = [several.submit(follow, chain) for chain in chains]
        try:
            for one in waited:
                one.result()
        except BaseException:
            stopped.set()
            raise
    return failed, left


def means(several: list[dict[str, float]]) -> dict[str, float]:
    """The mean of each figure over those that have it."""
    names = dict.fromkeys(name for one in several for name in one)
    found = {name: [one[name] for one in several if name in one] for name in names}
    return {name: sum(values) / len(values) for name, values in found.items()}


def spent(result: dict[str, Any]) -> dict[str, float]:
    """Seconds of training of all runs of a cell, and of each part of memory the most bytes that one of them held."""
    runs = [run for run in result["runs"].values() if isinstance(run, dict)]
    most = {part: max((run["memory"].get(part, 0) for run in runs), default=0) for part in MEMORY}
    return {"seconds": sum(run["seconds"] for run in runs), **most}


def show(found: dict[str, Any], every: list[judge.Claim] | None = None) -> str:
    """The table of claims (those of directions.yaml unless given), then cost and figures of each cell of a results file."""
    results, every = found["cells"], judge.claims() if every is None else every
    said = table(["claim", "figure", "mean over seeds (95 %)", "seeds", "verdict"], judge.lines(results, every))
    rows = []
    for name in sorted({key.rpartition("/")[0] for key in results}):
        seeds = [result for key, result in results.items() if key.rpartition("/")[0] == name]
        cost = means([spent(one) for one in seeds])
        figures = ", ".join(f"{key} {value:.4g}" for key, value in means([one["figures"] for one in seeds]).items())
        megabytes = [f"{cost[part] / 1e6:.0f}" for part in MEMORY]
        rows.append([name, str(len(seeds)), f"{cost['seconds']:.0f}", *megabytes, figures])
    parts = [f"{part.replace('_', ' ')} MB" for part in MEMORY]
    told = table(["cell", "seeds", "training s", *parts, "figures, means over seeds"], rows)
    without = "; ".join(f"`{name}` {why}" for name, why in NO_CELL.items())
    note = f"Forgetting of `head` and `features` is 0: the body is frozen. No cell: {without}."
    return f"{said}\n\n{told}\n\n{note}"


def main() -> None:
    """Arguments, cells, table."""
    ask = argparse.ArgumentParser(prog="python -m benchmarks.methods", description="Every method on a real task.")
    ask.add_argument("--parts", default=",".join(PARTS))
    ask.add_argument("--seeds", type=int, default=3)
    ask.add_argument("--model", default="mini")
    ask.add_argument("--out", type=Path, default=None, help="run folders (default: runs/methods)")
    ask.add_argument("--again", action="store_true", help="measure what is there anew")
    ask.add_argument("--jobs", type=int, default=2, help="cells at a time, which share the cores (default: 2)")
    ask.add_argument("--minutes", type=float, default=175, help="no cell starts after so many (default: 175)")
    ask.add_argument("--smoke", action="store_true", help="pico, a few rows, two steps; nothing is written to results/")
    ask.add_argument("--table", action="store_true", help="only show what is there")
    ask.add_argument("--cell", help="one cell, in this process")
    ask.add_argument("--seed", type=int, default=0)
    given = ask.parse_args()
    given.out = given.out or Path("runs") / ("methods-smoke" if given.smoke else "methods")
    given.model = "pico" if given.smoke else given.model
    if given.jobs < 1:
        raise SystemExit("--jobs wants 1 or more")
    given.out.mkdir(parents=True, exist_ok=True)
    if given.cell:
        base = {"base": weights_of(given.model)}
        found = run_one(given.cell, Context(given.cell, given.seed, given.model, given.out, given.smoke, starts=base))
        (given.out / f"{given.cell}-{given.seed}.json").write_text(json.dumps(found, default=str) + "\n")
        return
    parts = tuple(given.parts.split(","))
    if unknown := set(parts) - set(PARTS):
        raise SystemExit(f"no part {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    weights = "" if given.smoke else weights_of(given.model)
    earlier = {} if given.smoke else read_results(NAME)
    results: dict[str, Any] = {
        key: result for key, result in earlier.get("cells", {}).items() if result["weights"] == weights
    }
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))  # as Ctrl-C: no cell is left behind
    missing = [
        [(name, seed) for name in cells((part,)) if given.again or f"{name}/{seed}" not in results]
        for seed in range(0 if given.table else given.seeds)
        for part in parts
    ]
    failed, left = measure(missing, given, results, weights)
    print(show({"cells": results}))
    if left:
        print(f"\nNot started within {given.minutes:g} minutes: {', '.join(left)}. Run it again, without --again.")
    if failed:
        raise SystemExit(f"failed: {', '.join(failed)}")


def weights_of(model: str) -> str:
    """Hash of the base model's weights: results of another model are never mixed in."""
    from benchmarks.banking77 import weights_of

    return weights_of(model)


if __name__ == "__main__":
    main()
