"""How much larger may a pass be in bf16 than in fp32 within one memory limit, and what does it do to the speed?

    python -m benchmarks.larger_batch [--again]

For each model and limit, both precisions wish for one pass over all rows of a step. `tunesmith plan --fit` says the most tokens a pass that
fit; that run is trained in a memory cgroup of exactly that size and must finish, and with twice the tokens it must be killed. Tokens a second are
those of the run's own steps after the first. The cgroup wants root. Writes results/larger_batch.json after each run.
"""

import argparse
import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.common import read_results, table, write_results
from benchmarks.fit import Pair, attempt, model_of, proposal

NAME = "larger_batch"
PAIRS = (Pair(384, 6, "lora", 256, 64, 600), Pair(256, 8, "full", 256, 64, 600))
PRECISIONS = ("fp32", "bf16")


def speed(folder: Path) -> float:
    """Tokens a second of a finished run's steps after the first."""
    events = [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]
    return float(
        median(event["tokens"] / event["seconds"] for event in events if event["kind"] == "step" and event["step"] > 1)
    )


def one(pair: Pair, precision: str, work: Path) -> dict[str, Any]:
    """Plan one precision, train what is proposed, and what is one notch more."""
    model = model_of(pair, work)
    wish = {**pair.wish(model), "train.precision": precision, "train.checkpointing": True}
    said = proposal(wish, pair.memory)
    line: dict[str, Any] = {"name": pair.name, "precision": precision, "said": said}
    for name, setup in (("run", said["setup"]), ("notch", said["notch"])):
        folder = work / f"{pair.name}-{precision}-{name}"
        line[name] = attempt(pair, wish, setup, folder, steps=3)
        if line[name]["ended"] == "runs":
            line[name]["tokens_per_second"] = speed(folder)
    return line


def show(found: Mapping[str, Any]) -> str:
    """A line a model and precision: tokens a pass, what became of it and of twice as many, speed."""
    lines = [
        [line["name"], line["precision"], " ".join(line["said"]["changes"]), f"{line['said']['setup']['pass_tokens']:,}", line["run"]["ended"],
         f"{line['run'].get('tokens_per_second', float('nan')):,.0f}", line["notch"]["ended"]]
        for line in found["lines"]
    ]  # fmt: skip
    columns = [
        "model, adapter, length, MiB",
        "precision",
        "--fit says",
        "tokens a pass",
        "it",
        "tokens/s",
        "twice the tokens",
    ]
    return table(columns, lines)


def main() -> None:
    """Each pair in both precisions."""
    ask = argparse.ArgumentParser(prog="python -m benchmarks.larger_batch", description=__doc__.splitlines()[0])
    ask.add_argument("--again", action="store_true", help="also what is in the results already")
    given = ask.parse_args()
    kept = [] if given.again else read_results(NAME).get("lines", [])
    with tempfile.TemporaryDirectory() as made:
        os.environ["TUNESMITH_CACHE"] = f"{made}/cache"
        for pair in PAIRS:
            for precision in PRECISIONS:
                if (pair.name, precision) in {(line["name"], line["precision"]) for line in kept}:
                    continue
                kept.append(one(pair, precision, Path(made)))
                print(json.dumps(kept[-1]), flush=True)
                write_results(NAME, {"lines": kept})
    print(show({"lines": kept}))


if __name__ == "__main__":
    main()
