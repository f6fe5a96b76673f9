"""What a run chooses when nobody said: learning rate, tokens per pass, number of steps. Every choice is printed.

learning_rate(adapter_lr=2e-4, width=256)  ->  3.2e-3
"""

import math
from contextlib import nullcontext
from typing import Literal

from tunesmith.report.labels import speaker

REFERENCE_WIDTH = 4096


def learning_rate(adapter_lr: float, width: int, power: float = 1.0) -> float:
    """An adapter's learning rate for a model 4,096 wide, carried over to a model `width` wide.

    Narrow models want higher rates: under Adam inversely with width (Yang et al. 2022, arXiv 2203.03466), which is power
    1. An adapter whose usual rate at 4,096 and whose good rate on `mini` lie further apart says so by a higher power.
    """
    rate = adapter_lr * (REFERENCE_WIDTH / width) ** power
    digits = 1 - math.floor(math.log10(rate))
    return round(rate, digits)


def pass_tokens(width: int, layers: int, vocab: int, memory_bytes: int) -> int:
    """Tokens of one forward and backward pass that surely fit: a quarter of the memory, at most 16,384, at least 512.

    About 34 x width bytes x layers are kept for each token in fp32 (Korthikanti et al. 2022, arXiv 2205.05198, without
    the part quadratic in length, which our attention does not keep), doubled for what autograd copies.
    """
    each = 2 * 34 * width * layers + 8 * width
    fits = memory_bytes / 4 / each
    return int(min(16384, max(512, 2 ** int(math.log2(max(1.0, fits))))))


def precision(device: str) -> Literal["bf16", "fp32"]:
    """What `train.precision: auto` is on a device (auto, cpu, cuda, cuda:1): bf16 where it multiplies that in hardware, else fp32."""
    import torch

    if device != "cpu" and torch.cuda.is_available():
        card = torch.device("cuda" if device == "auto" else device).index
        with torch.cuda.device(card) if card is not None and card < torch.cuda.device_count() else nullcontext():
            return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    return "bf16" if "amx_bf16" in _cpu_flags() else "fp32"


def _cpu_flags() -> set[str]:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            return set(next((line for line in file if line.startswith("flags")), "").split())
    except FileNotFoundError:  # not Linux
        return set()


def steps(
    *,
    per_epoch: int,
    epochs: float | None,
    steps: int | None,
    minutes: float | None,
    seconds_each: float | None,
    lang: str = "en",
) -> tuple[int, str]:
    """How many updates, and why: the least of what epochs, steps and the time budget allow."""
    say = speaker(lang)
    wanted: list[tuple[int, str]] = []
    if epochs is not None or (steps is None and minutes is None):
        number = epochs if epochs is not None else 3.0
        wanted.append((max(1, math.ceil(per_epoch * number)), say("why_epochs", n=f"{number:g}", steps=per_epoch)))
    if steps is not None:
        wanted.append((steps, f"train.steps={steps}"))
    if minutes is not None:
        if seconds_each is None:
            raise ValueError("a time budget needs the seconds of a step")
        fits = max(1, int(minutes * 60 / seconds_each))
        wanted.append((fits, say("why_minutes", n=f"{minutes:g}", seconds=f"{seconds_each:.2f}")))
    return min(wanted)
