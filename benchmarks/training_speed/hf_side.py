"""What the workers built on transformers' Trainer share: reading the specification, counting tokens, the report.

counted = Counted(collator)                  remembers how many tokens each batch holds
trainer.add_callback(clock(meter, counted))  an optimiser step's tokens go to the meter as the step ends
report(trainer, meter, ...)                  the figures every worker writes
"""

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from benchmarks.training_speed.cells import STEP_ROWS
from benchmarks.training_speed.measure import Meter, gemm_gflops
from benchmarks.training_speed.rows import answer_start, fingerprint, load

# name -> (data type of the weights, autocast to bf16)
PRECISIONS = {
    "fp32": ("float32", False),
    "weights": ("bfloat16", False),
    "autocast": ("float32", True),
    "weights+autocast": ("bfloat16", True),
}
LENGTH_GROUPS = {"train_sampling_strategy": "group_by_length"}
TWO_PASSES = {"per_device_train_batch_size": STEP_ROWS // 2, "gradient_accumulation_steps": 2}
LORA = {"r": 16, "lora_alpha": 32, "lora_dropout": 0.0, "target_modules": "all-linear", "task_type": "CAUSAL_LM"}


def columns(spec: dict[str, Any]) -> dict[str, list[list[int]]]:
    """The cell's rows: input_ids, labels (-100 where nothing is trained on)."""
    cell = spec["cell"]
    rows = load(Path(spec["work"]), cut=cell["cut"], num=spec["num_rows"])
    starts = [answer_start(row) if cell["answers"] else 0 for row in rows]
    return {
        "input_ids": rows,
        "labels": [[-100] * start + row[start:] for row, start in zip(rows, starts, strict=True)],
    }


class Counted:
    """A collator that remembers the number of tokens that are not padding, batch by batch."""

    def __init__(self, collator: Callable[[Any], Any]) -> None:
        self.collator, self.tokens = collator, []

    def __call__(self, features: list[dict[str, Any]]) -> Any:
        """The collator's batch."""
        self.tokens.append(sum(sum(map(bool, feature["attention_mask"])) for feature in features))
        return self.collator(features)


def clock(meter: Meter, counted: Counted) -> Any:
    """A callback that tells `meter` of each optimiser step. Batches are fetched ahead, so they are counted by their order."""
    from transformers import TrainerCallback

    class Clock(TrainerCallback):
        done = 0

        def on_step_end(self, args, state, control, **rest):
            until = self.done + args.gradient_accumulation_steps
            meter.step(sum(counted.tokens[self.done : until]))
            self.done = until

    return Clock()


def report(
    trainer: Any,
    meter: Meter,
    *,
    side: str,
    spec: dict[str, Any],
    rows: list[list[int]],
    quiet: float,
    used: list[ModuleType],
) -> dict[str, Any]:
    """The meter's figures with the trainer's losses, the option and the versions."""
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    meter.steps = [(moment, tokens, loss) for (moment, tokens, _), loss in zip(meter.steps, losses, strict=True)]
    return {
        **meter.report(),
        "side": side,
        "gemm_gflops": [quiet, gemm_gflops()],
        "option": spec["option"],
        "dtype": spec["dtype"],
        "rows": fingerprint(rows),
        "trainable": sum(p.numel() for p in trainer.model.parameters() if p.requires_grad),
        "versions": {module.__name__: module.__version__ for module in used},
    }


def run(main: Callable[[dict[str, Any]], dict[str, Any]], argv: list[str]) -> None:
    """`python -m WORKER SPEC.json OUT.json`."""
    spec_file, out_file = argv[1:]
    Path(out_file).write_text(json.dumps(main(json.loads(Path(spec_file).read_text()))))
