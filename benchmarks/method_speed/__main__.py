"""See the top of benchmarks/method_speed/__init__.py."""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.common import read_results, table, write_results
from benchmarks.method_speed.cases import CASES, STEP_PAIRS, Case
from benchmarks.training_speed import models, rows
from benchmarks.training_speed.__main__ import ALLOCATOR, ROOT

NAME, LR, BAR, TARGET_SECONDS = "method_speed", 5e-5, 2.0, 60.0


def worker(module: str, spec: dict[str, Any], given: argparse.Namespace) -> dict[str, Any]:
    """One run in a fresh process. A RuntimeError with the end of what it said when it fails."""
    with tempfile.TemporaryDirectory() as folder:
        asked, out = Path(folder) / "spec.json", Path(folder) / "out.json"
        asked.write_text(json.dumps({**spec, "work": str(given.work), "threads": given.threads}))
        env = {**os.environ, **ALLOCATOR, "OMP_NUM_THREADS": str(given.threads), "TOKENIZERS_PARALLELISM": "false"}
        env |= {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error", "HF_DATASETS_DISABLE_PROGRESS_BARS": "1"}
        python = {"trl": given.peer_python, "llamafactory": given.llamafactory_python}.get(
            module.rpartition("_")[2], sys.executable
        )
        command = [python, "-m", f"benchmarks.method_speed.{module}", str(asked), str(out)]
        done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{module} failed ({done.returncode}) on {spec['case']}:\n{done.stderr[-2000:]}")
        return {**json.loads(out.read_text()), "load": os.getloadavg()[0]}


def spec_of(case: Case, given: argparse.Namespace, num: int) -> dict[str, Any]:
    """What both sides are told: the model's folder, and for a reward model the same start of its head."""
    import numpy as np

    rows.build(given.work)
    folder = models.build(given.work, case.size, 8192)
    head = np.random.default_rng(0).normal(0, 0.02, (1, models.SHAPES[case.size]["hidden_size"])).tolist()
    return {"case": case.as_dict(), "model": str(folder), "lr": LR, "num_pairs": num, "num": num, "head": head}


def our_worker(case: Case) -> str:
    """The module of our side."""
    return "rollouts_ours" if case.method in ("grpo", "gkd") else "ours"


def their_worker(case: Case, option: str) -> str:
    """The module of the peer that an option belongs to."""
    if option.startswith("llamafactory"):
        return "peer_llamafactory"
    return "rollouts_trl" if case.method in ("grpo", "gkd") else "peer_trl"


def of_side(record: dict[str, Any], side: str) -> list[dict[str, Any]]:
    """The runs of a side, ours or the peer's, in the order they were made."""
    return [run for run in record["runs"] if (run["side"] == "ours") == (side == "ours")]


def measure(case: Case, given: argparse.Namespace, results: dict[str, Any]) -> None:
    """Trials of the peer's options, then runs in turn; everything is kept as it ends."""

    def keep() -> None:
        write_results(given.results, results)

    mine = our_worker(case)
    record = results["cases"].setdefault(case.name, {"trials": [], "runs": []})
    if "num_pairs" not in record:
        short = worker(mine, spec_of(case, given, 10 * STEP_PAIRS), given)
        wanted = int(short["units_per_second"] * TARGET_SECONDS) // STEP_PAIRS * STEP_PAIRS
        record["num_pairs"] = given.pairs or min(2400, max(10 * STEP_PAIRS, wanted))
        keep()
    lacking = not Path(given.llamafactory_python).exists()  # tried where its environment is there
    asked = given.options.split(",") if given.options else case.options
    for option in case.options if len(asked) > 1 else ():
        if option not in asked or (option.startswith("llamafactory") and lacking):
            continue
        if option not in [trial["option"] for trial in record["trials"]]:
            few = max(6 * STEP_PAIRS, record["num_pairs"] // 8 // STEP_PAIRS * STEP_PAIRS)
            try:
                found = worker(their_worker(case, option), {**spec_of(case, given, few), "option": option}, given)
                trial = {"option": option, "units_per_second": found["units_per_second"]}
            except RuntimeError as error:  # an option that does not run on this machine is no peer, and is said
                trial = {"option": option, "units_per_second": 0.0, "failed": str(error)[-300:]}
            record["trials"].append(trial)
            print(f"{case.name} {option}: {trial['units_per_second']:.1f} units/s (trial)", flush=True)
            keep()
    fastest = max(record["trials"], key=lambda trial: trial["units_per_second"], default={})
    best = fastest["option"] if len(asked) > 1 else asked[0]
    record["runs"] = [
        run for run in record["runs"] if run["side"] == "ours" or run["option"] == best
    ]  # a faster one came
    spec = spec_of(case, given, record["num_pairs"])
    for number in range(given.runs):
        for side in ("ours", "peer") if number % 2 == 0 else ("peer", "ours"):
            if len(of_side(record, side)) > number:
                continue
            more = {} if side == "ours" else {"option": best}
            found = worker(mine if side == "ours" else their_worker(case, best), {**spec, **more}, given)
            record["runs"].append({key: value for key, value in found.items() if key != "losses"})
            print(f"{case.name} {side}: {found['units_per_second']:.1f} units/s", flush=True)
            keep()


def parity(case: Case, given: argparse.Namespace) -> float:
    """The largest difference of the losses of ten equal steps, both sides in order and padded in TRL."""
    spec = {**spec_of(case, given, 10 * STEP_PAIRS), "in_order": True}
    ours = worker("ours", spec, given)
    peer = worker("peer_trl", {**spec, "option": case.options[0]}, given)
    if (ours["rows"], ours["trainable"]) != (peer["rows"], peer["trainable"]):
        raise RuntimeError(f"{case.name}: the sides saw other rows or train other numbers of parameters")
    return max(abs(a - b) for a, b in zip(ours["losses"], peer["losses"], strict=True))


def show(results: dict[str, Any]) -> str:
    """A line a case: medians of both sides, the median of the ratios pair by pair against the bar, memory above the model."""
    lines = []
    for name, record in results["cases"].items():
        sides = {side: of_side(record, side) for side in ("ours", "peer")}
        if not all(sides.values()):
            continue
        speed, memory = (
            {side: statistics.median(run[key] for run in runs) for side, runs in sides.items()}
            for key in ("units_per_second", "above_model_mb")
        )
        ratios = [a["units_per_second"] / b["units_per_second"] for a, b in zip(sides["ours"], sides["peer"])]
        ratio = statistics.median(ratios)
        span = f" {min(ratios):.2f}-{max(ratios):.2f}" if len(ratios) > 1 else ""
        option = sides["peer"][0]["option"]
        word = "met" if ratio >= BAR else "missed"
        rollouts = [
            statistics.median(run["rollout_tokens_per_second"] for run in runs)
            for runs in sides.values()
            if "rollout_tokens_per_second" in runs[0]
        ]
        rolled = f"{rollouts[0]:.0f} / {rollouts[1]:.0f} ({rollouts[0] / rollouts[1]:.2f})" if rollouts else ""
        lines.append([name, f"{speed['ours']:.1f}", f"{speed['peer']:.1f} ({option})", f"{ratio:.2f}{span} ({word}: {BAR:g})",
                      f"{memory['ours']:.0f} / {memory['peer']:.0f}", rolled, str(len(sides["ours"]))])  # fmt: skip
    titles = [
        "case",
        "ours, units/s",
        "peer, units/s",
        "ratio (bar)",
        "MB above the model",
        "rollout tokens/s",
        "runs a side",
    ]
    return table(titles, lines)


def main() -> None:
    """Arguments, runs, table."""
    ask = argparse.ArgumentParser(
        prog="python -m benchmarks.method_speed",
        description="Preference methods beside TRL, and DPO beside LLaMA-Factory.",
    )
    ask.add_argument("--cases", default=",".join(case.name for case in CASES))
    ask.add_argument("--runs", type=int, default=3)
    ask.add_argument("--pairs", type=int, default=0, help="pairs of a run (default: about a minute of the faster side)")
    ask.add_argument(
        "--options", help="those of the peers to try (default: all of a case); a single one is taken untried"
    )
    ask.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    ask.add_argument("--work", type=Path, default=Path("runs") / "method-speed")
    ask.add_argument(
        "--peer-python", default=str(ROOT / "benchmarks" / "training_speed" / ".venv-trl" / "bin" / "python")
    )
    ask.add_argument(
        "--llamafactory-python",
        default=str(ROOT / "benchmarks" / "training_speed" / ".venv-llamafactory" / "bin" / "python"),
    )
    ask.add_argument("--results", default=NAME, help="name of the results file: another one for another machine")
    ask.add_argument("--parity", action="store_true")
    ask.add_argument("--table", action="store_true")
    given = ask.parse_args()
    given.work = given.work.resolve()
    chosen = [case for case in CASES if case.name in given.cases.split(",")]
    if given.parity:  # sampled answers differ from side to side; parity there is a test against TRL's recorded losses
        chosen = [case for case in chosen if case.method not in ("grpo", "gkd")]
    if not given.parity and len(chosen) < len(given.cases.split(",")):
        raise SystemExit(f"cases: {', '.join(case.name for case in CASES)}")
    results = read_results(given.results) or {"cases": {}}
    results["threads"] = given.threads
    for case in () if given.table else chosen:
        began = time.time()
        if given.parity:
            results.setdefault("parity", {})[case.name] = parity(case, given)
            print(f"{case.name}: losses of equal steps differ by {results['parity'][case.name]:.1e} at most")
            write_results(given.results, results)
        else:
            measure(case, given, results)
        print(f"{case.name}: {time.time() - began:.0f} s", flush=True)
    print(show(results))


if __name__ == "__main__":
    main()
