"""What the planner says against what is measured: full tuning and LoRA, over a base in 32, 16, 8 and 4 bits, with and without checkpointing.

    python run.py                  # mini, a minute or two on two cores
    python run.py --smoke          # a one-layer model, seconds

Each peak is planned from the configuration alone, on tensors without numbers. Then two real steps run, every allocation counted by
torch's profiler. Beside both stand the formulas people reckon with.
"""

import argparse
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

import tunesmith
from tunesmith.core.shelf import shelf
from tunesmith.model.load import load
from tunesmith.plan.rows import sample_units
from tunesmith.step.step import backward
from tunesmith.train.optim import Optimizer
from tunesmith.train.recompute import checkpoint_activations
from tunesmith.train.run import LOW, embedding_names, lower

CASES = [  # adapter, base, precision of the passes
    ("full", "", "fp32"), ("full", "", "bf16"), ("lora", "", "fp32"), ("lora", "", "bf16"),
    ("lora", "int8", "fp32"), ("lora", "int8", "bf16"), ("lora", "nf4", "fp32"), ("lora", "nf4", "bf16"),
]  # fmt: skip
SMOKE = [("full", "", "fp32"), ("lora", "", "fp32"), ("lora", "int8", "fp32")]


def measured(model: str, adapter: str, base: str, precision: str, checkpointing: bool, length: int, number: int) -> int:
    """The most bytes alive in two real steps."""
    objective, made = shelf("objectives").make("sft"), load(model, base=base)
    shelf("adapters").make(adapter).attach(made.net, seed=0)
    net = made.net.train()
    masters = lower(net, LOW[precision]) if precision in LOW else None
    checkpoint_activations(net, checkpointing)
    optimizer = Optimizer(list(net.named_parameters()), masters=masters, embeddings=embedding_names(net))
    held = [*net.parameters(), *net.buffers(), *optimizer.masters]
    before = sum({t.untyped_storage()._cdata: t.untyped_storage().nbytes() for t in held}.values())
    units = sample_units(objective, length=length, number=number)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        for _ in range(2):
            backward(made.policy, objective, units)
            optimizer.step(lr=1e-4, clip=1.0)
    events = [(e.start_ns(), e.nbytes()) for e in seen.profiler.kineto_results.events() if e.name() == "[memory]"]
    live = top = before
    for _, size in sorted(events, key=lambda event: event[0]):
        live += size
        top = max(top, live)
    return top


def main() -> None:
    """Plan, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="a one-layer model, three cases")
    asked = parser.parse_args()
    model, length, number = ("pico", 64, 2) if asked.smoke else ("mini", 256, 8)
    torch.set_num_threads(2)
    print("adapter base  precision checkpointing     planned    measured    error   N x M x 1.2   N x 3 x M")
    for adapter, base, precision in SMOKE if asked.smoke else CASES:
        for checkpointing in (False,) if asked.smoke else (False, True):
            keys: dict[str, Any] = {"train.pass_tokens": length * number, "train.batch_size": number}
            keys |= {"train.precision": precision, "train.checkpointing": checkpointing}
            keys |= {"base": base} if base else {}
            plan = tunesmith.plan(model=model, adapter=adapter, length=length, **keys)["forecast"]
            found = measured(model, adapter, base, precision, checkpointing, length, number)
            closed = plan["closed"]
            formulas = closed["inference N x M x 1.2"], closed["gradients and states N x 3 x M"]
            cells = (
                f"{plan['live'] / 2**20:8.1f} MiB {found / 2**20:8.1f} MiB {100 * (plan['live'] / found - 1):+7.2f} %"
            )
            print(
                f"{adapter:<7} {base or '-':<5} {precision:<9} {checkpointing!s:<13} {cells}",
                *(f"{each / 2**20:8.1f} MiB" for each in formulas),
            )


if __name__ == "__main__":
    main()
