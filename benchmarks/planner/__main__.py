"""How far plans are off: the peaks of real steps against what the planner says of the same configurations.

    python -m benchmarks.planner                 # all configurations, goes on where it was stopped
    python -m benchmarks.planner --only 4        # the first 4 that are still open
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


def cases() -> dict[str, dict[str, Any]]:
    """{name: configuration}: full, lora, dora, qlora x checkpointing x precision x length, then the other methods."""
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
        for adapter in ("full", "lora", "qlora"):
            for checkpointing in (False, True):
                add("small", method, adapter, checkpointing, "bf16" if adapter == "lora" else "fp32", 256)
    return made


def planned(case: dict[str, Any]) -> dict[str, Any]:
    """What the planner says of it."""
    from tunesmith.core.shelf import shelf
    from tunesmith.plan.network import architecture, fake_policy
    from tunesmith.plan.rows import sample_units
    from tunesmith.plan.simulate import simulate
    from tunesmith.step.helpers import Helpers, frozen
    from tunesmith.train.optim import Optimizer
    from tunesmith.train.run import LOW, checkpoint_activations, embedding_names, lower

    began = time.perf_counter()
    objective = shelf("objectives").make(case["method"])
    config = architecture(case["model"])

    def optimizer(net: Any) -> Any:
        held = lower(net, LOW[case["precision"]]) if case["precision"] in LOW else None
        checkpoint_activations(net, case["checkpointing"])
        return Optimizer(list(net.named_parameters()), kind="adamw", masters=held, embeddings=embedding_names(net))

    def helpers(policy: Any) -> Any:
        live = frozen(policy) if hasattr(objective, "collect") else None
        return Helpers(live=live, state=objective.start() if hasattr(objective, "start") else {})

    seen = simulate(
        lambda: fake_policy(
            config, shelf("adapters").make(case["adapter"]), kind=getattr(objective, "kind", "causal"),
            labels=getattr(objective, "labels", ()), heads=getattr(objective, "heads", ()),
        ),
        objective, sample_units(objective, length=case["length"], number=case["units"]), make_optimizer=optimizer,
        make_helpers=helpers, pass_tokens=case["pass_tokens"],
    )  # fmt: skip
    peak = seen.peak
    return {
        "live": peak.bytes, "kinds": peak.kinds, "where": f"{peak.phase}: {peak.op} in {peak.place}",
        "seconds": round(time.perf_counter() - began, 2),
    }  # fmt: skip


def measured(case: dict[str, Any]) -> dict[str, Any]:
    """What a process without the planner measures."""
    done = subprocess.run(  # noqa: PLW1510 (its return code is read below)
        [sys.executable, "-m", "benchmarks.planner.measure", json.dumps(case)], cwd=ROOT, capture_output=True, text=True
    )
    if done.returncode:
        raise SystemExit(f"measuring failed:\n{done.stderr[-3000:]}")
    return dict(json.loads(done.stdout.strip().splitlines()[-1]))


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
    parser.add_argument("--table", action="store_true", help="run nothing")
    asked = parser.parse_args()
    held = json.loads(PLACE.read_text()) if PLACE.exists() else {"results": {}}
    every = cases()
    results = {name: found for name, found in held["results"].items() if every.get(name) == found["case"]}
    open_ = [] if asked.table else [name for name in every if name not in results and asked.match in name]
    for name in open_[: asked.only]:
        results[name] = {"case": every[name], "measured": measured(every[name]), "planned": planned(every[name])}
        facts = {"machine": machine(), "date": time.strftime("%Y-%m-%d"), "results": results}
        PLACE.write_text(json.dumps(facts, indent=1) + "\n")
        print(table({name: results[name]}).splitlines()[0], flush=True)
    print(table(results))


if __name__ == "__main__":
    main()
