"""See the top of benchmarks/methods/__init__.py."""

import argparse
import importlib
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.common import read_results, table, write_results
from benchmarks.methods import judge
from benchmarks.methods.context import Context

NAME = "methods"
PARTS = ("preferences", "bank", "texts", "rewards")


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


def in_a_process(name: str, seed: int, given: argparse.Namespace) -> dict[str, Any] | None:
    """The cell in a process of its own, so that its memory is its own and a failure is only its own; None on failure."""
    answer = given.out / f"{name}-{seed}.json"
    answer.unlink(missing_ok=True)
    command = [
        sys.executable, "-m", "benchmarks.methods", "--cell", name, "--seed", str(seed), "--model", given.model,
        "--out", str(given.out), *(["--smoke"] if given.smoke else []),
    ]  # fmt: skip
    done = subprocess.run(command, check=False, env=os.environ)
    return json.loads(answer.read_text()) if done.returncode == 0 and answer.exists() else None


def show(found: dict[str, Any], every: list[judge.Claim] | None = None) -> str:
    """The table of claims (those of directions.yaml unless given), then seconds and memory of each cell of a results file."""
    results, every = found["cells"], judge.claims() if every is None else every
    said = table(["claim", "figure", "mean over seeds (95 %)", "seeds", "verdict"], judge.lines(results, every))
    names = sorted({key.rpartition("/")[0] for key in results})
    rows = []
    for name in names:
        seeds = [result for key, result in results.items() if key.rpartition("/")[0] == name]
        mean = {key: sum(one[key] for one in seeds) / len(seeds) for key in ("seconds", "peak_bytes")}
        figures = ", ".join(f"{key} {value:.4g}" for key, value in seeds[0]["figures"].items())
        rows.append([name, str(len(seeds)), f"{mean['seconds']:.0f}", f"{mean['peak_bytes'] / 1e6:.0f}", figures])
    return said + "\n\n" + table(["cell", "seeds", "seconds", "peak MB", "figures of the first seed"], rows)


def main() -> None:
    """Arguments, cells, table."""
    ask = argparse.ArgumentParser(prog="python -m benchmarks.methods", description="Every method on a real task.")
    ask.add_argument("--parts", default=",".join(PARTS))
    ask.add_argument("--seeds", type=int, default=3)
    ask.add_argument("--model", default="mini")
    ask.add_argument("--out", type=Path, default=None, help="run folders (default: runs/methods)")
    ask.add_argument("--again", action="store_true", help="measure what is there anew")
    ask.add_argument("--smoke", action="store_true", help="pico, a few rows, two steps; nothing is written to results/")
    ask.add_argument("--table", action="store_true", help="only show what is there")
    ask.add_argument("--cell", help="one cell, in this process")
    ask.add_argument("--seed", type=int, default=0)
    given = ask.parse_args()
    given.out = given.out or Path("runs") / ("methods-smoke" if given.smoke else "methods")
    given.model = "pico" if given.smoke else given.model
    given.out.mkdir(parents=True, exist_ok=True)
    if given.cell:
        found = run_one(given.cell, Context(given.cell, given.seed, given.model, given.out, given.smoke))
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
    failed = []
    for seed in () if given.table else range(given.seeds):
        for name in cells(parts):
            key = f"{name}/{seed}"
            if key in results and not given.again:
                continue
            print(f"{key} ...", flush=True)
            found = in_a_process(name, seed, given)
            if found is None:
                failed.append(key)
                continue
            results[key] = {**found, "weights": weights}
            print(json.dumps(results[key]["figures"]), flush=True)
            if not given.smoke:
                write_results(NAME, {"model": given.model, "cells": results})
    print(show({"cells": results}))
    if failed:
        raise SystemExit(f"failed: {', '.join(failed)}")


def weights_of(model: str) -> str:
    """Hash of the base model's weights: results of another model are never mixed in."""
    from benchmarks.banking77 import weights_of

    return weights_of(model)


if __name__ == "__main__":
    main()
