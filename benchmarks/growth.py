"""Does it stay as fast and as small when there are more rows? From a thousand rows to a million, with the one-layer model.

    python -m benchmarks.growth                        1k, 10k, 100k, 1M; those already made are kept
    python -m benchmarks.growth --sizes 1000,10000 --runs 2 --again

Each size is a process of its own that trains by the public API for the same number of steps on short chat rows written for it, after a run of 20,000
rows that makes what is kept at any size (imports, the heap). Asked: rows a second of the data path (read, recognise, split, encode, pack: all before the first step), tokens a second of
the steps, and the process's highest resident memory, whose growth over the smallest size is divided by the rows that are more.

A machine's speed changes from second to second, and a million rows take minutes. So a second process trains on 10,000 rows over and over meanwhile, and
the two take turns: each runs for a fifth of a second while the other is stopped. A size's speed is told as a share of what the other did in the same
minutes; both count only the time in which they ran. The bar: all shares of a kind within 10 % of each other (the data path's from 10,000 rows on: before
that it is all start), 16 bytes a row.
"""

import argparse
import bisect
import itertools
import json
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.common import read_results, table, write_results

NAME = "growth"
SIZES = (1_000, 10_000, 100_000, 1_000_000)
STEPS, BATCH = 3_000, 64
SKIPPED = 20  # first steps of a training run, in which the heap grows
REPEATS = 8  # of the data path, up to as many rows as lie beside
WARM = 20_000  # rows of the first run: what is kept at any size is there then
BESIDE = 10_000  # rows of the process that a size is compared with
BESIDE_STEPS = 300  # of each of its runs: they take about as long as its data path
SLICE = 0.2  # seconds that one runs while the other is stopped
BYTES_A_ROW, FLAT = 16, 0.10


class Turns:
    """When which of the processes ran."""

    def __init__(self, *names: str) -> None:
        self.begins: dict[str, list[float]] = {name: [] for name in names}
        self.ends: dict[str, list[float]] = {name: [] for name in names}
        self.sums: dict[str, list[float]] = {name: [0.0] for name in names}

    def ran(self, name: str, begin: float, end: float) -> None:
        """It ran from `begin` to `end`, later than all told before."""
        self.begins[name].append(begin)
        self.ends[name].append(end)
        self.sums[name].append(self.sums[name][-1] + end - begin)

    def seconds(self, name: str, begin: float, end: float) -> float:
        """How long it ran between two times."""
        return self._until(name, end) - self._until(name, begin)

    def _until(self, name: str, when: float) -> float:
        at = bisect.bisect_right(self.begins[name], when)
        if not at:
            return 0.0
        return self.sums[name][at] - max(0.0, self.ends[name][at - 1] - when)


def write_rows(path: Path, num: int) -> None:
    """`num` different short questions with their answers, of like length at every size."""
    with path.open("w", encoding="utf-8") as file:
        for i in range(num):
            left, right = 1_000_000 + i, (i * 7919) % 1_000
            file.write(json.dumps({"question": f"{left} + {right:03d}?", "answer": str(left + right)}) + "\n")


def train(rows: int, folder: Path, steps: int) -> dict[str, Any]:
    """One training run: when its data path began and ended, and when each step did."""
    import tunesmith
    from tunesmith.core.runs import RunFolder

    data = folder / f"{rows}.jsonl"
    if not data.exists():
        write_rows(data, rows)
    with tempfile.TemporaryDirectory(dir=folder) as place:
        began = time.time()
        done = tunesmith.train(
            model="pico", out=str(Path(place) / "run"), quiet=True,
            **{"data.path": str(data), "train.steps": steps, "train.batch_size": BATCH, "train.sample": 0, "data.dev": 50, "data.test": 50, "train.eval_every": steps},
        )  # fmt: skip
        lines = RunFolder.open(done["run"]).file("events.jsonl").read_text().splitlines()
    events = [json.loads(line) for line in lines]
    started = next(event["time"] for event in events if event["kind"] == "start")
    ends = [(event["time"], event["tokens"]) for event in events if event["kind"] == "step"]
    return {"rows": rows, "began": began, "started": started, "steps": ends[SKIPPED:]}


def one(num: int, folder: Path) -> None:
    """A size in this process: a line a training run in runs.jsonl, and the peak at the end."""
    train(WARM, folder, 2)
    with (folder / "runs.jsonl").open("a", encoding="utf-8") as file:
        for number in range(REPEATS if num <= BESIDE else 1)[::-1]:
            file.write(json.dumps(train(num, folder, 1 if number else STEPS)) + "\n")
    (folder / "peak").write_text(str(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024))


def beside(folder: Path) -> None:
    """The same on 10,000 rows until this process is ended."""
    train(WARM, folder, 2)
    with (folder / "runs.jsonl").open("a", encoding="utf-8", buffering=1) as file:
        while True:
            file.write(json.dumps(train(BESIDE, folder, BESIDE_STEPS)) + "\n")


def in_turns(commands: dict[str, list[str]]) -> Turns:
    """Start the processes; each runs while the others are stopped, until the first has ended."""
    turns = Turns(*commands)
    running = {name: subprocess.Popen(command) for name, command in commands.items()}
    first = next(iter(running))
    try:
        for process in running.values():
            process.send_signal(signal.SIGSTOP)
        for name in itertools.cycle(running):
            began = time.time()
            running[name].send_signal(signal.SIGCONT)
            time.sleep(SLICE)
            if running[name].poll() is None:
                running[name].send_signal(signal.SIGSTOP)
            turns.ran(name, began, time.time())
            if running[first].poll() is not None:
                break
            if running[name].poll() is not None:
                raise SystemExit(f"{name} ended with {running[name].returncode}: see above")
        if running[first].returncode:
            raise SystemExit(f"{first} ended with {running[first].returncode}: see above")
    finally:
        for process in running.values():
            process.kill()
            process.wait()
    return turns


def read_runs(folder: Path) -> list[dict[str, Any]]:
    """The training runs a process has told of whole."""
    lines = (folder / "runs.jsonl").read_text(encoding="utf-8").split("\n")
    return [json.loads(line) for line in lines[:-1]]


def spans(runs: list[dict[str, Any]], kind: str) -> Iterator[tuple[float, float, float]]:
    """(begin, end, how much was done) of what is asked for: data paths by rows, steps by tokens."""
    for run in runs:
        if kind == "data":
            yield run["began"], run["started"], run["rows"]
        else:
            for (begin, _), (end, tokens) in itertools.pairwise(run["steps"]):
                yield begin, end, tokens


def speeds(turns: Turns, num: list[dict[str, Any]], other: list[dict[str, Any]], kind: str) -> tuple[float, float]:
    """A size's rows or tokens a second while it ran, and what the other process made of its own time between the size's begin and end of that."""
    mine = list(spans(num, kind))
    begin, end = mine[0][0], mine[-1][1]
    done, seconds = 0.0, 0.0
    for since, until, amount in spans(other, kind):
        whole = turns.seconds("beside", since, until)
        within = turns.seconds("beside", max(since, begin), min(until, end)) if since < end and until > begin else 0.0
        done += amount * within / whole if whole else 0.0
        seconds += within
    own = sum(amount for *_, amount in mine) / sum(turns.seconds("size", since, until) for since, until, _ in mine)
    return own, done / seconds


def measured(num: int) -> dict[str, Any]:
    """A size beside the other process."""
    with tempfile.TemporaryDirectory() as place:
        folders = {name: Path(place) / name for name in ("size", "beside")}
        commands = {}
        for (name, folder), rows in zip(folders.items(), (num, 0), strict=True):
            folder.mkdir()
            commands[name] = [sys.executable, "-m", "benchmarks.growth", "--one", str(rows), "--work", str(folder)]
        turns = in_turns(commands)
        size, other = (read_runs(folder) for folder in folders.values())
        found: dict[str, Any] = {"peak_bytes": int((folders["size"] / "peak").read_text())}
    for kind, key in (("data", "data_rows_per_second"), ("steps", "tokens_per_second")):
        found[key], found[f"beside_{key}"] = speeds(turns, size, other, kind)
    return found


def share(size: dict[str, Any], key: str) -> float:
    """A speed as a share of what the other process did meanwhile, the median over the runs of a size."""
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
        shares = [share(size, key) for size in sizes if size["rows"] >= least]
        apart[key] = max(shares) / min(shares) - 1 if shares else 0.0
    beside = f"of {BESIDE:,} beside"
    titles = ["rows", "data rows/s", beside, "tokens/s", beside, "peak MB", "bytes a row more", "runs"]
    told = f"Tokens a second differ by {apart['tokens_per_second']:.0%}, rows a second of the data path by {apart['data_rows_per_second']:.0%}"
    return f"{table(titles, lines)}\n\n{told} (bar {FLAT:.0%}); bytes a row, of the most rows: bar {BYTES_A_ROW}."


def main() -> None:
    """Arguments, a pair of processes a run, sizes in turn, table."""
    ask = argparse.ArgumentParser(
        prog="python -m benchmarks.growth", description="Speed and memory over the number of rows."
    )
    ask.add_argument("--sizes", default=",".join(map(str, SIZES)))
    ask.add_argument("--runs", type=int, default=1, help="of each size; those that are kept count")
    ask.add_argument("--again", action="store_true")
    ask.add_argument("--one", type=int, help="one size, in this process; 0 = the one beside")
    ask.add_argument("--work", type=Path)
    given = ask.parse_args()
    if given.one is not None:
        one(given.one, given.work) if given.one else beside(given.work)
        return
    kept: dict[int, list[dict[str, Any]]] = {}
    if not given.again:
        kept = {found["rows"]: found["runs"] for found in read_results(NAME).get("sizes", [])}
    for number in range(given.runs):
        for num in map(int, given.sizes.split(",")):
            if len(kept.setdefault(num, [])) > number:
                continue
            kept[num].append(measured(num))
            print(json.dumps({"rows": num, **kept[num][-1]}), flush=True)
            sizes = [{"rows": key, "runs": kept[key]} for key in sorted(kept) if kept[key]]
            write_results(NAME, {"steps": STEPS, "batch_size": BATCH, "slice_seconds": SLICE, "sizes": sizes})
    print(show(read_results(NAME)))


if __name__ == "__main__":
    main()
