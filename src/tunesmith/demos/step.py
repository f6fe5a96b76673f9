"""One training step on a net so small that every number can be seen: forward, loss, gradients, update.

Forward: y = w2 . tanh(W1 x + b1) + b2, and the loss is (y - wanted)^2. Backward: the chain rule gives, for each weight, the partial derivative
of the loss (Rumelhart, Hinton and Williams 1986). Beside it stands what the loss does when that weight alone is moved a little:
(L(w + e) - L(w - e)) / 2e. Update: the optimiser moves every weight against its gradient; for plain SGD w - lr x gradient. Using a model afterwards is
the forward pass alone: no gradient, nothing kept, no update.

한 스텝: 모든 수를 눈으로 볼 수 있는 작은 망에서 순전파, 손실, 기울기, 갱신을 보여 줍니다. 기울기는 연쇄 법칙으로 구하고, 그 옆에 가중치 하나만 조금
움직여 본 수치 미분을 둡니다. 옵티마이저는 가중치를 기울기 반대쪽으로 옮깁니다. 추론은 순전파뿐입니다.
"""

from typing import Any

import torch
from torch import nn

from tunesmith.core.errors import SettingError
from tunesmith.demos import Shown, table
from tunesmith.train.optim import KINDS, Optimizer

MOVE = 1e-5  # how far a weight is moved for the numeric derivative


def show(optimizer: str = "sgd", lr: float = 0.1, lang: str = "en") -> Shown:
    """A step of an optimiser (sgd, adam, adamw, muon) at a learning rate."""
    if optimizer not in KINDS:
        raise SettingError(f'optimizer is "{optimizer}".', wanted=f"One of {', '.join(KINDS)}.")
    if not lr > 0:
        raise SettingError(f"lr is {lr}.", wanted="Above 0.")
    net, (x, wanted) = network()
    before = {name: p.detach().clone() for name, p in net.named_parameters()}
    loss = loss_of(net, x, wanted)
    loss.backward()
    analytic = {name: p.grad.clone() for name, p in net.named_parameters() if p.grad is not None}
    numeric = derivatives(net, x, wanted)
    off = max(float((analytic[name] - numeric[name]).abs().max()) for name in analytic)
    Optimizer(net.named_parameters(), kind=optimizer, lr=lr).step(lr=lr)
    after = float(loss_of(net, x, wanted).detach())
    rows: list[list[str]] = []
    facts: dict[str, Any] = {}
    for name, p in net.named_parameters():
        flat = zip(before[name].flatten(), analytic[name].flatten(), numeric[name].flatten(), p.detach().flatten())
        for number, (old, gradient, measured, new) in enumerate(flat):
            label = f"{name}[{number}]"
            rows.append(
                [label, f"{old:+.5f}", f"{gradient:+.6f}", f"{measured:+.6f}", f"{new - old:+.6f}", f"{new:+.5f}"]
            )
            facts[label] = {
                "before": float(old),
                "gradient": float(gradient),
                "numeric": float(measured),
                "after": float(new),
            }
    korean = lang == "ko"
    head = (
        ["가중치", "이전", "기울기", "수치 미분", "갱신", "이후"]
        if korean
        else ["weight", "before", "gradient", "numeric", "update", "after"]
    )
    with torch.no_grad():
        hidden = torch.tanh(net[0](x))
    value = float(loss.detach())
    lines = [
        f"x = {x.tolist()}, tanh(W1 x + b1) = {[round(float(h), 4) for h in hidden]}, y = {float(net_out(before, x)):.5f}, "
        + (f"목표 {wanted:g}" if korean else f"wanted {wanted:g}"),
        f"{'손실' if korean else 'loss'} = (y - {wanted:g})^2 = {value:.6f}",
        "",
        table(head, rows),
        "",
        f"기울기와 수치 미분은 최대 {off:.1g} 다릅니다. {optimizer}(lr {lr:g}) 한 번 뒤 손실: {value:.6f} -> {after:.6f}"
        if korean
        else f"Gradients and numeric derivatives differ by at most {off:.1g}. One update of {optimizer} at lr {lr:g}: loss {value:.6f} -> {after:.6f}",
    ]
    return Shown(
        "\n".join(lines),
        {
            "loss": value,
            "loss_after": after,
            "largest_difference": off,
            "weights": facts,
            "optimizer": optimizer,
            "lr": lr,
        },
    )


def network() -> tuple[nn.Sequential, tuple[torch.Tensor, float]]:
    """Two numbers in, three hidden, one out, in fp64; and one example."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 1)).double()
    return net, (torch.tensor([0.5, -1.0], dtype=torch.float64), 1.0)


def loss_of(net: nn.Module, x: torch.Tensor, wanted: float) -> torch.Tensor:
    """(y - wanted)^2"""
    return (net(x)[0] - wanted) ** 2


def net_out(weights: dict[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    """y, from weights by name."""
    hidden = torch.tanh(weights["0.weight"] @ x + weights["0.bias"])
    return (weights["2.weight"] @ hidden + weights["2.bias"])[0]


@torch.no_grad()
def derivatives(net: nn.Module, x: torch.Tensor, wanted: float) -> dict[str, torch.Tensor]:
    """What the loss does when each weight alone is moved: (L(w + e) - L(w - e)) / 2e."""
    found = {}
    for name, parameter in net.named_parameters():
        slope = torch.zeros_like(parameter)
        for place in range(parameter.numel()):
            flat, at = parameter.view(-1), place
            start = float(flat[at])
            flat[at] = start + MOVE
            above = float(loss_of(net, x, wanted))
            flat[at] = start - MOVE
            below = float(loss_of(net, x, wanted))
            flat[at] = start
            slope.view(-1)[at] = (above - below) / (2 * MOVE)
        found[name] = slope
    return found
