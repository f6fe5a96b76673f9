"""Optimisers over fp32 masters: AdamW, Adam, SGD with momentum, Muon; decoupled decay, L1 and L2.

    optimizer = Optimizer(named_parameters, kind="adamw", lr=1e-3, weight_decay=0.1)
    norm = optimizer.step(lr=5e-4, clip=1.0)       # reads .grad, updates, clears

Parameters kept in bf16 or fp16 get an fp32 master that is updated and copied back, so a small learning rate is never rounded
away; or bf16 alone with what rounding needs to lose nothing (see rounding.py). Their gradients are added up in fp32 over the
micro-batches of a step.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import nn

from tunesmith.core.errors import SettingError
from tunesmith.step.step import reduce_gradients
from tunesmith.train import states8
from tunesmith.train.pages import Pages, seen
from tunesmith.train.rounding import KEEPS, Low

KINDS = ("adamw", "adam", "sgd", "muon")
STATES = ("fp32", "8bit")
ALIGNED = 64  # elements: a gradient begins where vectors of any processor and kernels of a card like it to


class Optimizer:
    """Updates the trainable parameters.

    weight_decay  decoupled: w -= lr * weight_decay * w (Loshchilov & Hutter 2019); none on biases, norms and embeddings
                  unless decay_all
    masters       fp32 weights by name, from before the network was cast to bf16; they become the optimiser's own
    keep          what stands behind bf16 weights: an fp32 master, or bf16 alone with kahan or stochastic rounding
    seed          start of the chances of stochastic rounding
    states        8bit: large states lie in eight bits between two updates (states8.py)
    pages         where the states wait between two updates; None: they stay (pages.py)
    in_backward   each parameter is updated as soon as its gradient is there, and the gradient is freed: after `begin`
    l2            coupled: l2 * w is added to the gradient
    l1            proximal: after the update weights move lr * l1 towards 0 and stop there, so L1 gives exact zeros
    """

    passed = None  # ranks meet once a step, in `reduce`, not after each pass (see shard.py)

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
        keep: str = "fp32",
        seed: int = 0,
        states: str = "fp32",
        pages: Pages | None = None,
        in_backward: bool = False,
    ) -> None:
        if kind not in KINDS:
            raise SettingError(f"optimizer {kind!r} is not known", wanted=f"One of {', '.join(KINDS)}.")
        if keep not in KEEPS:
            raise SettingError(f"masters {keep!r} is not known", wanted=f"One of {', '.join(KEEPS)}.")
        if states not in STATES:
            raise SettingError(f"states {states!r} is not known", wanted=f"One of {', '.join(STATES)}.")
        unique: dict[int, tuple[str, nn.Parameter]] = {}
        for name, parameter in named:  # tied weights come twice under two names and are held once
            if parameter.requires_grad:
                unique.setdefault(id(parameter), (name, parameter))
        self.names = [name for name, _ in unique.values()]
        self.parameters = [parameter for _, parameter in unique.values()]
        given = masters or {}
        self.low: dict[int, Low] = {}
        self.masters = []
        for number, (name, p) in enumerate(zip(self.names, self.parameters)):
            if p.dtype in (torch.float32, torch.float64):
                self.masters.append(p)
            elif keep == "fp32":
                self.masters.append(given[name].detach() if name in given else p.detach().float())
            elif p.dtype != torch.bfloat16:
                raise SettingError(
                    f"masters: {keep} keeps weights in bf16; those of this network are {p.dtype}".replace("torch.", ""),
                    fix="Train with precision bf16, or leave masters at fp32.",
                )
            else:
                self.low[number] = Low(p, keep, given.get(name), number)
                self.masters.append(self.low[number].master)
        self.l1, self.l2, self.kind, self.keep = l1, l2, kind, keep
        self.seed, self.updates = seed, 0
        self._gather: list[Any] = []
        for parameter, master in zip(self.parameters, self.masters):
            if master is not parameter:
                self._gather.append(parameter.register_post_accumulate_grad_hook(_add_to(master)))
        decays = [decay_all or (p.ndim >= 2 and name not in embeddings) for name, p in zip(self.names, self.parameters)]
        self.shrinks = {id(m) for m, d in zip(self.masters, decays) if d and kind == "sgd" and weight_decay}
        self.weight_decay = weight_decay
        items = list(zip(self.names, self.masters, decays))
        settings = (embeddings, lr, momentum, betas, eps, weight_decay)
        self.pages = pages or None
        alone = range(len(items)) if states == "8bit" or in_backward or self.pages else self.low
        whole = [item for number, item in enumerate(items) if number not in alone]
        self.whole = _build(kind, whole, *settings) if whole else []
        self.own = {number: _build(kind, [items[number]], *settings) for number in alone}  # updated one at a time
        self.inner = [*self.whole, *(inner for one in self.own.values() for inner in one)]
        self.packed = {
            number
            for number, (name, master, _) in enumerate(items)
            if states == "8bit" and name not in embeddings and states8.fits(master)
        }
        self.in_backward = in_backward
        self._lr: float | None = None
        self._norms: dict[int, torch.Tensor] = {}  # of the gradients that were used and freed in this backward pass
        for number, parameter in enumerate(self.parameters) if in_backward else ():
            self._gather.append(parameter.register_post_accumulate_grad_hook(self._ready(number)))

    def step(self, *, lr: float, clip: float | None = None) -> float:
        """Clip, update, clear. Returns the gradient norm before clipping, over the whole step."""
        if self._lr is not None:
            return self._finish()
        for master in self.masters:
            if master.grad is None:
                master.grad = torch.zeros_like(master)
        norm = total_norm([m.grad for m in self.masters])
        value = float(norm)
        if clip is not None and value > clip:
            torch._foreach_mul_([m.grad for m in self.masters], clip / (value + 1e-6))
        self.updates += 1
        with torch.no_grad():
            held = [master for number, master in enumerate(self.masters) if number not in self.own]
            self._update(held, self.whole, lr)
            for number, (parameter, master) in enumerate(zip(self.parameters, self.masters)):
                if master is not parameter and number not in self.own:
                    parameter.copy_(master)
            for number in self.own:
                self._update_one(number, lr)
        self.clear()
        return value

    def begin(self, lr: float) -> None:
        """Before the one backward pass of a step whose updates are made within it; `step` then makes what is left."""
        if self.in_backward:
            self._lr = lr
            self.updates += 1

    def _ready(self, number: int) -> Any:
        """A hook that uses up a gradient."""

        def hook(parameter: torch.Tensor) -> None:
            if self._lr is None:
                return
            master = self.masters[number]
            self._norms[number] = torch._foreach_norm([master.grad])[0]
            with torch.no_grad():
                self._update_one(number, self._lr)
            parameter.grad = master.grad = None

        return hook

    def _finish(self) -> float:
        """The parameters that had no gradient in this step, and the norm of them all."""
        assert self._lr is not None
        for number, master in enumerate(self.masters):
            if number not in self._norms:
                master.grad = torch.zeros_like(master)
                self._ready(number)(self.parameters[number])
        norms = [self._norms[number] for number in range(len(self.masters))]
        self._lr, self._norms = None, {}
        return float(torch.linalg.vector_norm(torch.stack(norms))) if norms else 0.0

    def _update_one(self, number: int, lr: float) -> None:
        """One update of one parameter, from the gradient of its master."""
        low, parameter, master = self.low.get(number), self.parameters[number], self.masters[number]
        for inner in self.own[number]:
            if self.pages:
                self.pages.back(inner)
            if number in self.packed:
                states8.unpack(inner)
        self._update([master if low is None else low.open()], self.own[number], lr)
        for inner in self.own[number]:
            if number in self.packed:
                states8.pack(inner)
            if self.pages:
                self.pages.out(inner)
        if low is not None:
            low.close((self.seed + 1) * 1_000_003 + self.updates)
        elif master is not parameter:
            parameter.copy_(master)

    def reduce(self) -> None:
        """Add the step's gradients over all ranks."""
        reduce_gradients(self.masters)

    def _update(self, masters: list[Any], inners: list[Any], lr: float) -> None:
        """One update of fp32 weights from their gradients."""
        for master in masters:
            if self.l2:
                master.grad.add_(master.detach(), alpha=self.l2)
            if id(master) in self.shrinks:
                master.mul_(1 - lr * self.weight_decay)
        for inner in inners:
            for group in inner.param_groups:
                group["lr"] = lr
            inner.step()
        if self.l1:
            for master in masters:
                master.copy_(master.sign() * (master.abs() - lr * self.l1).clamp_min_(0))

    def reserve(self) -> None:
        """Make the gradients of a step of several passes before the first, zero and side by side. Made one by one while it goes backward,
        they come to lie where its activations were, between which those of the next pass do not fit: memory would grow by holes."""
        lacking: dict[tuple[torch.dtype, torch.device], list[torch.Tensor]] = {}
        for master in self.masters:
            if master.grad is None:
                lacking.setdefault((master.dtype, master.device), []).append(master)
        for (dtype, device), masters in lacking.items():
            sizes = [-(-master.numel() // ALIGNED) * ALIGNED for master in masters]
            parts = torch.zeros(sum(sizes), dtype=dtype, device=device).split(sizes)
            for master, part in zip(masters, parts):
                master.grad = part[: master.numel()].view_as(master)

    def clear(self) -> None:
        """Forget gradients."""
        for parameter, master in zip(self.parameters, self.masters):
            parameter.grad = master.grad = None

    def gradients(self) -> list[torch.Tensor]:
        """The tensors whose .grad holds the step's gradient: the fp32 masters."""
        return self.masters

    def weights(self) -> dict[str, torch.Tensor]:
        """The trained weights in fp32 (fp64), as exactly as they are known: masters where there are some."""
        return {
            name: self.low[number].exact() if number in self.low else master.detach()
            for number, (name, master) in enumerate(zip(self.names, self.masters))
        }

    def lift(self, net: nn.Module) -> None:
        """Put a network that was lowered to 16 bits back into fp32, its trained weights from their masters; in the host's memory,
        where a card has no room for twice the weights."""
        exact = self.weights()
        if any(p.dtype in (torch.bfloat16, torch.float16) and p.device.type == "cuda" for p in net.parameters()):
            net.to("cpu")
        for parameter in net.parameters():
            if parameter.dtype in (torch.bfloat16, torch.float16):
                parameter.data = parameter.data.float()
        for name, parameter in zip(self.names, self.parameters):
            parameter.data.copy_(exact[name])

    def num_master_bytes(self) -> int:
        """Bytes that stand behind 16-bit weights between two steps: 4, 2 (kahan) or 0 (stochastic) a weight."""
        rests = sum(2 * low.rest.numel() for low in self.low.values() if low.rest is not None)
        pairs = enumerate(zip(self.parameters, self.masters))
        return rests + sum(m.numel() * m.element_size() for n, (p, m) in pairs if m is not p and n not in self.low)

    def num_state_bytes(self) -> int:
        """Bytes of optimiser state in memory: 0, 1 or 2 numbers a parameter for SGD, momentum, Adam; neither masters nor what waits
        elsewhere."""
        tensors = (v for inner in self.inner for s in inner.state.values() for v in s.values() if torch.is_tensor(v))
        return sum(t.numel() * t.element_size() for t in tensors if t.ndim)

    def num_gradient_bytes(self) -> int:
        """Bytes of the step's summed gradient."""
        return sum(m.numel() * m.element_size() for m in self.masters)

    def num_checkpoint_bytes(self) -> int:
        """Bytes of weights and states, as a checkpoint holds them."""
        return self.num_gradient_bytes() + sum(self._state_sizes())

    def predicted_state_bytes(self) -> int:
        """What `num_state_bytes` will be after a step, from the kind of optimiser alone."""
        return sum(size for size in self._state_sizes() if not (self.pages and self.pages.moves(size)))

    def num_bytes_on_disk(self) -> int:
        """Bytes of states that wait in a scratch file."""
        pages = self.pages if self.pages and self.pages.kind == "disk" else None
        return sum(size for size in self._state_sizes() if pages and pages.moves(size))

    def _state_sizes(self) -> list[int]:
        """Bytes of each tensor of states, wherever it waits."""
        sizes: list[int] = []
        packed = {id(self.masters[number]) for number in self.packed}
        for inner in self.inner:
            if isinstance(inner, torch.optim.SGD):
                numbers = 1 if inner.defaults["momentum"] else 0
            else:
                numbers = 1 if isinstance(inner, torch.optim.Muon) else 2
            for parameter in (p for group in inner.param_groups for p in group["params"]):
                whole = [parameter.numel() * parameter.element_size()]
                sizes += numbers * (states8.packed_sizes(parameter.numel()) if id(parameter) in packed else whole)
        return sizes

    def state(self) -> dict[str, torch.Tensor]:
        """Everything a resumed run needs, as named tensors (for safetensors)."""
        out: dict[str, torch.Tensor] = {}
        if self.pages and self.pages.kind == "pinned":
            torch.cuda.synchronize()  # what is on its way to the host has arrived
        for number, (name, parameter, master) in enumerate(zip(self.names, self.parameters, self.masters)):
            if number in self.low:
                out[f"master.{name}"] = (
                    self.low[number].exact() if self.low[number].rest is not None else parameter.detach()
                )
            elif master is not parameter:
                out[f"master.{name}"] = master.detach()
        name_of = {id(master): name for name, master in zip(self.names, self.masters)}
        for number, inner in enumerate(self.inner):
            for master, state in inner.state.items():
                for key, value in state.items():
                    out[f"state.{number}.{key}.{name_of[id(master)]}"] = seen(value)
        if self.keep == "stochastic":
            out["state.updates"] = torch.tensor(self.updates)
        return out

    def put(self, name: str, value: torch.Tensor) -> None:
        """Set a weight."""
        self.parameters[self.names.index(name)].data.copy_(value)

    def load_state(self, tensors: Iterable[tuple[str, torch.Tensor]]) -> None:
        """Take over what `state` gave; a tensor may go when the next one is asked for."""
        number_of = {name: number for number, name in enumerate(self.names)}
        inner_of = {id(m): inner for inner in self.inner for group in inner.param_groups for m in group["params"]}
        for key, value in tensors:
            if key == "state.updates":
                self.updates = int(value)
            elif key.startswith("master."):
                number = number_of[key.removeprefix("master.")]
                if number in self.low:
                    self.low[number].take(value)
                else:
                    self.masters[number].data.copy_(value)
            else:
                _, _, field, name = key.split(".", 3)
                master = self.masters[number_of[name]]
                inner_of[id(master)].state[master][field] = value.to(master.device, copy=True)
                if self.pages:
                    self.pages.out(inner_of[id(master)])
        for number, (parameter, master) in enumerate(zip(self.parameters, self.masters)):
            if master is not parameter and number not in self.low:
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
