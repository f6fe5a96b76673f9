"""Our training forward (model/lean.py) against the module's own, the same batch, gradients compared.

    python -m benchmarks.lean_forward            prints the table, writes benchmarks/results/lean_forward.json

The 10M model's shape (h256 x 6 here, as `mini`), full and LoRA, fp32 and bf16, short chat rows and text. Both sides use our attention
and our chunked loss; the difference is the layers. Times are CPU seconds of one thread, the least of five, so a busy machine
changes them little. Gradient error: the largest over parameters of |ours - module's| / |module's|.
"""

import time
from typing import Any

import numpy as np
import torch

from benchmarks.common import table, write_results

VOCAB = 8192


def units(lengths: Any, answer: int | None) -> list[Any]:
    """Rows of random ids; only the last `answer` tokens trained on, or all of them."""
    from tunesmith.text.example import Example, Unit

    draw = np.random.default_rng(0)
    made = []
    for size in sorted(int(n) for n in lengths):
        weights = [1.0] * size if answer is None else [0.0] * (size - answer) + [1.0] * answer
        made.append(Unit((Example.of(draw.integers(40, VOCAB, size).tolist(), weights),)))
    return made


def measure(dtype: str, lora: bool, rows: list[Any], lean: bool) -> tuple[float, float, dict[str, torch.Tensor], int]:
    """(CPU seconds of forward and backward, loss, gradients, tokens)."""
    from transformers import AutoModelForCausalLM

    from tunesmith.adapters.lora import Lora
    from tunesmith.model import attention
    from tunesmith.model.batch import pack
    from tunesmith.model.embedded import mini_config
    from tunesmith.model.load import DTYPES
    from tunesmith.model.policy import Policy

    torch.manual_seed(0)
    net = (
        AutoModelForCausalLM.from_config(mini_config(VOCAB), attn_implementation=attention.NAME)
        .to(DTYPES[dtype])
        .train()
    )
    if lora:
        Lora().attach(net, seed=1)
        for number, (name, parameter) in enumerate(net.named_parameters()):
            if "lora_B" in name:
                parameter.data.normal_(0, 0.02, generator=torch.Generator().manual_seed(number))
    policy, batch = Policy(net, lean=lean), pack(rows)
    took, loss = [], 0.0
    for _ in range(6):
        net.zero_grad()
        began = time.thread_time()
        total, _ = policy.nll(batch)
        (total / batch.weight.sum()).backward()
        took.append(time.thread_time() - began)
        loss = float(total.detach() / batch.weight.sum())
    gradients = {name: p.grad.float() for name, p in net.named_parameters() if p.grad is not None}
    return min(took[1:]), loss, gradients, batch.num_tokens


def main() -> None:
    torch.set_num_threads(1)
    draw = np.random.default_rng(1)
    sets = {
        "chat": units(np.clip(draw.normal(35, 8, 60), 16, 80), 10),
        "text": units(np.clip(draw.lognormal(4.5, 0.8, 18), 16, 1024), None),
    }
    results = []
    for dtype in ("fp32", "bf16"):
        for lora in (False, True):
            for name, rows in sets.items():
                (theirs, loss, wanted, tokens), (ours, own_loss, got, _) = (
                    measure(dtype, lora, rows, lean) for lean in (False, True)
                )
                error = max(float((got[k] - wanted[k]).norm() / wanted[k].norm().clamp_min(1e-12)) for k in wanted)
                cell = {"dtype": dtype, "adapter": "lora" if lora else "full", "rows": name, "tokens": tokens, "module_seconds": theirs,
                        "lean_seconds": ours, "ratio": theirs / ours, "loss_error": abs(own_loss - loss) / loss, "gradient_error": error}  # fmt: skip
                results.append(cell)
    print(show({"cells": results}))
    write_results("lean_forward", {"cells": results})


def show(found: dict[str, Any]) -> str:
    """The table of a results file."""
    lines = [
        [cell["dtype"], cell["adapter"], cell["rows"], f"{cell['module_seconds']:.3f}", f"{cell['lean_seconds']:.3f}",
         f"{cell['ratio']:.2f}", f"{cell['gradient_error']:.1e}"] for cell in found["cells"]
    ]  # fmt: skip
    return table(["dtype", "adapter", "rows", "module s", "lean s", "ratio", "gradient error"], lines)


if __name__ == "__main__":
    main()
