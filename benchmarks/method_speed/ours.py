"""Our side of one run: the public loop on the fixed pairs.

python -m benchmarks.method_speed.ours SPEC.json OUT.json
"""

import json
import sys
import time
from pathlib import Path

from benchmarks.method_speed.cases import STEP_PAIRS, pairs
from benchmarks.training_speed.measure import Meter, gemm_gflops
from benchmarks.training_speed.rows import fingerprint


def main(spec_file: str, out_file: str) -> None:
    """Train one epoch and write what was measured."""
    spec = json.loads(Path(spec_file).read_text())
    case, work = spec["case"], Path(spec["work"])

    import torch

    from tunesmith import __version__
    from tunesmith.core.shelf import shelf
    from tunesmith.model.load import load
    from tunesmith.objectives.dpo import Dpo
    from tunesmith.objectives.reward import Reward, read_at_end
    from tunesmith.step.helpers import Helpers, with_reference
    from tunesmith.text.example import Example, together
    from tunesmith.train.loop import loop, steps_per_epoch
    from tunesmith.train.optim import Optimizer
    from tunesmith.train.run import embedding_names

    torch.set_num_threads(spec["threads"])
    torch.manual_seed(0)
    adapter = shelf("adapters").make({"lora": {"rank": 16, "alpha": 32}} if case["adapter"] == "lora" else "full")
    scores = case["method"] == "reward"
    kind = {"kind": "classify", "labels": Reward.labels, "problem": Reward.problem} if scores else {}
    model = load(spec["model"], **kind)
    given = pairs(work, spec["num_pairs"])
    if scores:
        model.net.score.weight.data.copy_(torch.tensor(spec["head"]))
    quiet = gemm_gflops()
    meter = Meter()
    started = time.perf_counter()
    adapter.attach(model.net)
    for name in model.facts.get("heads", ()):
        model.net.get_submodule(name).requires_grad_(True)
    units = []
    for prompt, *sides in given:
        examples = [
            Example.of([*prompt, *side], [0.0] * len(prompt) + [1.0] * len(side), margin=0.0, chosen_tokens=0.0)
            for side in sides
        ]
        units.append(together([read_at_end(e, margin=0.0) for e in examples] if scores else examples))
    objective = Reward(centring=0.0) if scores else Dpo()
    if not scores:
        units = list(with_reference(model.policy, units, pass_tokens=16384))
    optimizer = Optimizer(model.net.named_parameters(), lr=spec["lr"], embeddings=embedding_names(model.net))
    walk = loop(
        model.policy,
        objective,
        units,
        optimizer,
        steps=steps_per_epoch(len(units), STEP_PAIRS),
        batch_size=STEP_PAIRS,
        lr=spec["lr"],
        schedule="constant",
        clip=1.0,
        shuffle=not spec.get("in_order", False),
        helpers=Helpers(),
    )
    for step in walk:
        meter.step(step.stats.num_units, step.stats.loss)
    whole = time.perf_counter() - started
    report = meter.report() | {
        "side": "ours",
        "units_per_second": len(units) / whole,
        "gemm_gflops": [quiet, gemm_gflops()],
        "rows": fingerprint([ids for pair in given for ids in pair]),
        "trainable": sum(p.numel() for p in optimizer.parameters),
        "versions": {"tunesmith": __version__, "torch": torch.__version__},
    }
    Path(out_file).write_text(json.dumps(report))


if __name__ == "__main__":
    main(*sys.argv[1:])
