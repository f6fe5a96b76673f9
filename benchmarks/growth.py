"""Does it stay as fast and as small when there are more rows? From a thousand rows to a million, with the one-layer model.

    python -m benchmarks.growth                        1k, 10k, 100k, 1M; sizes already measured are kept
    python -m benchmarks.growth --sizes 1000,10000 --again

Each size is a process of its own that trains by the public API for the same number of steps on short chat rows written for it, after a run of a few
rows for imports and caches. Asked: rows a second of the data path (read, recognise, split, encode, pack: all before the first step), tokens a second of the
steps after the first tenth, and the process's highest resident memory, whose growth over the smallest size is divided by the rows that are more. The bar:
both speeds within 10 % of each other (the data path's from 10,000 rows on: before that it is all start), 16 bytes a row.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.common import read_results, table, write_results

NAME = "growth"
SIZES = (1_000, 10_000, 100_000, 1_000_000)
STEPS, BATCH = 400, 64
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

    train(300, "warm", 2)
    data_seconds, events = train(num, "run", STEPS)
    steps = [event for event in events if event["kind"] == "step"][STEPS // 10 :]
    return {
        "rows": num,
        "data_seconds": data_seconds,
        "data_rows_per_second": num / data_seconds,
        "tokens_per_second": median(event["tokens"] / event["seconds"] for event in steps),
        "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }


def show(found: dict[str, Any]) -> str:
    """A line a size, the growth beside it."""
    sizes = found["sizes"]
    first = sizes[0]
    lines = []
    for size in sizes:
        more = size["rows"] - first["rows"]
        each = (size["peak_bytes"] - first["peak_bytes"]) / more if more else 0.0
        against = size["tokens_per_second"] / first["tokens_per_second"]
        lines.append([f"{size['rows']:,}", f"{size['data_rows_per_second']:,.0f}", f"{size['tokens_per_second']:,.0f}", f"{against:.2f}",
                      f"{size['peak_bytes'] / 1e6:.0f}", f"{each:.1f}" if more else ""])  # fmt: skip
    apart = {}
    for key, least in (("tokens_per_second", 0), ("data_rows_per_second", 10_000)):
        speeds = [size[key] for size in sizes if size["rows"] >= least]
        apart[key] = max(speeds) / min(speeds) - 1 if speeds else 0.0
    titles = ["rows", "data rows/s", "tokens/s", "of the first", "peak MB", "bytes a row more"]
    told = f"Tokens a second differ by {apart['tokens_per_second']:.0%}, rows a second of the data path by {apart['data_rows_per_second']:.0%}"
    return f"{table(titles, lines)}\n\n{told} (bar {FLAT:.0%}); bytes a row: bar {BYTES_A_ROW}."


def main() -> None:
    """Arguments, a process a size, table."""
    ask = argparse.ArgumentParser(
        prog="python -m benchmarks.growth", description="Speed and memory over the number of rows."
    )
    ask.add_argument("--sizes", default=",".join(map(str, SIZES)))
    ask.add_argument("--again", action="store_true")
    ask.add_argument("--one", type=int, help="one size, in this process")
    ask.add_argument("--work", type=Path)
    given = ask.parse_args()
    if given.one:
        (given.work / "out.json").write_text(json.dumps(one(given.one, given.work)))
        return
    kept = {found["rows"]: found for found in (read_results(NAME) or {}).get("sizes", [])}
    for num in map(int, given.sizes.split(",")):
        if num in kept and not given.again:
            continue
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, "-m", "benchmarks.growth", "--one", str(num), "--work", folder]
            subprocess.run(command, check=True)
            kept[num] = json.loads((Path(folder) / "out.json").read_text())
        print(json.dumps(kept[num]), flush=True)
        write_results(NAME, {"steps": STEPS, "batch_size": BATCH, "sizes": [kept[key] for key in sorted(kept)]})
    print(show({"sizes": [kept[key] for key in sorted(kept)]}))


if __name__ == "__main__":
    main()
