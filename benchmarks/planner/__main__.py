"""How far plans are off: the peaks of real steps against what the planner says of the same configurations.

    python -m benchmarks.planner                 # all configurations, goes on where it was stopped
    python -m benchmarks.planner --only 4        # the first 4 that are still open
    python -m benchmarks.planner --replan        # plan what was measured again, after a change of the planner
    python -m benchmarks.planner --table         # the table of what is there

Each configuration is measured in a process of its own that does not import the planner (measure.py), then planned here.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.common import RESULTS, machine

ROOT = Path(__file__).resolve().parent.parent.parent
PLACE = RESULTS / "planner.json"
SMALL = {
    "model_type": "llama", "hidden_size": 256, "intermediate_size": 704, "num_hidden_layers": 8, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 64, "vocab_size": 8000, "max_position_embeddings": 4096, "tie_word_embeddings": True,
}  # fmt: skip
WIDE = SMALL | {
    "model_type": "qwen3", "hidden_size": 512, "intermediate_size": 1536, "num_attention_heads": 8, "num_key_value_heads": 4,
    "vocab_size": 32000, "tie_word_embeddings": False,
}  # fmt: skip
MODELS = {"small": SMALL, "wide": WIDE}
GRPO = {"grpo": {"n": 4, "max_tokens": 64}}


SWITCHES: dict[str, dict[str, Any]] = {  # {words: (what of the case it changes)}
    "8bit": {"train": {"states": "8bit"}},
    "update in backward": {"train": {"update_in_backward": True}},
    "8bit update in backward": {"train": {"states": "8bit", "update_in_backward": True}, "precision": "bf16"},
    "disk": {"train": {"offload": "disk"}},
    "disk checkpointing": {"train": {"offload": "disk"}, "checkpointing": True},
    "states on disk": {"train": {"offload_states": "disk"}},
    "8bit states on disk": {"train": {"offload_states": "disk", "states": "8bit"}},
    "kahan": {"train": {"masters": "kahan"}, "precision": "bf16"},
    "stochastic": {"train": {"masters": "stochastic"}, "precision": "bf16"},
    "muon": {"train": {"optimizer": "muon"}},
    "int8 base": {"base": "int8", "adapter": "lora"},
    "fp16": {"precision": "fp16", "adapter": "lora"},
    "selective": {"checkpointing": "selective"},
    "selective lora": {"checkpointing": "selective", "adapter": "lora"},
}


def cases() -> dict[str, dict[str, Any]]:
    """{name: configuration}: full, lora, dora, qlora x checkpointing x precision x length, the other methods, the switches."""
    made: dict[str, dict[str, Any]] = {}

    def add(model: str, method: Any, adapter: str, checkpointing: bool, precision: str, length: int) -> None:
        word = method if isinstance(method, str) else next(iter(method))
        name = f"{model} {word} {adapter} {precision} {length}{' checkpointing' if checkpointing else ''}"
        units = max(1, 2048 // length) if word == "sft" else 2
        made[name] = {
            "model": MODELS[model], "method": method, "adapter": adapter, "checkpointing": checkpointing, "precision": precision,
            "length": length, "units": 2 * units, "pass_tokens": 2048 if word == "sft" else 4096,
        }  # fmt: skip

    for adapter in ("full", "lora", "dora", "qlora"):
        for checkpointing in (False, True):
            for precision in ("fp32", "bf16"):
                for length in (96, 1024):
                    add("small" if length == 96 else "wide", "sft", adapter, checkpointing, precision, length)
    for method in ("dpo", "reward", GRPO):
        for adapter in ("full", "lora", "dora", "qlora"):
            for checkpointing in (False, True):
                add("small", method, adapter, checkpointing, "bf16" if adapter in ("lora", "dora") else "fp32", 256)
    for words, change in SWITCHES.items():
        made[f"small sft switch {words}"] = {
            "model": SMALL, "method": "sft", "adapter": "full", "checkpointing": False, "precision": "fp32", "length": 96,
            "units": 21, "pass_tokens": 2048, **change,
        }  # fmt: skip
    return made


def planned(case: dict[str, Any]) -> dict[str, Any]:
    """What the planner says of it."""
    import torch

    from benchmarks.planner import measure
    from tunesmith.core.shelf import shelf
    from tunesmith.plan.network import architecture, fake_policy
    from tunesmith.plan.rows import sample_units
    from tunesmith.plan.simulate import simulate
    from tunesmith.step.helpers import Helpers, frozen

    torch.set_num_threads(measure.THREADS)
    began = time.perf_counter()
    objective = shelf("objectives").make(case["method"])
    config = architecture(case["model"])

    def helpers(policy: Any) -> Any:
        live = frozen(policy) if hasattr(objective, "collect") else None
        return Helpers(live=live, state=objective.start() if hasattr(objective, "start") else {})

    seen = simulate(
        lambda: fake_policy(
            config, shelf("adapters").make(case["adapter"]), kind=getattr(objective, "kind", "causal"),
            labels=getattr(objective, "labels", ()), heads=getattr(objective, "heads", ()), base=case.get("base", ""),
        ),
        objective, sample_units(objective, length=case["length"], number=case["units"]),
        make_optimizer=lambda net: measure.optimizer_of(net, case, Path("unwritten")), make_helpers=helpers, pass_tokens=case["pass_tokens"],
        clip=measure.clip_of(case), around=lambda net: measure.around_of(net, case, Path("unwritten")),
    )  # fmt: skip
    peak = seen.peak
    return {
        "live": peak.bytes, "kinds": peak.kinds, "where": f"{peak.phase}: {peak.op} in {peak.place}",
        "seconds": round(time.perf_counter() - began, 2),
    }  # fmt: skip


def instrument() -> Any:
    """A process without the planner that measures what it is told line by line; it starts with the first."""
    return subprocess.Popen(
        [sys.executable, "-m", "benchmarks.planner.measure"], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )  # fmt: skip


def measured(process: Any, case: dict[str, Any]) -> dict[str, Any]:
    """What it measures."""
    process.stdin.write(json.dumps(case) + "\n")
    process.stdin.flush()
    line = process.stdout.readline()
    if not line:
        raise SystemExit("measuring failed: see above")
    return dict(json.loads(line))


def show(found: dict[str, Any]) -> str:
    """A results file as a table of text."""
    return f"```\n{table(found['results'])}\n```"


def table(results: dict[str, Any]) -> str:
    """One line a configuration, then median and worst."""
    lines, errors, process = [], [], []
    for name, found in results.items():
        error = found["planned"]["live"] / found["measured"]["live"] - 1
        errors.append(error)
        said = found["planned"]["live"] + found["measured"]["process_start"]
        process.append(said / found["measured"]["process_peak"] - 1)
        sizes = f"{found['planned']['live'] / 2**20:9.1f} {found['measured']['live'] / 2**20:9.1f}"
        lines.append(f"{name:<48} {sizes} MiB  {100 * error:+6.2f} %   {found['planned']['where']}")
    if errors:
        sizes = sorted(abs(error) for error in errors)
        lines.append(
            f"{len(errors)} configurations: median error {100 * statistics.median(sizes):.2f} %, worst {100 * sizes[-1]:.2f} %, "
            f"largest under-prediction {100 * -min(0.0, *errors):.2f} %"
        )
        lines.append(
            f"against the process's own peak (with Python's and the allocator's part): median {100 * statistics.median(map(abs, process)):.1f} %"
        )
    return "\n".join(lines)


def main() -> None:
    """Run what is open, print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", type=int, help="at most so many configurations")
    parser.add_argument("--match", default="", help="only names that hold this")
    parser.add_argument("--replan", action="store_true", help="measure nothing, plan what was measured again")
    parser.add_argument("--table", action="store_true", help="run nothing")
    asked = parser.parse_args()
    held = json.loads(PLACE.read_text()) if PLACE.exists() else {"results": {}}
    every = cases()
    results = {name: found for name, found in held["results"].items() if every.get(name) == found["case"]}
    if asked.replan:
        todo = [name for name in every if name in results and asked.match in name]
    else:
        todo = [] if asked.table else [name for name in every if name not in results and asked.match in name]
    process = instrument() if todo and not asked.replan else None
    for name in todo[: asked.only]:
        now = {"machine": machine(), "date": time.strftime("%Y-%m-%d")}
        if process is None:
            found, where = results[name]["measured"], results[name].get("where", {})
        else:
            found, where = (
                measured(process, every[name]),
                {"processor": now["machine"]["processor"], "date": now["date"]},
            )
        results[name] = {"case": every[name], "where": where, "measured": found, "planned": planned(every[name])}
        facts = {**now, "results": results}
        PLACE.write_text(json.dumps(facts, indent=1) + "\n")
        print(table({name: results[name]}).splitlines()[0], flush=True)
    if process is not None:
        process.stdin.close()
        process.wait()
    print(table(results))


if __name__ == "__main__":
    main()
