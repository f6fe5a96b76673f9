"""Published peaks of other stacks, planned from their settings as published.

    python -m benchmarks.planner.public

* litgpt's resource table (tutorials/resource-tables.md: A100 40 GB, bf16-true, LoRA rank 8 on queries and values, Alpaca rows up to
  1,304 tokens, no checkpointing), peak allocated in GB of 1e9 bytes. What is simulated is that recipe, not our code: transformers' own
  forward, a low-rank update beside the projections with dropout, logits of every token, their cross-entropy in fp32.
* PEFT's comparison of methods (method_comparison/MetaMathQA/results: L40S, Llama-3.2-3B in bf16, 4 rows a step, rows up to 768 tokens,
  adapters in fp32 on queries and values, torch's AdamW), peak reserved. What is simulated is its training loop over PEFT's own
  layers (the package peft is needed). The length of the longest batch is not published: 768 is the limit its settings name.

Left out: torchtune's tables. They do not say which rows recompute activations, what the compiled step keeps, nor whether the figure is
allocated or reserved; their 8B rows differ by more between LoRA and QLoRA than the weights do.
"""

import json
import statistics
import time
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers import AutoModelForCausalLM
from transformers.initialization import no_init_weights

from benchmarks.common import RESULTS, machine
from tunesmith.plan.allocate import replay
from tunesmith.plan.network import architecture
from tunesmith.plan.track import Tracker

LONGEST = 1304
# (model, rows a micro-batch, 4-bit weights): GB published
POINTS = {
    ("Llama-2-7B", 1, None): 21.30, ("Llama-2-7B", 2, None): 29.07, ("Llama-2-7B", 1, 4.5): 14.14, ("Llama-2-7B", 1, 4.127): 13.84,
    ("Llama-2-13B", 1, None): 38.12, ("Llama-2-13B", 1, 4.5): 23.14, ("Llama-2-13B", 1, 4.127): 22.55,
}  # fmt: skip
PEFT_ROWS, PEFT_LENGTH = 4, 768
# what trains: GB published (accelerator_memory_max, runs of June 2025; DoRA of January 2026)
PEFT_POINTS = {"full": 37.24, "LoRA rank 32": 22.27, "DoRA rank 32": 24.54, "VeRA rank 256": 21.60}


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
    config = architecture(name)
    with FakeTensorMode(allow_non_fake_inputs=True):
        with no_init_weights():
            net = AutoModelForCausalLM.from_config(config, attn_implementation="sdpa", dtype=torch.bfloat16)
        net.requires_grad_(False)
        inside = sum(p.numel() for p in net.model.layers.parameters())
        for where in [n for n, m in net.model.layers.named_modules() if isinstance(m, nn.Linear)] if bits else []:
            net.model.layers.set_submodule(where, FourBit(net.model.layers.get_submodule(where)))
        for layer in net.model.layers:
            for part in ("q_proj", "v_proj"):
                setattr(layer.self_attn, part, Beside(getattr(layer.self_attn, part), 8))
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
            ids = torch.zeros(rows, LONGEST, dtype=torch.int64)
            logits: Any = net(input_ids=ids, use_cache=False).logits
            F.cross_entropy(logits[:, :-1].float().flatten(0, 1), ids[:, 1:].flatten()).backward()
            optimizer.step()
            tracker.at("end")
        found = replay(tracker.log).allocated
    if bits is not None:
        largest = config.hidden_size * config.intermediate_size
        found += (
            int(inside * (bits / 8 - 2)) + 2 * largest
        )  # 16 bits become `bits`; the largest matrix is unpacked to use it
    return found / 1e9


def peft_network(kind: str) -> Any:
    """Llama-3.2-3B in bf16 under PEFT, as its comparison makes it; on the meta device, which PEFT's `.to` can handle."""
    with torch.device("meta"):
        config = architecture("Llama-3.2-3B")
        net = AutoModelForCausalLM.from_config(config, attn_implementation="sdpa", dtype=torch.bfloat16)
    if kind == "full":
        return net
    from peft import LoraConfig, VeraConfig, get_peft_model

    if kind.startswith("VeRA"):
        chosen: Any = VeraConfig(r=256, target_modules=["v_proj", "q_proj"])
    else:
        chosen = LoraConfig(r=32, lora_alpha=64, target_modules=["v_proj", "q_proj"], use_dora=kind.startswith("DoRA"))
    return get_peft_model(net, chosen, low_cpu_mem_usage=True)


def made_fake(net: nn.Module) -> nn.Module:
    """The same network with fake tensors of the processor in the places of meta ones; shared ones stay shared."""
    made: dict[int, torch.Tensor] = {}
    for module in net.modules():
        for held in (module._parameters, module._buffers):
            for name, old in held.items():
                if old is not None and id(old) not in made:
                    new = torch.empty(old.shape, dtype=old.dtype)
                    trains = isinstance(old, nn.Parameter)
                    made[id(old)] = nn.Parameter(new, requires_grad=old.requires_grad) if trains else new
                held[name] = None if old is None else made[id(old)]
    return net


def peft_peak(kind: str) -> float:
    """Most bytes reserved in two steps of PEFT's loop, in GB."""
    meta = peft_network(kind).train()
    with FakeTensorMode(allow_non_fake_inputs=True):
        net = made_fake(meta)
        trained = [p for p in net.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(trained, lr=1e-4, foreach=True)  # what it is by itself on a GPU
        tracker = Tracker(device="cuda")
        tracker.hold([*net.parameters(), *net.buffers()], "weights")
        with tracker:
            for parameter in trained:
                parameter.grad = torch.zeros_like(parameter)
            optimizer.step()
            tracker.at("step")
            ids = torch.zeros(PEFT_ROWS, PEFT_LENGTH, dtype=torch.int64)
            mask = torch.zeros(PEFT_ROWS, 1, PEFT_LENGTH, PEFT_LENGTH, dtype=torch.bfloat16)  # rows are padded
            for _ in range(2):
                optimizer.zero_grad()
                # its name lives on to the next step, and with it logits, keys and values
                outputs = net(input_ids=ids, attention_mask=mask, labels=ids, num_items_in_batch=ids.numel())
                outputs.loss.backward()
                torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
                optimizer.step()
            tracker.at("end")
        return replay(tracker.log).reserved / 1e9


def main() -> None:
    """Print the table."""
    errors, points = [], []

    def told(model: str, rows: int, bits: float, published: float, said: float, **more: Any) -> None:
        errors.append(abs(said / published - 1))
        points.append(
            {"model": model, "rows": rows, "bits": bits, **more, "published": published, "planned": round(said, 2)}
        )
        print(
            f"{model:<12} {more.get('trains', 'LoRA rank 8'):<14} {rows:>4} {bits:>6} {published:>10.2f} {said:>9.2f}  "
            f"{100 * (said / published - 1):+6.1f} %",
            flush=True,
        )  # fmt: skip

    print("model        trains         rows   bits  published   planned   error")
    for (name, rows, bits), published in POINTS.items():
        told(name, rows, bits or 16, published, peak(name, rows, bits))
    for kind, published in PEFT_POINTS.items():
        told("Llama-3.2-3B", PEFT_ROWS, 16, published, peft_peak(kind), trains=kind)
    facts = {"machine": machine(), "date": time.strftime("%Y-%m-%d"), "points": points}
    (RESULTS / "planner_public.json").write_text(json.dumps(facts, indent=1) + "\n")
    print(f"median error {100 * statistics.median(errors):.1f} %, worst {100 * max(errors):.1f} %")


if __name__ == "__main__":
    main()
