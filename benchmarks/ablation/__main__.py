"""Switch after switch on one model and row set, in the manner of torchtune's additive table.

    python -m benchmarks.ablation                      the table at size: h512 x 8, 2,048 tokens a step (about an hour on two cores)
    python -m benchmarks.ablation --fp32               without bf16, for processors that have no products of it (a quarter of an hour)
    python -m benchmarks.ablation --size tiny          seconds; for a look at whether it runs

Each row adds one switch to those above it and runs in a process of its own: `steps` updates over the same rows, seeded alike. Printed:
tokens a second (median step), the most bytes alive above the model as torch's profiler counts allocations in one more step, the
process's own peak, the bytes of the model itself, the loss of the last step, and whether losses equal those of the row above to the
last bit. The last rows freeze the base and change how it lies there, one instead of the other: whole, int8, nf4, streamed from its file.
What needs a GPU (offload: pinned, fp16) or several processes (shard) is not here. Rows that are measured already are read from
benchmarks/results/ablation.json, so a run that was stopped goes on; --again measures anew.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from typing import Any

from benchmarks.common import read_results, table, write_results

SIZES = {
    "tiny": {"width": 64, "layers": 2, "lengths": [40, 90, 60, 30] * 2, "steps": 3, "pass_tokens": 220},
    "size": {
        "width": 512,
        "layers": 8,
        "lengths": [180, 400, 256, 120, 512, 90, 300, 190],
        "steps": 12,
        "pass_tokens": 1024,
    },
}
# (name, what it changes). The start: glibc's allocator as it comes, rows padded, whole logits, torch's own operations, everything in memory
FULL = [
    ("start", {"heap": False, "layout": "padded", "chunked": False, "lean": False, "again": False, "kernels": False}),
    ("freed memory stays", {"heap": True}),
    ("packing", {"layout": "packed"}),
    ("chunked loss", {"chunked": True}),
    ("lean forward", {"lean": True}),
    ("norms and gates made again", {"again": True}),
    ("compiled kernels", {"kernels": True}),
    ("selective checkpointing", {"checkpointing": "selective"}),
    ("checkpointing", {"checkpointing": True}),
    ("passes of half a step", {"passes": True}),
    ("update in backward", {"passes": False, "in_backward": True}),
    ("activation offload", {"offload": "disk"}),
    ("8-bit states", {"states": "8bit"}),
    ("states on disk", {"offload_states": "disk"}),
    ("bf16, states in memory", {"precision": "bf16", "offload_states": "none"}),
    ("no fp32 masters: kahan", {"keep": "kahan"}),
    ("no fp32 masters: stochastic", {"keep": "stochastic"}),
]
LORA = [
    ("LoRA", {"adapter": "lora", "states": "fp32", "keep": "fp32", "offload_states": "none"}),
    ("int8 base", {"base": "int8"}),
    ("nf4 base (QLoRA)", {"base": "nf4"}),
    ("streamed base", {"base": "streamed"}),
]


def rows(*, fp32: bool = False) -> list[tuple[str, dict[str, Any]]]:
    """(name, all settings) of each row: those of the rows above, and one more. fp32: without those about bf16."""
    found: list[tuple[str, dict[str, Any]]] = []
    held: dict[str, Any] = {}
    for name, more in [*(row for row in FULL if not (fp32 and {"precision", "keep"} & {*row[1]})), *LORA]:
        held = {**held, **more}
        found.append((name, dict(held)))
    return found


def child(spec: dict[str, Any]) -> dict[str, Any]:
    """One row: real steps, timed; then one under torch's profiler."""
    import statistics
    import time
    from contextlib import nullcontext
    from pathlib import Path

    import numpy as np
    import torch
    from torch.profiler import ProfilerActivity, profile
    from transformers import LlamaConfig

    from benchmarks.ablation.plain import whole_logits
    from benchmarks.planner.measure import allocations, most_alive
    from tunesmith.core.heap import steady_heap
    from tunesmith.core.shelf import shelf
    from tunesmith.model.load import fresh, load
    from tunesmith.model.save import save
    from tunesmith.objectives.sft import Sft
    from tunesmith.step.step import backward
    from tunesmith.text.example import Example, Unit
    from tunesmith.text.tokenizer import byte_tokenizer
    from tunesmith.train.offload import Offload
    from tunesmith.train.optim import Optimizer
    from tunesmith.train.pages import Pages
    from tunesmith.train.recompute import checkpoint_activations
    from tunesmith.train.run import LOW, embedding_names, lower, peak_bytes

    size, given = SIZES[spec["size"]], spec["settings"]
    torch.manual_seed(0)
    vocab = 8192
    config = LlamaConfig(
        vocab_size=vocab, hidden_size=size["width"], intermediate_size=size["width"] * 11 // 4, num_hidden_layers=size["layers"],
        num_attention_heads=size["width"] // 32, num_key_value_heads=size["width"] // 64, max_position_embeddings=1024,
        bos_token_id=None, eos_token_id=None, pad_token_id=None, tie_word_embeddings=True,
    )  # fmt: skip
    if "write" in spec:  # in a process of its own: the whole model counts in no row's peak
        model = fresh(config, byte_tokenizer(), name="ablation")
        save(model.net, model.tokenizer, Path(spec["write"]))
        return {}
    base = given.get("base", "")
    model = load(spec["folder"], base=base) if base else fresh(config, byte_tokenizer(), name="ablation")
    net = model.net
    shelf("adapters").make(given.get("adapter", "full"), "adapter").attach(net, seed=0)
    draw = np.random.default_rng(0)
    units = [Unit((Example.of(draw.integers(3, vocab, n).tolist(), [1.0] * n),)) for n in size["lengths"]]
    precision = given.get("precision", "fp32")
    masters = lower(net, LOW[precision]) if precision in LOW else None
    checkpoint_activations(net, given.get("checkpointing", False))
    policy = model.policy.of(net)
    if policy.lean is not None:
        policy.lean.wide = given["again"]
    policy.layout = given["layout"]
    policy.lean = policy.lean if given["lean"] and given["layout"] == "packed" else None
    objective = Sft() if given["chunked"] else whole_logits()
    optimizer = Optimizer(
        net.named_parameters(), embeddings=embedding_names(net), masters=masters, keep=given.get("keep", "fp32"),
        states=given.get("states", "fp32"), in_backward=given.get("in_backward", False),
        pages=Pages(given.get("offload_states", "none"), Path(spec["folder"], "states.scratch")),
    )  # fmt: skip
    net.train()
    pass_tokens = size["pass_tokens"] if given.get("passes") else None
    seconds, losses = [], []
    with tempfile.TemporaryDirectory() as place, steady_heap() if given["heap"] else nullcontext():
        offload = Offload(given.get("offload", "none"), Path(place, "scratch"), (*net.parameters(), *net.buffers()))

        def step() -> float:
            optimizer.begin(1e-4)
            with offload.here():
                loss = backward(policy, objective, units, pass_tokens=pass_tokens).loss
            optimizer.step(lr=1e-4, clip=None)
            return loss

        for _ in range(size["steps"]):
            began = time.perf_counter()
            losses.append(step())
            seconds.append(time.perf_counter() - began)
        peak = peak_bytes()
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
            step()
    tokens = sum(unit.num_tokens for unit in units)
    return {"tokens_per_second": tokens / statistics.median(seconds[1:]), "seconds": seconds, "losses": losses, "above_model": most_alive(allocations(seen)),
            "model": sum(x.numel() * x.element_size() for x in (*net.parameters(), *net.buffers())),
            "between_steps": optimizer.num_state_bytes() + optimizer.num_master_bytes(), "process_peak": peak, "tokens": tokens}  # fmt: skip


def show(found: dict[str, Any]) -> str:
    """The table of a results file."""
    lines, before = [], None
    done = found["rows"]
    for name, _ in rows():
        one = done.get(name)
        if one is None:
            continue
        same = (
            ""
            if before is None
            else (
                "the same" if one["losses"] == before["losses"] else f"{one['losses'][-1] - before['losses'][-1]:+.2e}"
            )
        )
        lines.append([name, f"{one['tokens_per_second']:,.0f}", f"{(one['above_model'] + one['between_steps']) / 1e6:,.1f}",
                      f"{one['process_peak'] / 1e6:,.0f}", f"{one['model'] / 1e6:,.1f}", f"{one['losses'][-1]:.6f}", same])  # fmt: skip
        before = one
    return table(
        [
            "+ switch",
            "tokens/s",
            "peak above the model, MB",
            "process peak, MB",
            "model, MB",
            "last loss",
            "losses to the row above",
        ],
        lines,
    )


def measured(name: str, size: str, settings: dict[str, Any]) -> dict[str, Any]:
    """One row, in a process of its own; a base that lies in few bits or in its file is written by another before."""
    with tempfile.TemporaryDirectory() as folder:
        specs: list[dict[str, Any]] = [{"size": size, "settings": settings, "folder": folder}]
        if settings.get("base"):
            specs.insert(0, {"size": size, "settings": {}, "write": folder})
        for spec in specs:
            command = [sys.executable, "-m", "benchmarks.ablation", "--child", json.dumps(spec)]
            own = {} if settings["kernels"] else {"TUNESMITH_KERNELS": "off"}
            ran = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **own})
            if ran.returncode:
                raise SystemExit(f"{name}: {ran.stderr[-2000:]}")
    return dict(json.loads(ran.stdout.splitlines()[-1]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", default="size", choices=list(SIZES))
    parser.add_argument("--again", action="store_true")
    parser.add_argument("--fp32", action="store_true", help="without the rows about bf16; results of their own")
    parser.add_argument("--only", help="rows by name, with commas: a look at these alone")
    parser.add_argument("--child")
    given = parser.parse_args()
    if given.child:
        print(json.dumps(child(json.loads(given.child))))
        return
    name_of = "ablation" if given.size == "size" else f"ablation_{given.size}"
    name_of += "_fp32" if given.fp32 else ""
    done: dict[str, Any] = {} if given.again else read_results(name_of).get("rows", {})
    every = dict(rows(fp32=given.fp32))
    chosen = given.only.split(",") if given.only else [*every]
    if unknown := set(chosen) - {*every}:
        raise SystemExit(f"There is no row {', '.join(sorted(unknown))}. Rows: {', '.join(every)}.")
    for name, settings in every.items():
        if name not in chosen:
            continue
        if name in done and done[name]["settings"] == settings:
            continue
        done[name] = {"settings": settings, **measured(name, given.size, settings)}
        write_results(name_of, {"shape": SIZES[given.size], "rows": done})
        print(show({"rows": done}), flush=True)
    print(show({"rows": done}))


if __name__ == "__main__":
    main()
