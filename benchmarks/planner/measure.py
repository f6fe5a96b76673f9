"""Measure configurations: real steps, every allocation counted by torch's profiler. Nothing of the planner is imported.

    echo '{"model": {...}, "method": "sft", "adapter": "lora", ...}' | python -m benchmarks.planner.measure

Prints one line of JSON for each line: the most bytes alive during steps, what was there before, and the process's own peak.
Each configuration has a process of its own, a fork of this one, which imports and computes nothing.
"""

import importlib
import json
import os
import resource
import sys
import tempfile
from contextlib import AbstractContextManager
from dataclasses import replace
from itertools import accumulate
from pathlib import Path
from typing import Any

THREADS = 2  # kernels take scratch for each


def rows_of(objective: Any, asked: int, answered: int) -> dict[str, Any]:
    """A row of the kind the method reads, its texts so many letters long."""
    shape = objective.shape if isinstance(objective.shape, str) else objective.shape[0]
    question = [{"role": "user", "content": "a" * asked}]
    first, second = ([{"role": "assistant", "content": c * answered}] for c in "bc")
    return {
        "chat": {"messages": [*question, *first]},
        "text": {"text": "a" * (asked + answered)},
        "preference": {"messages": question, "chosen": first, "rejected": second},
        "prompt": {"messages": question, "answer": "b"},
    }[shape] | {"origin": "row", "id": "row"}


def unit_of(objective: Any, tokenizer: Any, length: int) -> Any:
    """A Unit whose longest Example has `length` tokens (a prompt with room for its answer, for methods that sample)."""
    from tunesmith.text.draw import Draw
    from tunesmith.text.encode import Text

    text = Text(tokenizer, length=4 * length)
    wanted = length - (objective.max_tokens if hasattr(objective, "collect") else 0)
    size = wanted
    for _ in range(8):
        row = rows_of(objective, size // 2, size - size // 2)
        unit = objective.units(row, text, Draw([0, 0, 0], [row, row]))[0]
        found = max(len(example) for example in unit.examples)
        if found == wanted:
            return unit
        size += wanted - found
    return unit


def answers(max_tokens: int) -> Any:
    """A sampler that always answers at full length."""
    from tunesmith.model.generate import Answer

    zeros = [0.0] * max_tokens
    made = Answer([5] * max_tokens, "", "length", zeros, zeros, 0, 0.0)
    return lambda prompts, n: [[replace(made, num_prompt=len(prompt))] * n for prompt in prompts]


def optimizer_of(net: Any, case: dict[str, Any], folder: Path) -> Any:
    """Make a network ready to train as a run does: number format, checkpointing, optimiser, and the case's memory switches."""
    from tunesmith.train.optim import Optimizer
    from tunesmith.train.pages import Pages
    from tunesmith.train.recompute import checkpoint_activations
    from tunesmith.train.run import LOW, embedding_names, lower

    train = case.get("train", {})
    held = lower(net, LOW[case["precision"]]) if case["precision"] in LOW else None
    checkpoint_activations(net, case["checkpointing"])
    return Optimizer(
        list(net.named_parameters()), kind=train.get("optimizer", "adamw"), masters=held, embeddings=embedding_names(net),
        states=train.get("states", "fp32"), in_backward=train.get("update_in_backward", False), keep=train.get("masters", "fp32"),
        pages=Pages(train.get("offload_states", "none"), folder / "states.scratch"),
    )  # fmt: skip


def clip_of(case: dict[str, Any]) -> float | None:
    """The clip norm: none where updates are made within the backward pass."""
    return None if case.get("train", {}).get("update_in_backward") else 1.0


def around_of(net: Any, case: dict[str, Any], folder: Path) -> AbstractContextManager[None]:
    """What the passes run within: activations that wait in a file, if the case says so."""
    from tunesmith.train.offload import Offload

    kind = case.get("train", {}).get("offload", "none")
    return Offload(kind, folder / "activations.scratch", (*net.parameters(), *net.buffers())).here()


def main(case: dict[str, Any]) -> dict[str, Any]:
    """Two steps under the profiler."""
    import torch
    from torch.profiler import ProfilerActivity, profile
    from transformers import AutoConfig

    from tunesmith.core.shelf import shelf
    from tunesmith.model.load import fresh
    from tunesmith.model.packed import quantise_network
    from tunesmith.step.helpers import Helpers, frozen, with_reference
    from tunesmith.step.step import backward
    from tunesmith.text.tokenizer import byte_tokenizer
    from tunesmith.train.run import LOW

    torch.set_num_threads(THREADS)
    started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    objective = shelf("objectives").make(case["method"])
    numbers = dict(case["model"])
    config = AutoConfig.for_model(numbers.pop("model_type"), **numbers)
    labels = getattr(objective, "labels", ())
    given = {"labels": labels, "problem": "regression"} if labels else {}
    model = fresh(config, byte_tokenizer(), name="measured", kind=getattr(objective, "kind", "causal"), **given)
    if case.get("base"):
        quantise_network(model.net, case["base"])
    shelf("adapters").make(case["adapter"]).attach(model.net, seed=0)
    for name in model.facts.get("heads", ()):
        model.net.get_submodule(name).requires_grad_(True)
    policy, net = model.policy, model.net
    unit = unit_of(objective, model.tokenizer, case["length"])
    helpers = Helpers(state=objective.start() if hasattr(objective, "start") else {})
    if hasattr(objective, "collect"):
        helpers.live = frozen(policy, LOW.get(case["precision"]))
        sampler = answers(objective.max_tokens)
        reward = lambda rows, texts: [float(i % 2) for i in range(len(texts))]
        unit = objective.collect(policy, [unit], sampler, reward, helpers)[0]
    elif "reference" in getattr(objective, "helpers", ()):
        unit = next(iter(with_reference(policy, [unit])))
    units = [unit] * case["units"]
    net.train()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        optimizer = optimizer_of(net, case, folder)
        there = [*net.parameters(), *net.buffers(), *optimizer.masters]
        there += [low.rest for low in optimizer.low.values() if low.rest is not None]
        there += [*helpers.live.net.parameters(), *helpers.live.net.buffers()] if helpers.live is not None else []
        before = sum({t.untyped_storage()._cdata: t.untyped_storage().nbytes() for t in there}.values())
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
            for _ in range(2):
                optimizer.begin(1e-3)
                with around_of(net, case, folder):
                    backward(policy, objective, units, pass_tokens=case["pass_tokens"], helpers=helpers)
                optimizer.step(lr=1e-3, clip=clip_of(case))
    events = allocations(seen)
    assert not any(name.startswith("tunesmith.plan") for name in sys.modules), "the instrument imported the planner"
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    live = before + most_alive(events)
    return {"live": live, "before": before, "allocations": len(events), "process_peak": peak, "process_start": started}


def allocations(seen: Any) -> list[int]:
    """Bytes taken (or, negative, given back) during a profile, in order of time."""
    events = [(e.start_ns(), e.nbytes()) for e in seen.profiler.kineto_results.events() if e.name() == "[memory]"]
    return [size for _, size in sorted(events, key=lambda event: event[0])]


def most_alive(events: list[int]) -> int:
    """Most bytes at once, above those that lived when the profile began."""
    return max(accumulate(events, initial=0))


LOADED = (
    "torch.profiler", "transformers.models.llama.modeling_llama", "transformers.models.qwen3.modeling_qwen3", "tunesmith.model.load",
    "tunesmith.step.step", "tunesmith.train.run", "tunesmith.objectives.sft", "tunesmith.adapters.lora",
)  # fmt: skip


def serve() -> None:
    """Measure what comes line by line."""
    for name in LOADED:
        importlib.import_module(name)
    for line in sys.stdin:
        child = os.fork()
        if not child:
            print(json.dumps(main(json.loads(line))), flush=True)
            os._exit(0)
        if os.waitpid(child, 0)[1]:
            raise SystemExit(f"measuring failed: {line}")


if __name__ == "__main__":
    serve()
