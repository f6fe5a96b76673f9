"""One command for the comparison with TRL, and with others beside it.

    benchmarks/training_speed/setup.sh                                   once: the peer's environment
    python -m benchmarks.training_speed --cells headline --peer-python benchmarks/training_speed/.venv-trl/bin/python
    python -m benchmarks.training_speed --table                          the table of what is measured so far
    python -m benchmarks.training_speed --against trl,hf,litgpt,llamafactory --cells sizes     against the best of several

Sets of cells: headline (4), answers (2), rest (12), all, quick (1), sizes (6), or names. Each cell: how many rows (so that the
faster side runs 60-120 s), a short trial of each option of each peer, then whole epochs of ours and the fastest, sides taking turns,
each in a fresh process with the same allocator variables. Every run is appended to the results as it ends; a second call goes on where the first
stopped. `--parity` compares losses step by step where both sides can take the same batches.
"""

import argparse
import json
import math
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.common import processor
from benchmarks.training_speed import cells as cells_
from benchmarks.training_speed import models, rows
from benchmarks.training_speed.cells import STEP_ROWS, Cell
from benchmarks.training_speed.peers import PEERS

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
RESULTS = HERE.parent / "results"
ALLOCATOR = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "-1", "MALLOC_TOP_PAD_": "268435456"}
TARGET_SECONDS = 65.0  # of the short run that says how many rows; whole epochs are a little faster per token
LR = 5e-4
# our passes hold at most this share of an average step's tokens: most LoRA steps are one pass (each merges the weights anew), full ones two to four
# (the larger the products, the less a pass costs beyond its memory)
PASS_SHARE = {("10M", "lora"): 1.2, ("10M", "full"): 0.6, ("30M", "full"): 0.6, ("100M", "full"): 0.35}
LORA_SHARE = 1.6


class Bench:
    """The results file and how to start a worker."""

    def __init__(self, results: Path, work: Path, pythons: dict[str, str], threads: int) -> None:
        self.path, self.work, self.pythons, self.threads = results, work, pythons, threads
        self.data: dict[str, Any] = json.loads(results.read_text()) if results.exists() else {"cells": {}}

    def save(self) -> None:
        """Write everything measured so far."""
        self.data["date"] = time.strftime("%Y-%m-%d %H:%M:%S")
        self.path.parent.mkdir(parents=True, exist_ok=True)
        part = self.path.with_suffix(".part")
        part.write_text(json.dumps(self.data, indent=1) + "\n")
        part.replace(self.path)

    def worker(self, module: str, spec: dict[str, Any], *, python: str = sys.executable) -> dict[str, Any]:
        """Run one measurement in a fresh process; its own errors end everything, out of memory is a result."""
        with tempfile.TemporaryDirectory() as folder:
            given, out = Path(folder) / "spec.json", Path(folder) / "out.json"
            given.write_text(json.dumps({**spec, "work": str(self.work), "threads": self.threads}))
            env = {**os.environ, **ALLOCATOR, "OMP_NUM_THREADS": str(self.threads), "TOKENIZERS_PARALLELISM": "false"}
            env |= {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error", "HF_DATASETS_DISABLE_PROGRESS_BARS": "1"}
            started = time.time()
            command = [python, "-m", f"benchmarks.training_speed.{module}", str(given), str(out)]
            done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
            if done.returncode:
                raise RuntimeError(f"{module} failed ({done.returncode}) on {spec}:\n{done.stderr[-3000:]}")
            result = json.loads(out.read_text())
        return {
            **result,
            "at": int(started),
            "whole_process_seconds": time.time() - started,
            "load": os.getloadavg()[0],
        }

    def peer(self, name: str, spec: dict[str, Any]) -> dict[str, Any]:
        """Run one measurement of a peer in its own environment."""
        return {"peer": name, **self.worker(PEERS[name].module, spec, python=self.pythons[name])}


def measure(
    bench: Bench, cell: Cell, against: tuple[str, ...], *, pairs: int, fixed_rows: int | None, like: str | None = None
) -> None:
    """Everything one cell needs that is not in the results yet. like: a measured cell, whose fastest option of each peer alone is tried."""
    rows.build(bench.work)
    folder = models.build(bench.work, cell.size, cell.vocab)
    record = bench.data["cells"].setdefault(cell.name, {**cell.as_dict(), "pilots": [], "runs": []})
    step_tokens = round(
        STEP_ROWS * sum(map(len, rows.load(bench.work, cut=cell.cut, num=rows.NUM_ROWS))) / rows.NUM_ROWS
    )
    base = {"cell": cell.as_dict(), "model": str(folder), "step_tokens": step_tokens, "lr": LR}
    kind = (cell.size, cell.adapter)
    mine = {**base, "pass_tokens": round(PASS_SHARE.get(kind, LORA_SHARE) * step_tokens)}

    if like:
        record["like"] = like
    if "num_rows" not in record:
        num, why = fixed_rows, "as asked"
        if num is None:
            short = bench.worker("ours", {**mine, "num_rows": 8 * STEP_ROWS})
            wanted = short["tokens_per_second"] * TARGET_SECONDS / step_tokens
            num = min(rows.NUM_ROWS, max(20, round(wanted)) * STEP_ROWS)
            why = f"we make {short['tokens_per_second']:.0f} tokens/s in a short run"
        record |= {"num_rows": num, "rows": rows.fingerprint(rows.load(bench.work, cut=cell.cut, num=num))}
        bench.save()
        say(cell, f"{num} rows ({why})")

    # Each peer's options on an eighth of the rows: first how rows are laid out, then how bf16 is done with the best layout.
    pilot_rows = max(6 * STEP_ROWS, record["num_rows"] // 8 // STEP_ROWS * STEP_ROWS)
    pilots: list[dict[str, Any]] = record["pilots"]
    for name in against:
        peer, first = PEERS[name], PEERS[name].precisions[cell.precision][0]

        def pilot(option: str, dtype: str, name: str = name) -> None:
            if (name, option, dtype) not in {(peer_of(done), done["option"], done["dtype"]) for done in pilots}:
                spec = {**base, "num_rows": min(pilot_rows, record["num_rows"]), "option": option, "dtype": dtype}
                try:
                    pilots.append(slim(bench.peer(name, spec)))
                except RuntimeError as error:  # an option that a peer cannot run is none, and is said
                    told = {"peer": name, "option": option, "dtype": dtype, "tokens_per_second": 0.0}
                    pilots.append({**told, "failed": str(error)[-300:]})
                bench.save()
                say(cell, f"{name} {option}/{dtype}: {pilots[-1]['tokens_per_second']:.0f} tokens/s (trial)")

        for option in layouts_as(bench, like, name) if like else peer.layouts:
            pilot(option, first)
        best_option = fastest([done for done in pilots if peer_of(done) == name])["option"]
        for dtype in peer.precisions[cell.precision]:
            for option in (best_option,) if like else (best_option, "packing"):
                if option in peer.layouts:
                    pilot(option, dtype)
    best = fastest(pilots)
    packing = fastest([done for done in pilots if done["option"] == "packing"] or [best])
    record["best"] = {"peer": peer_of(best), "option": best["option"], "dtype": best["dtype"]}

    limits: list[dict[str, Any]] = record.setdefault("limits", [])

    def limit(number: int) -> None:
        limits.append({"pair": number, **bench.worker("limit", base)})
        bench.save()
        say(cell, f"matmul limit {limits[-1]['tokens_per_second']:.0f} tokens/s")

    for number in range(pairs):
        sides: list[tuple[str, dict[str, Any] | None]] = [("ours", None), ("best", best)]
        if number == 0 and against == ("trl",) and packing["option"] == "packing" != best["option"]:
            sides.append(("packing", packing))
        for side, option in sides if number % 2 == 0 else sides[::-1]:
            if sum(run["role"] == side for run in record["runs"]) > number:
                continue
            spec = {**base, "num_rows": record["num_rows"]}
            if option is None:  # the machine is not equally fast at all times: the limit right before and right after
                limit(number)
                run = bench.worker("ours", spec | mine)
                limit(number)
            else:
                run = bench.peer(peer_of(option), {**spec, "option": option["option"], "dtype": option["dtype"]})
            if run["rows"] != record["rows"]:
                raise RuntimeError(f"{cell.name}: {side} saw other rows than agreed")
            record["runs"].append({"role": side, **slim(run)})
            bench.save()
            speed, memory = run["tokens_per_second"], run["above_model_mb"]
            say(cell, f"run {number + 1} {side}: {speed:.0f} tokens/s, {memory:.0f} MB above the model")


def layouts_as(bench: Bench, cell: str, name: str) -> tuple[str, ...]:
    """The fastest layout of a peer in a cell that is measured."""
    pilots = [done for done in bench.data["cells"].get(cell, {"pilots": []})["pilots"] if peer_of(done) == name]
    if not pilots:
        raise SystemExit(f"{cell} has no trial of {name} yet: measure it first")
    return (fastest(pilots)["option"],)


def parity(bench: Bench, against: tuple[str, ...]) -> None:
    """Losses of 20 steps of full tuning in fp32, rows in order, padded by the peer and packed here."""
    rows.build(bench.work)
    cell = Cell("10M", "full", "fp32", 256)
    folder = models.build(bench.work, cell.size, cell.vocab)
    spec = {"cell": cell.as_dict(), "model": str(folder), "step_tokens": 2000, "lr": LR, "num_rows": 20 * STEP_ROWS}
    sides: dict[float | None, dict[str, Any]] = {}
    for name in against:
        clip = PEERS[name].clip
        if clip not in sides:
            sides[clip] = bench.worker("ours", {**spec, "in_order": True, "clip": clip})
        ours = sides[clip]
        peer = bench.peer(name, {**spec, "option": "in_order", "dtype": PEERS[name].precisions["fp32"][0]})
        differences = [abs(a - b) for a, b in zip(ours["losses"], peer["losses"], strict=True)]
        bench.data["parity" if name == "trl" else f"parity_{name}"] = {
            "cell": cell.name,
            "steps": len(differences),
            "largest_difference": max(differences),
            "first_difference": differences[0],
            "ours": ours["losses"],
            name: peer["losses"],
        }
        bench.save()
        print(
            f"{name}: losses of {len(differences)} equal steps: largest difference {max(differences):.2e} (wanted <= 1e-4)"
        )


def slim(run: dict[str, Any]) -> dict[str, Any]:
    """What is kept of a run."""
    return {key: value for key, value in run.items() if key != "losses"}


def peer_of(run: dict[str, Any]) -> str:
    """Whose run it is."""
    return run.get("peer", "trl")


def fastest(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """The run with the most tokens a second."""
    return max(runs, key=lambda run: run["tokens_per_second"])


def say(cell: Cell, words: str) -> None:
    """Progress, at once."""
    print(f"[{time.strftime('%H:%M:%S')}] {cell.name}: {words}", flush=True)


def middle(record: dict[str, Any], role: str, key: str) -> float:
    """Median over a side's runs, NaN when there is none."""
    values = [run[key] for run in record["runs"] if run["role"] == role]
    return statistics.median(values) if values else float("nan")


def judge(record: dict[str, Any]) -> dict[str, Any]:
    """The figures of a cell against the bar: >= 1.5x TRL's best and >= 2.5x its packing, or 75 % of the matmul limit."""
    ours, best = (middle(record, role, "tokens_per_second") for role in ("ours", "best"))
    packing_role = "best" if record.get("best", {}).get("option") == "packing" else "packing"
    packing = middle(record, packing_role, "tokens_per_second")
    limit, at_best = limits_of(record)
    floor = 0.75 * limit
    against_best = (2.5 if record["answers"] else 1.5) * best
    against_packing = against_best if record["answers"] or math.isnan(packing) else 2.5 * packing
    memory = middle(record, "ours", "above_model_mb") / middle(record, "best", "above_model_mb")
    return {
        "ours": ours,
        "best": best,
        "packing": packing,
        "over_best": ours / best,
        "over_packing": ours / packing,
        "limit_share": ours / limit,
        "at_best_share": ours / at_best,  # of a limit measured before 2026-11-23 both are this
        "speed_held": (ours >= min(against_best, floor)) and (ours >= min(against_packing, floor)),
        "by_limit": floor < max(against_best, against_packing),
        "memory": memory,
        "memory_held": memory <= 0.5,
        "runs": min(sum(run["role"] == role for run in record["runs"]) for role in ("ours", "best")),
    }


def limits_of(record: dict[str, Any]) -> tuple[float, float]:
    """The matmul limit of a cell and that of its best repetitions. Where they were measured around each of our runs: what our median speed stands
    to as our runs, the median of them, stand to those around. Before 2026-11-23 only the second was measured: then both are that."""
    limits = record.get("limits") or [record["limit"]]
    runs = [run["tokens_per_second"] for run in record["runs"] if run["role"] == "ours"]
    found = []
    for key in ("tokens_per_second", "best_tokens_per_second"):
        if "pair" not in limits[0]:
            found.append(statistics.median(each.get(key, each["tokens_per_second"]) for each in limits))
            continue
        around = [[each[key] for each in limits if each["pair"] == number] for number in range(len(runs))]
        shares = [run / statistics.mean(each) for run, each in zip(runs, around, strict=True)]
        found.append(statistics.median(runs) / statistics.median(shares))
    return found[0], found[1]


def or_none(value: float, form: str, unit: str = "") -> str:
    """A figure, or a dash where there is none."""
    return "-" if math.isnan(value) else format(value, form) + unit


def show(data: dict[str, Any]) -> str:
    """The table of a results file: what is measured so far."""
    columns = ["cell", "rows", "runs", "ours tok/s (lo-hi)", "best peer tok/s (lo-hi), option", "packing", "over best"]
    columns += [
        "over packing",
        "of limit",
        "of its best repetitions",
        "MB ours / peer",
        "loss ours / peer",
        "speed",
        "memory",
    ]
    lines = [f"| {' | '.join(columns)} |", "|" + "---|" * len(columns)]
    for name, record in data["cells"].items():
        if not record["runs"] or any(not [r for r in record["runs"] if r["role"] == role] for role in ("ours", "best")):
            continue
        f = judge(record)
        spread = {}
        for role in ("ours", "best"):
            rates = [run["tokens_per_second"] for run in record["runs"] if run["role"] == role]
            spread[role] = f"{middle(record, role, 'tokens_per_second'):.0f} ({min(rates):.0f}-{max(rates):.0f})"
        memory = [f"{middle(record, role, 'above_model_mb'):.0f}" for role in ("ours", "best")]
        loss = [f"{middle(record, role, 'late_loss'):.3f}" for role in ("ours", "best")]
        option = f"{peer_of(record['best'])} {record['best']['option']}/{record['best']['dtype']}"
        if "like" in record:
            option += f", options as in {record['like']}"
        lines.append(
            f"| {name} | {record['num_rows']} | {f['runs'] if f['runs'] > 1 else 'single'} | {spread['ours']} "
            f"| {spread['best']}, {option} | {or_none(f['packing'], '.0f')} | {f['over_best']:.2f}x | {or_none(f['over_packing'], '.2f', 'x')} "
            f"| {f['limit_share']:.0%} | {f['at_best_share']:.0%} | {memory[0]} / {memory[1]} | {loss[0]} / {loss[1]} "
            f"| {('held by limit' if f['by_limit'] else 'held') if f['speed_held'] else 'MISSED'} "
            f"| {'held' if f['memory_held'] else 'MISSED'} {f['memory']:.2f} |"
        )
    for name in PEERS:
        if found := data.get("parity" if name == "trl" else f"parity_{name}"):
            line = f"Same batches as {name}, {found['steps']} steps: largest loss difference {found['largest_difference']:.1e}."
            lines += ["", line]
    return "\n".join(lines)


def main() -> None:
    """See the top of the file."""
    ask = argparse.ArgumentParser(prog="python -m benchmarks.training_speed", description=__doc__.split("\n")[0])
    ask.add_argument(
        "--cells", default="quick", help="headline | answers | rest | all | quick | names, comma-separated"
    )
    ask.add_argument("--pairs", type=int, help="runs a side (3 for headline cells, else 1)")
    ask.add_argument("--rows", type=int, help="rows a cell instead of the calibrated number")
    ask.add_argument("--like", help="a measured cell: of each peer only the option that was fastest there is tried")
    ask.add_argument("--against", default="trl", help=f"peers, comma-separated, of {', '.join(PEERS)}")
    for name in ("peer", "litgpt", "llamafactory"):
        usual = HERE / f".venv-{name.replace('peer', 'trl')}" / "bin" / "python"
        ask.add_argument(f"--{name}-python", default=str(usual), help="of the environment that setup.sh made")
    ask.add_argument("--work", type=Path, default=HERE / ".work", help="where models and rows are kept")
    ask.add_argument("--results", type=Path, help="training_speed.json, or training_peers.json against others than TRL")
    ask.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    ask.add_argument("--parity", action="store_true", help="compare losses on equal batches instead")
    ask.add_argument("--table", action="store_true", help="only print what is measured")
    given = ask.parse_args()
    against = tuple(given.against.split(","))
    if strangers := set(against) - set(PEERS):
        raise SystemExit(f"no peer {', '.join(strangers)}; there are {', '.join(PEERS)}")
    trl = given.peer_python
    pythons = {"trl": trl, "hf": trl, "litgpt": given.litgpt_python, "llamafactory": given.llamafactory_python}
    results = given.results or RESULTS / ("training_speed.json" if against == ("trl",) else "training_peers.json")
    bench = Bench(results, given.work.resolve(), pythons, given.threads)
    if not given.table:
        for name in against:
            if not Path(pythons[name]).exists():
                raise SystemExit(f"{pythons[name]} is missing: run benchmarks/training_speed/setup.sh {name} first")
        bench.data["machine"] = {
            "processor": processor(),
            "threads": given.threads,
            "python": platform.python_version(),
        }
        bench.data["allocator"] = ALLOCATOR
        if given.parity:
            parity(bench, against)
        else:
            for cell in cells_.cells(given.cells):
                runs = given.pairs or (3 if cell in cells_.HEADLINE else 1)
                measure(bench, cell, against, pairs=runs, fixed_rows=given.rows, like=given.like)
    print(show(bench.data))


if __name__ == "__main__":
    main()
