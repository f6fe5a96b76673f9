"""Optimisers over fp32 masters: AdamW, Adam, SGD with momentum, Muon; decoupled decay, L1 and L2.

    optimizer = Optimizer(named_parameters, kind="adamw", lr=1e-3, weight_decay=0.1)
    norm = optimizer.step(lr=5e-4, clip=1.0)       # reads .grad, updates, clears

Parameters kept in bf16 get an fp32 master that is updated and copied back, so a small learning rate is never rounded
away; their gradients are added up in fp32 over the micro-batches of a step.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import nn

from tunesmith.core.errors import SettingError

KINDS = ("adamw", "adam", "sgd", "muon")


class Optimizer:
    """Updates the trainable parameters.

    weight_decay  decoupled: w -= lr * weight_decay * w (Loshchilov & Hutter 2019); none on biases, norms and embeddings
                  unless decay_all
    masters       fp32 weights by name, from before the network was cast to bf16
    l2            coupled: l2 * w is added to the gradient
    l1            proximal: after the update weights move lr * l1 towards 0 and stop there, so L1 gives exact zeros
    """

    def __init__(
        self,
        named: Iterable[tuple[str, nn.Parameter]],
        *,
        kind: str = "adamw",
        lr: float = 1e-3,
        momentum: float = 0.0,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        l1: float = 0.0,
        l2: float = 0.0,
        decay_all: bool = False,
        embeddings: frozenset[str] = frozenset(),
        masters: Mapping[str, torch.Tensor] | None = None,
    ) -> None:
        if kind not in KINDS:
            raise SettingError(f"optimizer {kind!r} is not known", wanted=f"One of {', '.join(KINDS)}.")
        unique: dict[int, tuple[str, nn.Parameter]] = {}
        for name, parameter in named:  # tied weights come twice under two names and are held once
            if parameter.requires_grad:
                unique.setdefault(id(parameter), (name, parameter))
        self.names = [name for name, _ in unique.values()]
        self.parameters = [parameter for _, parameter in unique.values()]
        given = masters or {}
        self.masters = [
            p if p.dtype in (torch.float32, torch.float64) else given.get(name, p).detach().float().clone()
            for name, p in zip(self.names, self.parameters)
        ]
        self.l1, self.l2, self.kind = l1, l2, kind
        self._gather: list[Any] = []
        for parameter, master in zip(self.parameters, self.masters):
            if master is not parameter:
                self._gather.append(parameter.register_post_accumulate_grad_hook(_add_to(master)))
        decays = [decay_all or (p.ndim >= 2 and name not in embeddings) for name, p in zip(self.names, self.parameters)]
        self.shrinks = [m for m, d in zip(self.masters, decays) if d and kind == "sgd" and weight_decay]
        self.weight_decay = weight_decay
        self.inner = _build(
            kind, list(zip(self.names, self.masters, decays)), embeddings, lr, momentum, betas, eps, weight_decay
        )

    def step(self, *, lr: float, clip: float | None = None) -> float:
        """Clip, update, clear. Returns the gradient norm before clipping, over the whole step."""
        for master in self.masters:
            if master.grad is None:
                master.grad = torch.zeros_like(master)
        norm = total_norm([m.grad for m in self.masters])
        value = float(norm)
        if clip is not None and value > clip:
            torch._foreach_mul_([m.grad for m in self.masters], clip / (value + 1e-6))
        if self.l2:
            for master in self.masters:
                master.grad.add_(master.detach(), alpha=self.l2)
        with torch.no_grad():
            for master in self.shrinks:
                master.mul_(1 - lr * self.weight_decay)
            for inner in self.inner:
                for group in inner.param_groups:
                    group["lr"] = lr
                inner.step()
            if self.l1:
                for master in self.masters:
                    master.copy_(master.sign() * (master.abs() - lr * self.l1).clamp_min_(0))
            for parameter, master in zip(self.parameters, self.masters):
                if master is not parameter:
                    parameter.copy_(master)
        self.clear()
        return value

    def clear(self) -> None:
        """Forget gradients."""
        for parameter, master in zip(self.parameters, self.masters):
            parameter.grad = master.grad = None

    def gradients(self) -> list[torch.Tensor]:
        """The tensors whose .grad holds the step's gradient: the fp32 masters."""
        return self.masters

    def num_state_bytes(self) -> int:
        """Bytes of optimiser state: 0, 1 or 2 numbers a parameter for SGD, momentum, Adam; masters not counted."""
        tensors = (v for inner in self.inner for s in inner.state.values() for v in s.values() if torch.is_tensor(v))
        return sum(t.numel() * t.element_size() for t in tensors if t.ndim)

    def predicted_state_bytes(self) -> int:
        """What `num_state_bytes` will be after a step, from the kind of optimiser alone."""
        total = 0
        for inner in self.inner:
            if isinstance(inner, torch.optim.SGD):
                numbers = 1 if inner.defaults["momentum"] else 0
            else:
                numbers = 1 if isinstance(inner, torch.optim.Muon) else 2
            total += sum(
                numbers * p.numel() * p.element_size() for group in inner.param_groups for p in group["params"]
            )
        return total

    def state(self) -> dict[str, torch.Tensor]:
        """Everything a resumed run needs, as named tensors (for safetensors)."""
        out = {}
        for name, parameter, master in zip(self.names, self.parameters, self.masters):
            if master is not parameter:
                out[f"master.{name}"] = master.detach()
        for number, inner in enumerate(self.inner):
            for master, state in inner.state.items():
                name = self.names[next(i for i, m in enumerate(self.masters) if m is master)]
                for key, value in state.items():
                    out[f"state.{number}.{key}.{name}"] = torch.as_tensor(value)
        return out

    def load_state(self, tensors: dict[str, torch.Tensor]) -> None:
        """Take over what `state` gave."""
        where = {name: master for name, master in zip(self.names, self.masters)}
        for key, value in tensors.items():
            if key.startswith("master."):
                where[key.removeprefix("master.")].data.copy_(value)
            else:
                _, number, field, name = key.split(".", 3)
                self.inner[int(number)].state[where[name]][field] = value.clone()
        for parameter, master in zip(self.parameters, self.masters):
            if master is not parameter:
                parameter.data.copy_(master)


def total_norm(gradients: list[torch.Tensor]) -> torch.Tensor:
    """Euclidean norm over all gradients together."""
    if not gradients:
        return torch.zeros(())
    return torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))


def _add_to(master: torch.Tensor):
    """A hook that moves a fresh bf16 gradient into the fp32 sum of its master."""

    def hook(parameter: torch.Tensor) -> None:
        if parameter.grad is None:
            return
        if master.grad is None:
            master.grad = parameter.grad.float()
        else:
            master.grad += parameter.grad
        parameter.grad = None

    return hook


def _build(kind, items, embeddings, lr, momentum, betas, eps, weight_decay) -> list[torch.optim.Optimizer]:
    def groups(chosen, **extra):
        made = []
        for decays in (True, False):
            params = [master for _, master, decay in chosen if decay is decays]
            if params:
                made.append({"params": params, "weight_decay": weight_decay if decays else 0.0, **extra})
        return made

    if kind == "sgd":
        # torch's own weight_decay is coupled for SGD; ours is decoupled everywhere, so `step` does it.
        plain = [{"params": group["params"]} for group in groups(items)]
        return [torch.optim.SGD(plain, lr=lr, momentum=momentum)]
    if kind == "adam":
        return [torch.optim.Adam(groups(items), lr=lr, betas=betas, eps=eps, decoupled_weight_decay=True, fused=True)]
    if kind == "adamw":
        return [torch.optim.AdamW(groups(items), lr=lr, betas=betas, eps=eps, fused=True)]
    # Muon (Jordan et al. 2024) for the matrices inside the network, AdamW for embeddings, head, norms and biases.
    # match_rms_adamw (Liu et al. 2025, arXiv 2502.16982) gives Muon's updates AdamW's size, so one lr serves both.
    inside = [item for item in items if item[1].ndim == 2 and item[0] not in embeddings]
    rest = [item for item in items if not (item[1].ndim == 2 and item[0] not in embeddings)]
    made: list[torch.optim.Optimizer] = []
    if inside:
        made.append(torch.optim.Muon(groups(inside), lr=lr, momentum=momentum or 0.95, adjust_lr_fn="match_rms_adamw"))
    if rest:
        made.append(torch.optim.AdamW(groups(rest), lr=lr, betas=betas, eps=eps, fused=True))
    return made
