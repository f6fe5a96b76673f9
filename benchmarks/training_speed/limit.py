"""The matmul limit of a cell: tokens/s if a step were nothing but the products with the model's weights, at full speed.

    python -m benchmarks.training_speed.limit SPEC.json OUT.json

The products of a step (forward, gradient of the input, and of the weight under full tuning; the output head only where
trained on), each at its own shape over a step's tokens at once, are made in rounds for as long as is asked, and the mean counts: a
training run's speed is a mean over its time too. Attention, norms, the adapters' own products and the optimiser count as free, so
nobody can reach it. Beside it `best_tokens_per_second`, of the fastest repetition of each product: what a machine without
neighbours might do. (Until 2026-11-23 only that was measured; products alone, made in rounds, reach 70 to 87 % of it on a shared machine.)
"""

import json
import operator
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

from benchmarks.training_speed.models import SHAPES
from benchmarks.training_speed.rows import ANSWER_SHARE

BUDGET = 15.0  # seconds: about a quarter of a run's, so that several fall into what the machine does meanwhile
DTYPES = {"fp32": "float32", "bf16": "bfloat16"}


def linears(size: str) -> list[tuple[int, int]]:
    """(inputs, outputs) of the linear layers of one block."""
    width, inner = SHAPES[size]["hidden_size"], SHAPES[size]["intermediate_size"]
    return [
        (width, width),
        (width, width // 2),
        (width, width // 2),
        (width, width),
        *[(width, inner)] * 2,
        (inner, width),
    ]


def in_rounds(products: list[tuple[Any, Any]], *, budget: float) -> tuple[list[float], list[float]]:
    """(mean, shortest) seconds of each a @ b, made in turn for `budget` seconds."""
    import torch

    room = [a @ b for a, b in products]
    spent, best, rounds = [0.0] * len(products), [float("inf")] * len(products), 0
    end = time.perf_counter() + budget
    while not rounds or time.perf_counter() < end:
        for number, (a, b) in enumerate(products):
            started = time.perf_counter()
            torch.mm(a, b, out=room[number])
            seconds = time.perf_counter() - started
            spent[number] += seconds
            best[number] = min(best[number], seconds)
        rounds += 1
    return [seconds / rounds for seconds in spent], best


def main(spec_file: str, out_file: str) -> None:
    """Time the products and write the limit."""
    import torch

    spec = json.loads(Path(spec_file).read_text())
    cell, tokens = spec["cell"], int(spec["step_tokens"])
    torch.set_num_threads(spec["threads"])
    dtype = getattr(torch, DTYPES[cell["precision"]])
    full = cell["adapter"] == "full"
    layers = SHAPES[cell["size"]]["num_hidden_layers"]
    trained = max(1, round(tokens * ANSWER_SHARE)) if cell["answers"] else tokens
    work = [(tokens, *shape) for shape in linears(cell["size"])] * layers
    work.append((trained, SHAPES[cell["size"]]["hidden_size"], cell["vocab"]))
    products, often, flops = [], [], 0.0
    for (count, inputs, outputs), times in Counter(work).items():
        x, w = torch.randn(count, inputs).to(dtype), torch.randn(outputs, inputs).to(dtype)
        dy = torch.randn(count, outputs).to(dtype)
        made = [(x, w.T), (dy, w)] + ([(dy.T, x)] if full else [])
        products += made
        often += [times] * len(made)
        flops += 2.0 * count * inputs * outputs * len(made) * times
    mean, best = (
        sum(map(operator.mul, seconds, often)) for seconds in in_rounds(products, budget=spec.get("budget", BUDGET))
    )
    result = {
        "tokens_per_second": tokens / mean,
        "best_tokens_per_second": tokens / best,
        "gflops": flops / mean / 1e9,
        "seconds_a_step": mean,
        "step_tokens": tokens,
    }
    Path(out_file).write_text(json.dumps(result))


if __name__ == "__main__":
    main(*sys.argv[1:])
