"""LLaMA-Factory's side of one run of DPO: its own `run_exp` on the fixed pairs. Runs in its environment (training_speed/setup.sh llamafactory).

    python -m benchmarks.method_speed.peer_llamafactory SPEC.json OUT.json

The pairs reach it as a data set that is tokenised already (its `tokenized_path`). Its reference is the model without its adapter, or
the model as it was under full tuning; it reads the pairs padded, chosen and rejected in one pass, and knows no other layout.
"""

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.method_speed.cases import CUT, OPTIONS, STEP_PAIRS, pairs
from benchmarks.training_speed.llamafactory_side import Started, without_sound
from benchmarks.training_speed.measure import gemm_gflops
from benchmarks.training_speed.peer_llamafactory import settings
from benchmarks.training_speed.rows import fingerprint


def columns(given: list[tuple[list[int], list[int], list[int]]]) -> dict[str, list[Any]]:
    """The pairs as its processors leave them: whole texts, labels on the answers alone."""
    found: dict[str, list[Any]] = {name: [None] * len(given) for name in ("images", "videos", "audios")}
    for place, side in ((1, "chosen"), (2, "rejected")):
        whole = [(pair[0], pair[place]) for pair in given]
        found[f"{side}_input_ids"] = [prompt + answer for prompt, answer in whole]
        found[f"{side}_attention_mask"] = [[1] * (len(prompt) + len(answer)) for prompt, answer in whole]
        found[f"{side}_labels"] = [[-100] * len(prompt) + answer for prompt, answer in whole]
    return found


def main(spec_file: str, out_file: str) -> None:
    """Train one epoch and write what was measured."""
    without_sound()
    import datasets
    import llamafactory
    import peft
    import torch
    import transformers
    from llamafactory.train.dpo import workflow
    from llamafactory.train.tuner import run_exp

    spec = json.loads(Path(spec_file).read_text())
    torch.set_num_threads(spec["threads"])
    given = pairs(Path(spec["work"]), spec["num_pairs"])
    quiet = gemm_gflops()
    started = Started(workflow)

    class Clock(transformers.TrainerCallback):
        """Tells the meter of each step; the last moment is that before the result is saved."""

        ended = 0.0

        def on_step_end(self, args, state, control, **rest):
            started.meter.step(STEP_PAIRS)

        def on_train_end(self, args, state, control, **rest):
            self.ended = time.perf_counter()

    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        datasets.DatasetDict({"train": datasets.Dataset.from_dict(columns(given))}).save_to_disk(f"{folder}/rows")
        case = spec["case"]
        told = settings(
            stage="dpo", adapter=case["adapter"], lr=spec["lr"], model=spec["model"], rows=f"{folder}/rows", out=f"{folder}/out", cut=CUT
        )  # fmt: skip
        run_exp({**told, "pref_loss": "sigmoid", "pref_beta": 0.1, **OPTIONS[spec["option"]]}, callbacks=[clock])
    report = started.meter.report() | {
        "side": "llamafactory",
        "units_per_second": len(given) / (clock.ended - started.meter.started),
        "option": spec["option"],
        "gemm_gflops": [quiet, gemm_gflops()],
        "rows": fingerprint([ids for pair in given for ids in pair]),
        "trainable": sum(p.numel() for p in started.model.parameters() if p.requires_grad),
        "versions": {m.__name__: m.__version__ for m in (torch, transformers, peft, datasets, llamafactory)},
    }
    Path(out_file).write_text(json.dumps(report))


if __name__ == "__main__":
    main(*sys.argv[1:])
