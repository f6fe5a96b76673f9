"""What each rank holds of the optimiser (train.shard): states and fp32 masters, gradients, or the weights too, cut over the ranks.

    optimizer = Sharded(named_parameters, stage="optimizer", kind="adamw", lr=1e-3)     # used as an Optimizer is

optimizer  each rank owns a span of the weights: the summed gradient of the span goes to its owner, who keeps its states, updates it
           and sends it to the others (ZeRO-1: Rajbhandari et al. 2020, arXiv 1910.02054)
gradients  the same, and the gradient goes to its owner during each backward pass and leaves the others (ZeRO-2)
all        the weights lie in spans as well (ZeRO-3), cut and put together by torch's FSDP2 (step/fsdp.py); here only states remain

Spans of equal length in the row of all weights; a matrix that Muon turns as a whole belongs to one rank. Updates are made a number at a
time, so where the gradient and its norm have the same bits the weights have too. The norm is summed over the ranks, in fp64.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from tunesmith.core.errors import SettingError
from tunesmith.step.ranks import added, gathered, rank, ranks
from tunesmith.train.optim import Optimizer, total_norm
from tunesmith.train.spread import Spread

STAGES = ("none", "optimizer", "gradients", "all")
MEETING = ("gradients", "all")  # in which all ranks meet within each pass
BLOCK = 256  # a tensor is cut at multiples of it, so that what is kept a block at a time has the blocks of the whole


def spans(sizes: Sequence[int], uncut: Sequence[bool], num_ranks: int) -> list[tuple[int, ...]]:
    """For each tensor where each rank's span begins, and its end: [(0, 4, 8), ...]; `uncut` tensors go to one rank.

    >>> spans([1024, 512], [False, False], 2)
    [(0, 768, 1024), (0, 0, 512)]
    """
    loads, out = [0] * num_ranks, [(0,) * (num_ranks + 1)] * len(sizes)
    for i in sorted((i for i, whole in enumerate(uncut) if whole), key=lambda i: -sizes[i]):
        owner = loads.index(min(loads))
        loads[owner] += sizes[i]
        out[i] = tuple(sizes[i] if r > owner else 0 for r in range(num_ranks + 1))
    share = -(-sum(sizes) // num_ranks)
    room = [share - load for load in loads]
    now = 0
    for i, size in enumerate(sizes):
        if uncut[i]:
            continue
        starts, place = [0] * (now + 1), 0
        while now < num_ranks - 1 and size - place >= room[now]:
            taken = min(size - place, max(0, -(-room[now] // BLOCK) * BLOCK))
            place += taken
            starts.append(place)
            room[now + 1] += room[now] - taken  # what one rank has too much the next has less
            now += 1
        room[now] -= size - place
        out[i] = (*starts, *[size] * (num_ranks + 1 - len(starts)))
    return out


class Sharded:
    """An Optimizer of which each rank holds its part. The settings are those of Optimizer.

    stage    optimizer | gradients | all; for `all` the parameters have to be cut already (step/fsdp.py)
    low      `all` computes in 16 bits from fp32 weights: they are saved as what they are, masters
    """

    reserve = None  # what a rank keeps of a gradient is made as it arrives

    def __init__(
        self,
        named: Iterable[tuple[str, nn.Parameter]],
        *,
        stage: str,
        kind: str = "adamw",
        masters: Mapping[str, torch.Tensor] | None = None,
        embeddings: frozenset[str] = frozenset(),
        low: bool = False,
        **settings: Any,
    ) -> None:
        if stage not in STAGES[1:]:
            raise SettingError(f"shard {stage!r} is not known", wanted=f"One of {', '.join(STAGES)}.")
        if settings.get("states", "fp32") != "fp32":
            raise SettingError(
                f"train.shard is {stage} and train.states is {settings['states']}: states are cut in fp32 only.",
                fix="Leave one of them out.",
            )
        if settings.get("pages"):
            raise SettingError(
                f"train.shard is {stage} and train.offload_states is {settings['pages'].kind}: states are cut in memory only.",
                fix="Leave one of them out.",
            )
        unique: dict[int, tuple[str, Any]] = {}
        for name, parameter in named:
            if parameter.requires_grad:
                unique.setdefault(id(parameter), (name, parameter))
        self.stage, self.low = stage, low
        self.names = [name for name, _ in unique.values()]
        self.parameters = [parameter for _, parameter in unique.values()]
        turned = [kind == "muon" and p.ndim == 2 and n not in embeddings for n, p in zip(self.names, self.parameters)]
        if stage == "all":
            self.bounds = [_rows(p.shape) for p in self.parameters]
        else:
            for parameter in self.parameters:
                parameter.data = parameter.data.contiguous()
            self.bounds = spans([p.numel() for p in self.parameters], turned, ranks())
        self.own: dict[int, nn.Parameter] = {}
        for number, (parameter, bounds) in enumerate(zip(self.parameters, self.bounds)):
            start, end = bounds[rank()], bounds[rank() + 1]
            if start < end:
                part = parameter.to_local().detach() if stage == "all" else _view(parameter.data, start, end)
                self.own[number] = nn.Parameter(part)
        given = {
            name: _view(masters[name], *self.bounds[number][rank() : rank() + 2]).clone()
            for number, name in enumerate(self.names)
            if number in self.own and masters and name in masters
        }
        own = [(self.names[number], part) for number, part in self.own.items()]
        self.inner = Optimizer(own, kind=kind, masters=given, embeddings=embeddings, **settings)
        self.master_of = dict(zip(self.own, self.inner.masters))
        whole = [stage != "all" and p.dtype in (torch.float32, torch.float64) for p in self.parameters]
        self.masters: list[Any] = [p if w else None for p, w in zip(self.parameters, whole)]
        self._sums: dict[int, torch.Tensor] = {}  # fp32 sums of 16-bit gradients over a step, stage optimizer
        self._order = list(reversed(range(len(self.parameters))))  # a backward pass comes by the last weights first
        self._ready: set[int] = set()
        self._next = 0
        self._seen: dict[str, Any] | None = None
        self._hooks = [
            parameter.register_post_accumulate_grad_hook(self._sum(i) if stage == "optimizer" else self._arrived(i))
            for i, parameter in enumerate(self.parameters)
            if stage == "gradients" or (stage == "optimizer" and self.masters[i] is None)
        ]

    def passed(self) -> None:
        """After each backward pass, which all ranks make equally often: what had no gradient here has one elsewhere."""
        if self.stage == "gradients":
            self._ready.update(self._order)
            self._send_ready()
            self._ready.clear()
            self._next = 0

    def reduce(self) -> None:
        """After the passes of a step: each rank gets the gradient of its span, summed over all ranks."""
        if self.stage == "optimizer":
            for number in self._order:
                self._to_owners(number)
        elif self.stage == "all":
            for number, part in self.own.items():
                gradient = self.parameters[number].grad
                part.grad = None if gradient is None else gradient.to_local()
        for master in self.inner.masters:
            if master.grad is None:
                master.grad = torch.zeros_like(master)

    def step(self, *, lr: float, clip: float | None = None) -> float:
        """Clip, update the own spans, share them, clear. Returns the norm of the whole gradient before clipping."""
        own = [master.grad for master in self.inner.masters]
        value = float(added(total_norm(own).double().cpu() ** 2).sqrt())
        if clip is not None and value > clip and own:
            torch._foreach_mul_(own, clip / (value + 1e-6))
        self.inner.step(lr=lr)
        self._share()
        self.clear()
        self._seen = None
        return value

    def clear(self) -> None:
        """Forget gradients."""
        self.inner.clear()
        self._sums.clear()
        for parameter in self.parameters:
            parameter.grad = None

    def gradients(self) -> list[torch.Tensor]:
        """The tensors whose .grad holds the own spans of the step's gradient."""
        return self.inner.masters

    def state(self) -> dict[str, Any]:
        """What a resumed run needs, by the names an Optimizer gives it; spans as Spread. All ranks have to ask after a step."""
        held = {_numberless(key): value for key, value in self.inner.state().items()}
        if self._seen is None:
            facts = {key: (v.dtype, v.item() if v.ndim == 0 else None) for key, v in held.items()}
            self._seen = {key: fact for part in gathered(facts) for key, fact in part.items()}
        number_of = {name: number for number, name in enumerate(self.names)}
        out: dict[str, Any] = {}
        for key in sorted(self._seen):
            dtype, value = self._seen[key]
            if value is not None:
                out[key] = torch.tensor(value, dtype=dtype)
            else:
                number = number_of[key.split(".", 1 if key.startswith("master.") else 3)[-1]]
                out[key] = self._spread(number, held.get(key), dtype)
        if self.stage == "all":
            word = "master" if self.low else "param"
            for number, (name, parameter) in enumerate(zip(self.names, self.parameters)):
                out[f"{word}.{name}"] = self._spread(number, self.own.get(number), parameter.dtype)
        return out

    def load_state(self, tensors: Iterable[tuple[str, torch.Tensor]]) -> None:
        """Take over what `state` of an Optimizer, or of any number of ranks, gave: each rank keeps its spans."""
        self.inner.load_state(self._mine(tensors))
        self._share()
        self._seen = None

    def _mine(self, tensors: Iterable[tuple[str, torch.Tensor]]) -> Iterator[tuple[str, torch.Tensor]]:
        """This rank's spans of whole tensors."""
        number_of = {name: number for number, name in enumerate(self.names)}
        for key, value in tensors:
            if value.ndim == 0 and key == "state.updates":
                yield key, value
                continue
            number = number_of[key.split(".", 1 if key.startswith("master.") else 3)[-1]]
            if number in self.own:
                start, end = self.bounds[number][rank() : rank() + 2]
                like = self.own[number]
                yield key, value if value.ndim == 0 else value.reshape(-1)[start:end].view(like.shape)

    def put(self, name: str, value: torch.Tensor) -> None:
        """Set a weight to a whole tensor."""
        number = self.names.index(name)
        if self.stage != "all":
            self.parameters[number].data.copy_(value)
        elif number in self.own:
            start, end = self.bounds[number][rank() : rank() + 2]
            self.own[number].data.copy_(value.reshape(-1)[start:end].view(self.own[number].shape))

    def lift(self, net: nn.Module) -> None:
        """As Optimizer.lift. Under `all` the whole weights are put into the first rank's network alone."""
        if self.stage == "all":
            from tunesmith.step.fsdp import put_together

            put_together(net, keep=rank() == 0)
            return
        held = self.inner.weights()
        for number, (name, parameter) in enumerate(zip(self.names, self.parameters)):
            if self.masters[number] is None:
                exact = torch.empty(parameter.shape, dtype=torch.float32, device=parameter.device)
                if number in self.own:
                    _view(exact, *self.bounds[number][rank() : rank() + 2]).copy_(held[name])
                _finish(self._spread_out(number, exact))
                parameter.data = exact
        for parameter in net.parameters():
            if parameter.dtype in (torch.bfloat16, torch.float16):
                parameter.data = parameter.data.float()

    def num_master_bytes(self) -> int:
        """Bytes of masters on this rank."""
        return self.inner.num_master_bytes()

    def num_bytes_on_disk(self) -> int:
        """None: cut states wait in memory."""
        return 0

    def num_state_bytes(self) -> int:
        """Bytes of optimiser state on this rank."""
        return self.inner.num_state_bytes()

    def num_gradient_bytes(self) -> int:
        """Bytes of the summed gradient on this rank."""
        if self.stage == "optimizer":
            return sum(p.numel() * max(4, p.element_size()) for p in self.parameters)
        return self.inner.num_gradient_bytes()

    def num_checkpoint_bytes(self) -> int:
        """Bytes of weights and states of all ranks, as a checkpoint holds them."""
        weights = sum(p.numel() * max(4, p.element_size()) for p in self.parameters)
        return weights + int(added(torch.tensor(self.inner.predicted_state_bytes())))

    def _spread(self, number: int, own: torch.Tensor | None, dtype: torch.dtype) -> Spread:
        parameter = self.parameters[number]
        flat = torch.empty(0, dtype=dtype, device=parameter.device) if own is None else own.detach().reshape(-1)
        return Spread(parameter.shape, dtype, flat, self.bounds[number])

    def _sum(self, number: int) -> Any:
        def hook(parameter: torch.Tensor) -> None:
            if parameter.grad is None:
                return
            if number in self._sums:
                self._sums[number] += parameter.grad
            else:
                self._sums[number] = parameter.grad.float()
            parameter.grad = None

        return hook

    def _arrived(self, number: int) -> Any:
        def hook(parameter: torch.Tensor) -> None:
            self._ready.add(number)
            self._send_ready()

        return hook

    def _send_ready(self) -> None:
        """Send gradients in the one order that all ranks keep, as far as they are here."""
        while self._next < len(self._order) and self._order[self._next] in self._ready:
            self._to_owners(self._order[self._next])
            self._next += 1

    def _to_owners(self, number: int) -> None:
        """Sum one gradient over all ranks, each span on the rank that owns it; the whole one is given back."""
        parameter = self.parameters[number]
        wide = parameter.dtype if parameter.dtype == torch.float64 else torch.float32
        gradient = self._sums.pop(number, parameter.grad)
        parameter.grad = None
        whole = torch.zeros(parameter.shape, dtype=wide, device=parameter.device) if gradient is None else gradient
        flat = whole.to(wide).contiguous().view(-1)
        _finish([
            dist.reduce(flat[start:end], dst=owner, async_op=True)
            for owner, (start, end) in enumerate(_pairs(self.bounds[number]))
            if start < end
        ])  # fmt: skip
        if number in self.own:
            master = self.master_of[number]
            start, end = self.bounds[number][rank() : rank() + 2]
            part = flat[start:end].view(master.shape)
            if master.grad is not None:
                master.grad += part
            else:
                master.grad = part if part.numel() == flat.numel() else part.clone()

    def _share(self) -> None:
        """Every rank gets every span from its owner; under `all` the next forward pass does that."""
        if self.stage != "all":
            _finish([work for number, p in enumerate(self.parameters) for work in self._spread_out(number, p.data)])

    def _spread_out(self, number: int, whole: torch.Tensor) -> list[Any]:
        return [
            dist.broadcast(whole.view(-1)[start:end], src=owner, async_op=True)
            for owner, (start, end) in enumerate(_pairs(self.bounds[number]))
            if start < end
        ]


def _finish(works: Iterable[Any]) -> None:
    for work in works:
        work.wait()


def _pairs(bounds: tuple[int, ...]) -> Iterable[tuple[int, int]]:
    return pairwise(bounds)


def _view(whole: torch.Tensor, start: int, end: int) -> torch.Tensor:
    """A span of a tensor in its memory; of a matrix it stays one (weight decay and the like look at that)."""
    if end - start == whole.numel():
        return whole
    span = whole.view(-1)[start:end]
    return span if whole.ndim < 2 else span[None]


def _rows(shape: torch.Size) -> tuple[int, ...]:
    """How FSDP2 cuts: equally many rows a rank, rounded up; the last ranks may have fewer."""
    rows, row = (shape[0], shape[1:].numel()) if len(shape) else (1, 1)
    return tuple(min(r * -(-rows // ranks()), rows) * row for r in range(ranks() + 1))


def _numberless(key: str) -> str:
    """The same name on every rank: which of an Optimizer's parts holds a state differs with what a rank owns."""
    if not key.startswith("state.") or key == "state.updates":
        return key
    _, _, field, name = key.split(".", 3)
    return f"state.0.{field}.{name}"
