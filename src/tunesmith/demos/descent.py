"""Learning rate and momentum: too low is slow, too high diverges, momentum gets through a narrow valley sooner.

The loss is (w1^2 + 25 w2^2) / 2, a valley 25 times steeper across than along. Plain gradient descent multiplies each weight by 1 - lr x its
curvature in a step: it shrinks while lr is below 2 / 25 = 0.08 and grows from there on, and what is left along the valley shrinks by 1 - lr only.
Momentum moves by a running sum of gradients (Polyak 1964; an overview: Ruder 2016, arXiv 1609.04747), v = momentum x v + gradient,
w = w - lr x v: steps along the valley add up, those across cancel. The optimiser is the one that trains (train/optim.py).

학습률과 모멘텀: 학습률이 너무 낮으면 느리고 너무 높으면 발산합니다. 모멘텀은 기울기를 쌓아 움직여 좁은 골짜기를 더 빨리 지납니다. 보통의 경사
하강은 스텝마다 가중치에 1 - 학습률 x 곡률을 곱하므로, 학습률이 2 / 25 = 0.08을 넘으면 커지기만 합니다.
"""

from typing import Any

import torch
from torch import nn

from tunesmith.core.errors import SettingError
from tunesmith.demos import Shown, table
from tunesmith.train.optim import Optimizer

CURVATURE = (1.0, 25.0)
RATES = (0.001, 0.01, 0.04, 0.081)
TARGET, STEPS = 1e-4, 2000  # of the first loss; the most steps that are tried
LOST = 1e6  # times the first loss: it will not come back


def show(lr: float | None = None, momentum: float = 0.9, lang: str = "en") -> Shown:
    """Steps until the loss is a ten-thousandth of the first, at several rates, or at the one given, without and with momentum."""
    if lr is not None and not lr > 0:
        raise SettingError(f"lr is {lr}.", wanted="Above 0.")
    if not 0 <= momentum < 1:
        raise SettingError(f"momentum is {momentum}.", wanted="From 0 to below 1.")
    korean = lang == "ko"
    facts: dict[str, Any] = {"curvature": list(CURVATURE), "target": TARGET, "rates": []}
    rows = []
    for rate in RATES if lr is None else (lr,):
        found = {str(m): descend(rate, m) for m in dict.fromkeys((0.0, momentum))}
        facts["rates"].append({"lr": rate, "momentum": found})
        rows.append([f"{rate:g}", *(_said(one, korean) for one in found.values())])
    plain, with_momentum = ("모멘텀 없이", f"모멘텀 {momentum:g}") if korean else ("plain", f"momentum {momentum:g}")
    head = ["학습률" if korean else "learning rate", plain, *([with_momentum] if momentum else [])]
    told = (
        f"손실이 처음의 {TARGET:g}배가 될 때까지의 스텝 (많아야 {STEPS:,})"
        if korean
        else f"steps until the loss is {TARGET:g} of the first (at most {STEPS:,})"
    )
    return Shown(f"{told}\n{table(head, rows)}", facts)


def descend(lr: float, momentum: float) -> dict[str, Any]:
    """{steps: until the target, or None; diverged: whether the loss grew out of hand; loss: the last, of the first}."""
    weight = nn.Parameter(torch.ones(2, dtype=torch.float64))
    curvature = torch.tensor(CURVATURE, dtype=torch.float64)
    optimizer = Optimizer([("weight", weight)], kind="sgd", lr=lr, momentum=momentum)
    first = float(curvature.sum() / 2)
    loss = first
    for step in range(1, STEPS + 1):
        weight.grad = curvature * weight.detach()
        optimizer.step(lr=lr)
        loss = float((curvature * weight.detach() ** 2).sum() / 2)
        if loss <= TARGET * first or not loss < LOST * first:
            return {
                "steps": step if loss <= TARGET * first else None,
                "diverged": not loss < LOST * first,
                "loss": loss / first,
            }
    return {"steps": None, "diverged": False, "loss": loss / first}


def _said(found: dict[str, Any], korean: bool) -> str:
    if found["diverged"]:
        return "발산" if korean else "diverges"
    if found["steps"] is None:
        return f"{found['loss']:.3g} 남음" if korean else f"{found['loss']:.3g} left"
    return f"{found['steps']:,}"
