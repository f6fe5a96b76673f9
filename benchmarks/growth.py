"""Does it stay as fast and as small when there are more rows? From a thousand rows to a million, with the one-layer model.

    python -m benchmarks.growth                        1k, 10k, 100k, 1M, three runs each in turn; those already made are kept
    python -m benchmarks.growth --sizes 1000,10000 --runs 1 --again

Each size is a process of its own that trains by the public API for the same number of steps on short chat rows written for it, after a run of 20,000
rows that makes what is kept at any size (imports, the heap). Asked: rows a second of the data path (read, recognise, split, encode, pack: all before the first step), tokens a second of
the steps, and the process's highest resident memory, whose growth over the smallest size is divided by the rows that are more. Other work on
a machine only ever makes a step slower, so of the steps the fastest tenth counts; a data path, which is one long stretch, is made three times where
rows are few, and its median counts. As speeds change from minute to minute, the same is done on 10,000 rows right before and right after, and a size's
speed is told as a share of the mean of these two. The bar: all shares of a kind within 10 % of each other (the data path's from 10,000 rows on: before
that it is all start), 16 bytes a row.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from benchmarks.common import read_results, table, write_results

NAME = "growth"
SIZES = (1_000, 10_000, 100_000, 1_000_000)
STEPS, BATCH = 1_000, 64
FASTEST = 0.9  # of the steps' speeds: what other work on the machine slowed down lies below
REPEATS = 3  # of the data path, up to as many rows as lie beside
WARM = 20_000  # rows of the first run: what is kept at any size is there then
BESIDE = 10_000  # rows of the runs before and after, whose speed a size's is compared with
BYTES_A_ROW, FLAT = 16, 0.10


def write_rows(path: Path, num: int) -> None:
    """`num` different short questions with their answers, of like length at every size."""
    with path.open("w", encoding="utf-8") as file:
        for i in range(num):
            left, right = 1_000_000 + i, (i * 7919) % 1_000
            file.write(json.dumps({"question": f"{left} + {right:03d}?", "answer": str(left + right)}) + "\n")


def one(num: int, work: Path) -> dict[str, Any]:
    """Train on `num` rows in this process and say what it took."""
    import tunesmith
    from tunesmith.core.runs import RunFolder

    def train(rows: int, name: str, steps: int) -> tuple[float, list[dict[str, Any]]]:
        data = work / f"{name}.jsonl"
        write_rows(data, rows)
        began = time.time()
        done = tunesmith.train(
            model="pico", out=str(work / name), quiet=True,
            **{"data.path": str(data), "train.steps": steps, "train.batch_size": BATCH, "train.sample": 0, "data.dev": 50, "data.test": 50, "train.eval_every": steps},
        )  # fmt: skip
        lines = RunFolder.open(done["run"]).file("events.jsonl").read_text().splitlines()
        events = [json.loads(line) for line in lines]
        return next(event["time"] for event in events if event["kind"] == "start") - began, events

    def speeds(rows: int, name: str) -> dict[str, float]:
        paths = [train(rows, f"{name}-{number}", 1)[0] for number in range(1, REPEATS if rows <= BESIDE else 1)]
        seconds, events = train(rows, name, STEPS)
        steps = [event["tokens"] / event["seconds"] for event in events if event["kind"] == "step"]
        return {
            "data_rows_per_second": rows / median([*paths, seconds]),
            "tokens_per_second": quantiles(steps, n=100)[round(100 * FASTEST) - 1],
        }

    train(WARM, "warm", 2)
    before = speeds(BESIDE, "before")
    found: dict[str, Any] = speeds(num, "run")
    found["peak_bytes"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    after = speeds(BESIDE, "after")
    for key in before:
        found[f"beside_{key}"] = (before[key] + after[key]) / 2
    return found


def share(size: dict[str, Any], key: str) -> float:
    """A speed as a share of that of the runs before and after it, the median over the runs of a size."""
    return float(median(run[key] / run[f"beside_{key}"] for run in size["runs"]))


def middle(size: dict[str, Any], key: str) -> float:
    """The median of a figure over the runs of a size."""
    return float(median(run[key] for run in size["runs"]))


def show(found: dict[str, Any]) -> str:
    """A line a size, medians over its runs, the growth beside it."""
    sizes = found["sizes"]
    first = sizes[0]
    lines = []
    for size in sizes:
        more = size["rows"] - first["rows"]
        each = (middle(size, "peak_bytes") - middle(first, "peak_bytes")) / more if more else 0.0
        lines.append([f"{size['rows']:,}", f"{middle(size, 'data_rows_per_second'):,.0f}", f"{share(size, 'data_rows_per_second'):.2f}",
                      f"{middle(size, 'tokens_per_second'):,.0f}", f"{share(size, 'tokens_per_second'):.2f}",
                      f"{middle(size, 'peak_bytes') / 1e6:.0f}", f"{each:.1f}" if more else "", str(len(size["runs"]))])  # fmt: skip
    apart = {}
    for key, least in (("tokens_per_second", 0), ("data_rows_per_second", 10_000)):
        speeds = [share(size, key) for size in sizes if size["rows"] >= least]
        apart[key] = max(speeds) / min(speeds) - 1 if speeds else 0.0
    beside = f"of {BESIDE:,} beside"
    titles = ["rows", "data rows/s", beside, "tokens/s", beside, "peak MB", "bytes a row more", "runs"]
    told = f"Tokens a second differ by {apart['tokens_per_second']:.0%}, rows a second of the data path by {apart['data_rows_per_second']:.0%}"
    return f"{table(titles, lines)}\n\n{told} (bar {FLAT:.0%}); bytes a row, of the most rows: bar {BYTES_A_ROW}."


def main() -> None:
    """Arguments, a process a run, sizes in turn, table."""
    ask = argparse.ArgumentParser(
        prog="python -m benchmarks.growth", description="Speed and memory over the number of rows."
    )
    ask.add_argument("--sizes", default=",".join(map(str, SIZES)))
    ask.add_argument("--runs", type=int, default=3, help="of each size; those that are kept count")
    ask.add_argument("--again", action="store_true")
    ask.add_argument("--one", type=int, help="one size, in this process")
    ask.add_argument("--work", type=Path)
    given = ask.parse_args()
    if given.one:
        (given.work / "out.json").write_text(json.dumps(one(given.one, given.work)))
        return
    kept: dict[int, list[dict[str, Any]]] = {}
    if not given.again:
        kept = {found["rows"]: found["runs"] for found in read_results(NAME).get("sizes", [])}
    for number in range(given.runs):
        for num in map(int, given.sizes.split(",")):
            if len(kept.setdefault(num, [])) > number:
                continue
            with tempfile.TemporaryDirectory() as folder:
                command = [sys.executable, "-m", "benchmarks.growth", "--one", str(num), "--work", folder]
                subprocess.run(command, check=True)
                kept[num].append(json.loads((Path(folder) / "out.json").read_text()))
            print(json.dumps({"rows": num, **kept[num][-1]}), flush=True)
            sizes = [{"rows": key, "runs": kept[key]} for key in sorted(kept) if kept[key]]
            write_results(NAME, {"steps": STEPS, "batch_size": BATCH, "fastest": FASTEST, "sizes": sizes})
    print(show(read_results(NAME)))


if __name__ == "__main__":
    main()
