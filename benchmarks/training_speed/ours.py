"""Our side of one run: the public training loop on the fixed rows.

    python -m benchmarks.training_speed.ours SPEC.json OUT.json

Optimiser, learning rate, clipping, adapter and rows a step are those of the peer. Under bf16 weights and passes are bf16,
masters and optimiser state fp32 (the peer's fastest setting may keep everything in bf16).
"""

import json
import sys
from pathlib import Path

import numpy as np

from benchmarks.training_speed.cells import STEP_ROWS
from benchmarks.training_speed.measure import Meter, gemm_gflops
from benchmarks.training_speed.rows import answer_start, fingerprint, load


def main(spec_file: str, out_file: str) -> None:
    """Train one epoch and write what was measured."""
    spec = json.loads(Path(spec_file).read_text())
    cell, work = spec["cell"], Path(spec["work"])

    import torch

    from tunesmith import __version__
    from tunesmith.core.shelf import shelf
    from tunesmith.model.load import load as load_model
    from tunesmith.objectives.sft import Sft
    from tunesmith.text.example import Example, Unit
    from tunesmith.train.loop import loop, steps_per_epoch
    from tunesmith.train.optim import Optimizer
    from tunesmith.train.run import embedding_names

    torch.set_num_threads(spec["threads"])
    adapter = shelf("adapters").make({"lora": {"rank": 16, "alpha": 32}} if cell["adapter"] == "lora" else "full")
    model = load_model(spec["model"], dtype=cell["precision"])
    rows = load(work, cut=cell["cut"], num=spec["num_rows"])
    units = []
    for row in rows:
        weights = np.ones(len(row), dtype=np.float32)
        weights[: answer_start(row) if cell["answers"] else 1] = 0.0
        units.append(Unit((Example(np.array(row, dtype=np.int32), weights),)))

    quiet = gemm_gflops()
    meter = Meter()
    torch.manual_seed(0)
    adapter.attach(model.net)
    optimizer = Optimizer(model.net.named_parameters(), lr=spec["lr"], embeddings=embedding_names(model.net))
    walk = loop(
        model.policy,
        Sft(),
        units,
        optimizer,
        steps=steps_per_epoch(len(units), STEP_ROWS),
        batch_size=STEP_ROWS,
        lr=spec["lr"],
        schedule="constant",
        clip=spec.get("clip", 1.0),
        pass_tokens=spec.get("pass_tokens"),
        shuffle=not spec.get("in_order", False),
    )
    for step in walk:
        meter.step(step.stats.num_tokens, step.stats.loss)
    report = meter.report()
    report |= {
        "side": "ours",
        "gemm_gflops": [quiet, gemm_gflops()],
        "rows": fingerprint(rows),
        "trainable": sum(p.numel() for p in optimizer.parameters),
        "pass_tokens": spec.get("pass_tokens"),
        "versions": {"tunesmith": __version__, "torch": torch.__version__},
    }
    Path(out_file).write_text(json.dumps(report))


if __name__ == "__main__":
    main(*sys.argv[1:])
