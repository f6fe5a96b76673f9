"""How fast answers are generated: ours against transformers' generate, on a random Llama of 9.5M parameters.

    python benchmarks/generation.py            # ~10 minutes on 2 quiet cores; writes benchmarks/results/generation.json
    python benchmarks/generation.py --quick    # two rounds of fewer prompts, to see that it works; writes nothing

Both sides run in this process, in turn, on the same prompts, greedily, in fp32, with no end token; transformers with its
best options (sdpa attention, padding on the left, cache, logits of the last token only). Cells: batch 1, 8 and 32 with
64 prompt tokens and 48 new ones, and a mix: 96 prompts whose answers have 4 to 128 tokens (lognormal), where transformers
in batches of 32 waits for the longest of each batch. Its answers are cut to their length and only those tokens count.
A busy machine slows both sides of a pair alike, so the ratio is taken pair by pair; then median and range. Beside it stands
the ratio of processor time, which waiting for a turn does not change; with one thread it is what a free core would show.
"""

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

PROMPT, NEW, BATCH = 64, 48, 32
VOCAB = 8192
BARS = {"batch 1": 3.0, "batch 32": 3.0, "mix": 4.0}  # what issue 2 asks for


class NoText:
    """Stands in for a tokenizer: the benchmark compares ids."""

    eos_ids = ()

    def decode(self, ids: list[int]) -> str:
        """No text."""
        return ""


@dataclass
class Model:
    """What generate wants."""

    net: Any
    tokenizer: Any


@dataclass(frozen=True)
class Cell:
    """Prompts, and how many tokens to answer each with, `batch` at a time."""

    name: str
    prompts: list[list[int]]
    lengths: list[int]
    batch: int

    @property
    def tokens(self) -> int:
        """New tokens that count."""
        return sum(self.lengths)


def build(device: str) -> Any:
    """9.5M parameters: 10 layers of 256, 4 heads over 2 of keys and values, vocabulary 8192, tied."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCAB,
        hidden_size=256,
        intermediate_size=704,
        num_hidden_layers=10,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
        initializer_range=0.05,
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=0,
    )
    config._attn_implementation = "sdpa"
    return LlamaForCausalLM(config).eval().to(device)


def cells(quick: bool) -> list[Cell]:
    """The same prompts every time."""
    generator = torch.Generator().manual_seed(1)
    number = 32 if quick else 96
    prompts = torch.randint(1, VOCAB, (number, PROMPT), generator=generator).tolist()
    drawn = torch.exp(3.4 + 0.8 * torch.randn(number, generator=generator))  # median 30 tokens
    mixed = [int(min(128, max(4, length))) for length in drawn]
    fixed = [Cell(f"batch {size}", prompts[:size], [NEW] * size, size) for size in (1, 8, BATCH)]
    return [*fixed, Cell("mix", prompts, mixed, BATCH)]


def ours(net: Any, cell: Cell) -> list[list[int]]:
    """Tunesmith."""
    from tunesmith.model.generate import generate

    answers = generate(Model(net, NoText()), cell.prompts, max_tokens=cell.lengths, batch=cell.batch)
    return [answer.ids for answer in answers]


@torch.inference_mode()
def theirs(net: Any, cell: Cell) -> list[list[int]]:
    """transformers, batch after batch, each until its longest answer is done."""
    answers = []
    for start in range(0, len(cell.prompts), cell.batch):
        prompts = torch.tensor(cell.prompts[start : start + cell.batch], device=net.device)
        lengths = cell.lengths[start : start + cell.batch]
        out = net.generate(
            prompts,
            attention_mask=torch.ones_like(prompts),
            max_new_tokens=max(lengths),
            do_sample=False,
            use_cache=True,
        )
        answers += [row[PROMPT : PROMPT + length].tolist() for row, length in zip(out, lengths)]
    return answers


def timed(call: Callable[[], list[list[int]]]) -> tuple[float, float, list[list[int]]]:
    """Seconds, seconds of processor time and answers."""
    started, worked = time.perf_counter(), time.process_time()
    answers = call()
    return time.perf_counter() - started, time.process_time() - worked, answers


def differences(net: Any, cell: Cell, found: list[list[int]], wanted: list[list[int]]) -> list[dict[str, Any]]:
    """Each answer that differs: at which token, and how far apart the two best logits are there."""
    listed = []
    for number, (mine, other) in enumerate(zip(found, wanted, strict=True)):
        step = next((i for i, pair in enumerate(zip(mine, other, strict=True)) if pair[0] != pair[1]), None)
        if step is None:
            continue
        with torch.inference_mode():
            ids = torch.tensor([cell.prompts[number] + mine[:step]], device=net.device)
            best = net(input_ids=ids).logits[0, -1].topk(2).values
        listed.append({"answer": number, "token": step, "gap": float(best[0] - best[1])})
    return listed


def measure(net: Any, cell: Cell, rounds: int) -> dict[str, Any]:
    """Both sides in turn, the one that starts changing; the first pair is for warming up."""
    pairs, ties = [], []
    for number in range(rounds + 1):
        sides: dict[str, tuple[float, float, list[list[int]]]] = {}
        for side in ("ours", "theirs") if number % 2 else ("theirs", "ours"):
            sides[side] = timed(lambda side=side: (ours if side == "ours" else theirs)(net, cell))
        if number:
            pairs.append((sides["ours"][:2], sides["theirs"][:2]))
        ties = differences(net, cell, sides["ours"][2], sides["theirs"][2])
    ratios = [other[0] / mine[0] for mine, other in pairs]
    worked = [other[1] / mine[1] for mine, other in pairs]
    return {
        "prompts": len(cell.prompts),
        "new_tokens": cell.tokens,
        "ours": speed(cell, [mine[0] for mine, _ in pairs]),
        "transformers": speed(cell, [other[0] for _, other in pairs]),
        "ratios": [round(ratio, 2) for ratio in ratios],
        "ratio": round(statistics.median(ratios), 2),
        "processor_ratios": [round(ratio, 2) for ratio in worked],
        "processor_ratio": round(statistics.median(worked), 2),
        "bar": BARS.get(cell.name),
        "differing_answers": ties,
        "greedy_identical": all(tie["gap"] <= 1e-4 for tie in ties),
    }


def speed(cell: Cell, seconds: list[float]) -> dict[str, float]:
    """Tokens a second: median, lowest, highest."""
    speeds = sorted(cell.tokens / each for each in seconds)
    return {"median": round(statistics.median(speeds)), "low": round(speeds[0]), "high": round(speeds[-1])}


def show(found: dict[str, Any]) -> str:
    """The table of a results file: medians with lowest and highest, ratios pair by pair."""
    from benchmarks.common import table

    def line(name: str, result: dict[str, Any]) -> list[str]:
        def speeds(side: dict[str, float]) -> str:
            return f"{side['median']:.0f} ({side['low']:.0f}-{side['high']:.0f})"

        def range_of(key: str) -> str:
            return f"{result[key]:.2f} ({min(result[key + 's']):.2f}-{max(result[key + 's']):.2f})"

        same = "yes" if result["greedy_identical"] else "NO"
        ratios = [range_of("ratio"), range_of("processor_ratio"), str(result["bar"] or "-")]
        return [name, speeds(result["ours"]), speeds(result["transformers"]), *ratios, same]

    columns = ["cell", "ours, tokens/s", "transformers", "ratio", "of processor time", "bar", "same tokens"]
    return table(columns, [line(name, result) for name, result in found["cells"].items()])


def main() -> None:
    """Run all cells, print a table, write the results."""
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    from benchmarks.common import machine, write_results

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="two rounds of fewer prompts; writes nothing")
    parser.add_argument("--rounds", type=int, default=5, help="pairs a cell")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    net = build(options.device)
    load = os.getloadavg()[0]
    results = {cell.name: measure(net, cell, 2 if options.quick else options.rounds) for cell in cells(options.quick)}

    print(machine())
    print(f"{options.threads} threads; load of the machine before the first cell: {load:.1f}\n")
    print(show({"cells": results}))
    if not options.quick:
        facts = {
            "threads": options.threads,
            "device": options.device,
            "load_before": load,
            "load_after": os.getloadavg()[0],
        }
        print("\n" + str(write_results("generation", {**facts, "cells": results})))


if __name__ == "__main__":
    main()
