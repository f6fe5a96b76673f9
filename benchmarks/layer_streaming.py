"""A LoRA step over a base larger than the memory: `base: streamed` in a memory cgroup of 40 % of the weights' size.

    python -m benchmarks.layer_streaming [--layers 12] [--width 2048] [--share 0.4] [--stored fp32]

Makes a Llama-shaped model of random weights, runs two LoRA steps over it in processes of their own, and prints limit, peak, loss and
a hash of the trained weights: streamed within the limit, whole
without one, streamed without one, whole within it. The limit is a cgroup (v1 or v2)
made under /sys/fs/cgroup, which wants root; the file's pages are dropped from the cache beforehand, so that they are charged to whom reads them. Writes results/layer_streaming.json.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.cgroup import Group
from benchmarks.common import table, write_results


def make(folder: Path, *, layers: int, width: int, stored: str) -> int:
    """Save the model, a layer at a time in memory; bytes of its files."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from tunesmith.model.load import DTYPES
    from tunesmith.text.tokenizer import byte_tokenizer

    tokenizer = byte_tokenizer()
    config = LlamaConfig(
        vocab_size=tokenizer.vocab_size, hidden_size=width, intermediate_size=width * 11 // 4, num_hidden_layers=layers,
        num_attention_heads=width // 64, num_key_value_heads=width // 128, max_position_embeddings=1024, bos_token_id=None,
        eos_token_id=None, pad_token_id=None, tie_word_embeddings=True,
    )  # fmt: skip
    torch.manual_seed(0)
    LlamaForCausalLM(config).to(DTYPES[stored]).save_pretrained(folder)
    tokenizer.save(folder)
    return sum(path.stat().st_size for path in folder.glob("*.safetensors"))


def forget(folder: Path) -> None:
    """Drop the files' pages from the kernel's cache."""
    for path in folder.glob("*.safetensors"):
        number = os.open(path, os.O_RDONLY)
        os.fsync(number)
        os.posix_fadvise(number, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(number)


def child(folder: str, base: str) -> None:
    """One LoRA step; prints its facts."""
    import hashlib
    import resource

    import torch

    from tunesmith.adapters.lora import Lora
    from tunesmith.adapters.store import attach
    from tunesmith.model.load import load
    from tunesmith.objectives.sft import Sft
    from tunesmith.step.step import backward
    from tunesmith.text.example import Example, Unit
    from tunesmith.train.optim import Optimizer

    began = time.perf_counter()
    model = load(folder, base=base)
    attach(Lora(rank=4), model, seed=0)
    loaded = time.perf_counter()
    model.net.train()
    optimizer = Optimizer(model.net.named_parameters())
    ids = [(7 * i) % 250 + 3 for i in range(64)]
    losses = []
    for _ in range(2):  # B is 0 at first: from the second step on A moves too
        stats = backward(model.policy, Sft(), [Unit((Example.of(ids, [1.0] * len(ids)),))])
        losses.append(stats.loss)
        optimizer.step(lr=1e-2)
    digest = hashlib.sha256()
    for parameter in optimizer.parameters:
        digest.update(parameter.detach().contiguous().view(torch.uint8).numpy())
    facts = {"losses": losses, "adapter": digest.hexdigest()[:16], "load_seconds": loaded - began, "step_seconds": (time.perf_counter() - loaded) / 2,
             "resident_peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}  # fmt: skip
    print(json.dumps(facts))


def run(folder: Path, base: str, limit: int | None) -> dict[str, Any]:
    """The step in a process and cgroup of its own."""
    forget(folder)
    group = Group(limit)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.layer_streaming", "--child", str(folder), base],
            preexec_fn=group.enter, capture_output=True, text=True, check=False,
        )  # fmt: skip
        facts: dict[str, Any] = {"base": base or "whole", "limit": limit, "peak": group.peak(), "rc": done.returncode}
        if done.returncode == 0:
            facts |= json.loads(done.stdout.splitlines()[-1])
        else:
            facts["ended"] = "killed: out of memory" if done.returncode == -9 else done.stderr[-500:]
    finally:
        group.close()
    return facts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--width", type=int, default=2048)
    parser.add_argument("--share", type=float, default=0.4)
    parser.add_argument("--stored", default="fp32", choices=("fp32", "bf16"))
    parser.add_argument("--folder", default=None, help="where the model is made; default: a temporary folder")
    parser.add_argument("--child", nargs=2, metavar=("FOLDER", "BASE"))
    given = parser.parse_args()
    if given.child:
        child(*given.child)
        return
    with tempfile.TemporaryDirectory(dir=given.folder) as made:
        folder = Path(made)
        weights = make(folder, layers=given.layers, width=given.width, stored=given.stored)
        limit = int(given.share * weights)
        runs = []
        for base, cap in (("streamed", limit), ("", None), ("streamed", None), ("", limit)):
            runs.append(run(folder, base, cap))
            print(json.dumps(runs[-1]), flush=True)
    within, whole, *_ = runs
    same = within["rc"] == 0 and within["losses"] == whole["losses"] and within["adapter"] == whole["adapter"]
    found = {"weights": weights, "stored": given.stored, "share": given.share, "same": same, "runs": runs}
    print(show(found))
    write_results("layer_streaming", found)
    if not same:
        raise SystemExit(1)


def show(found: dict[str, Any]) -> str:
    """The table of a results file."""
    lines = []
    for one in found["runs"]:
        losses = ", ".join(f"{loss:.9f}" for loss in one["losses"]) if "losses" in one else one["ended"]
        lines.append([one["base"], "none" if one["limit"] is None else f"{one['limit'] / 1e6:,.0f} MB", f"{one['peak'] / 1e6:,.0f} MB", losses,
                      one.get("adapter", ""), f"{one['step_seconds']:.1f} s" if "step_seconds" in one else ""])  # fmt: skip
    head = ["base", "limit", "peak of the cgroup", "losses of two steps", "adapter after them", "a step"]
    size = f"{found['weights'] / 1e6:,.0f} MB, stored as {found['stored']}"
    ends = "completes, the same losses and weights bit by bit" if found["same"] else "FAILS"
    return f"weights {size}, computed in fp32; limit {found['share']:.0%} of them\n\n{table(head, lines)}\n\nstreamed within the limit: {ends}"


if __name__ == "__main__":
    main()
