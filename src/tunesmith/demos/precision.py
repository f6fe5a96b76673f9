"""Precision of training: what small updates and small gradients come to in 16 bits, with and without help.

Training is more sensitive than inference: it adds up thousands of tiny updates, and near 1 the steps of bf16 are 1/128. Mixed precision computes in
16 bits and keeps an fp32 master of every weight (Micikevicius et al. 2018, arXiv 1710.03740): masters: fp32. Without masters, rounding needs
help: by chance, so that the mean is right (stochastic), or with the digits that were cut off kept beside the weight (kahan; Zamirai et al. 2020,
arXiv 2010.06192). fp16 ends at 6e-8 below, so the loss is scaled up before the backward pass and gradients down after it.

학습의 정밀도: 16비트에서 작은 갱신과 작은 기울기가 어떻게 되는지 보여 줍니다. 학습은 아주 작은 갱신을 수천 번 더하므로 추론보다 정밀도에
민감합니다. 혼합 정밀도는 계산은 16비트로 하고 가중치의 fp32 원본을 둡니다. 원본이 없으면 확률 반올림이나 잘린 자릿수를 따로 두어야
하고, fp16은 손실을 키워 작은 기울기를 지킵니다.
"""

from typing import Any

import torch
from torch import nn

from tunesmith.core.errors import SettingError
from tunesmith.demos import Shown, table
from tunesmith.train.optim import Optimizer

WAYS = (
    ("fp32", torch.float32, "fp32"),
    ("bf16, fp32 masters", torch.bfloat16, "fp32"),
    ("bf16, kahan", torch.bfloat16, "kahan"),
    ("bf16, stochastic", torch.bfloat16, "stochastic"),
)


def show(lr: float = 1e-6, steps: int = 1000, lang: str = "en") -> Shown:
    """How far AdamW moves weights in `steps` of learning rate `lr`, in each way of keeping them; and gradients in fp16."""
    if not (lr > 0 and 1 <= steps <= 10_000):
        raise SettingError(f"lr is {lr}, steps {steps}.", wanted="lr above 0, 1 to 10,000 steps.")
    found: dict[str, dict[str, Any]] = {name: moved(dtype, keep, lr, steps) for name, dtype, keep in WAYS}
    found["bf16 alone"] = alone(lr, steps)
    wanted = found["fp32"]["moved"]
    korean = lang == "ko"
    rows = [
        [name, str(one["bytes"]), f"{one['moved']:+.3e}", f"{one['moved'] / wanted:.1%}"] for name, one in found.items()
    ]
    head = (
        ["가중치", "가중치당 바이트", "평균 변화", "fp32 대비"]
        if korean
        else ["weights", "bytes each", "mean change", "of fp32's"]
    )
    told = f"AdamW, lr {lr:g}, {steps:,} " + ("스텝 뒤" if korean else "steps")
    lost = underflow()
    note = (
        f"fp16에서 0이 된 기울기: 그대로 {lost['plain']:.0%}, 손실을 {lost['scale']:g}배 하면 {lost['scaled']:.0%}"
        if korean
        else f"Gradients that become 0 in fp16: {lost['plain']:.0%} as they are, {lost['scaled']:.0%} with the loss times {lost['scale']:g}"
    )
    return Shown(
        "\n".join([told, "", table(head, rows), "", note]), {"lr": lr, "steps": steps, "ways": found, "fp16": lost}
    )


def _start() -> tuple[torch.Tensor, torch.Tensor]:
    """Weights that bf16 holds exactly, and a direction for each."""
    draw = torch.Generator().manual_seed(0)
    weights = (torch.rand(4096, generator=draw) * 0.02 + 0.005).to(torch.bfloat16).float()
    return weights, torch.rand(4096, generator=draw) + 0.5


def moved(dtype: torch.dtype, keep: str, lr: float, steps: int) -> dict[str, Any]:
    """Mean change of the weights under our optimiser, and the bytes it holds for each between two steps, gradients left out."""
    start, gradient = _start()
    weight = nn.Parameter(start.to(dtype, copy=True))
    optimizer = Optimizer([("w", weight)], keep=keep)
    for _ in range(steps):
        optimizer.gradients()[0].grad = gradient.clone()
        optimizer.step(lr=lr)
    held = weight.numel() * weight.element_size() + optimizer.num_master_bytes() + optimizer.num_state_bytes()
    change = float((optimizer.weights()["w"].double() - start.double()).mean())
    return {"moved": change, "bytes": held // len(start)}


def alone(lr: float, steps: int) -> dict[str, Any]:
    """The same in bf16 throughout, rounded to the nearest: weights, optimiser state and updates."""
    start, gradient = _start()
    weight = nn.Parameter(start.to(torch.bfloat16))
    optimizer = torch.optim.AdamW([weight], lr=lr, weight_decay=0.0)
    for _ in range(steps):
        weight.grad = gradient.to(torch.bfloat16)
        optimizer.step()
    return {"moved": float((weight.detach().double() - start.double()).mean()), "bytes": 6}


def underflow(scale: float = 2.0**16) -> dict[str, float]:
    """Share of gradients between 1e-10 and 1e-3 that fp16 rounds to 0, as they are and times `scale`."""
    gradients = torch.logspace(-10, -3, 7001)
    plain, scaled = ((one.half() == 0).float().mean() for one in (gradients, gradients * scale))
    return {"plain": float(plain), "scaled": float(scaled), "scale": scale}
