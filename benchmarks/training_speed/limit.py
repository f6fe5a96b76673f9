"""The matmul limit of a cell: tokens/s if a step were nothing but the products with the model's weights, at full speed.

    python -m benchmarks.training_speed.limit SPEC.json OUT.json

Each product of a step (forward, gradient of the input, and of the weight under full tuning; the output head only where
trained on) is timed alone at its own shape, over a step's tokens at once, and the best repetition is taken. Attention, norms,
the adapters' own products and the optimiser count as free, so nobody can reach it.
"""

import json
import sys
import time
from pathlib import Path

from benchmarks.training_speed.models import SHAPES
from benchmarks.training_speed.rows import ANSWER_SHARE

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


def best_seconds(a, b, *, budget: float) -> float:
    """Shortest of many repetitions of a @ b."""
    import torch

    out = a @ b
    best, end = float("inf"), time.perf_counter() + budget
    while time.perf_counter() < end:
        started = time.perf_counter()
        torch.mm(a, b, out=out)
        best = min(best, time.perf_counter() - started)
    return best


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
    work = [(tokens, shape, layers) for shape in linears(cell["size"])]
    work.append((trained, (SHAPES[cell["size"]]["hidden_size"], cell["vocab"]), 1))
    seconds, flops, timed = 0.0, 0.0, {}
    for count, (inputs, outputs), times in work:
        key = (count, inputs, outputs)
        if key not in timed:
            x, w = torch.randn(count, inputs).to(dtype), torch.randn(outputs, inputs).to(dtype)
            dy = torch.randn(count, outputs).to(dtype)
            products = [(x, w.T), (dy, w)] + ([(dy.T, x)] if full else [])
            timed[key] = (
                sum(best_seconds(a, b, budget=spec.get("budget", 0.4)) for a, b in products),
                2.0 * count * inputs * outputs * len(products),
            )
        seconds += timed[key][0] * times
        flops += timed[key][1] * times
    result = {
        "tokens_per_second": tokens / seconds,
        "gflops": flops / seconds / 1e9,
        "seconds_a_step": seconds,
        "step_tokens": tokens,
    }
    Path(out_file).write_text(json.dumps(result))


if __name__ == "__main__":
    main(*sys.argv[1:])
