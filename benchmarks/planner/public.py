"""Published peaks of another stack, planned from its settings as published.

    python -m benchmarks.planner.public

litgpt's resource table (tutorials/resource-tables.md: A100 40 GB, bf16-true, LoRA rank 8 on queries and values, no checkpointing, the
longest row of Alpaca in each model's tokens), peak allocated in GB of 1e9 bytes. What is simulated is that recipe, not our code:
transformers' own forward, a low-rank update beside the projections with dropout, logits and their cross-entropy in bf16, 128 tokens of a
row at a time, as its finetune/lora.py has it.

Left out, since their settings are not published in full:

* torchtune's tables do not say which rows recompute activations, what the compiled step keeps, nor whether a figure is allocated or
  reserved; its 8B rows differ by less between LoRA and QLoRA than the weights alone do.
* PEFT's comparison (method_comparison/MetaMathQA) names the most that its allocator reserved over 5,000 steps whose batches have all
  lengths, and not the longest batch: 768 tokens is a limit of the settings, its rows are filtered by letters.
"""

import json
import time
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers import AutoModelForCausalLM
from transformers.initialization import no_init_weights

from benchmarks.common import RESULTS, machine
from benchmarks.planner.points import HEAD, MODELS, POINTS, row, table
from tunesmith.plan.allocate import replay
from tunesmith.plan.network import architecture
from tunesmith.plan.track import Tracker

CHUNK = 128  # tokens of a row whose logits are made at once
PROJECTIONS = ("q_proj", "v_proj", "query_key_value")


class Beside(nn.Module):
    """A projection with a low-rank update beside it, as most stacks compute it."""

    def __init__(self, base: Any, rank: int) -> None:
        super().__init__()
        self.base, self.dropout = base, nn.Dropout(0.05)
        self.down = nn.Linear(base.in_features, rank, bias=False, dtype=base.weight.dtype)
        self.up = nn.Linear(rank, base.out_features, bias=False, dtype=base.weight.dtype)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.base(x) + self.up(self.down(self.dropout(x))) * 2.0


class _KeepsInput(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(x, weight)
        return F.linear(x, weight)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, None]:
        return grad @ ctx.saved_tensors[1], None


class FourBit(nn.Module):
    """A frozen projection as bitsandbytes' MatMul4Bit was then: it kept its input (ctx.tensors = (A, B); later (None, B))."""

    def __init__(self, base: nn.Linear) -> None:
        super().__init__()
        self.weight, self.in_features, self.out_features = base.weight, base.in_features, base.out_features

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return _KeepsInput.apply(x, self.weight)


def peak(name: str, rows: int, bits: float | None) -> float:
    """Most bytes allocated in a step, in GB."""
    described, longest = MODELS[name]
    config = architecture(described)
    with FakeTensorMode(allow_non_fake_inputs=True):
        with no_init_weights():
            net = AutoModelForCausalLM.from_config(config, attn_implementation="sdpa", dtype=torch.bfloat16)
        net.requires_grad_(False)
        layers = net.base_model.layers
        inside = sum(p.numel() for p in layers.parameters())
        for where in [n for n, m in layers.named_modules() if isinstance(m, nn.Linear)] if bits else []:
            layers.set_submodule(where, FourBit(layers.get_submodule(where)))
        for where in [n for n, _ in layers.named_modules() if n.endswith(PROJECTIONS)]:
            layers.set_submodule(where, Beside(layers.get_submodule(where), 8))
        net.train()
        trained = [p for p in net.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(trained, lr=1e-4)
        tracker = Tracker(device="cuda")
        tracker.hold([*net.parameters(), *net.buffers()], "weights")
        with tracker:
            for parameter in trained:
                parameter.grad = torch.zeros_like(parameter)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            tracker.at("step")
            ids = torch.zeros(rows, longest, dtype=torch.int64)
            hidden = net.base_model(input_ids=ids, use_cache=False).last_hidden_state[:, :-1]
            logits = [net.get_output_embeddings()(part) for part in hidden.split(CHUNK, dim=1)]
            parts = [
                F.cross_entropy(each.flatten(0, 1), of.flatten(), reduction="none")
                for each, of in zip(logits, ids[:, 1:].split(CHUNK, dim=1))
            ]
            torch.cat(parts).mean().backward()
            optimizer.step()
            tracker.at("end")
        found = replay(tracker.log).allocated
    if bits is not None:
        largest = config.hidden_size * config.intermediate_size
        found += (
            int(inside * (bits / 8 - 2)) + 2 * largest
        )  # 16 bits become `bits`; the largest matrix is unpacked to use it
    return found / 1e9


def main() -> None:
    """Plan them all."""
    points: list[dict[str, Any]] = []
    print(HEAD)
    for (name, rows, bits), published in POINTS.items():
        said = round(peak(name, rows, bits), 2)
        points.append({"model": name, "rows": rows, "bits": bits or 16, "published": published, "planned": said})
        print(row(points[-1]), flush=True)
    facts = {"machine": machine(), "date": time.strftime("%Y-%m-%d"), "points": points}
    (RESULTS / "planner_public.json").write_text(json.dumps(facts, indent=1) + "\n")
    print(table(points).splitlines()[-1])


if __name__ == "__main__":
    main()
