"""Watches every storage a computation makes and lets go: how many bytes are alive, when, of what kind, made where.

    with fake, Tracker() as tracker:
        ...                                # real code on fake tensors
    peak = tracker.peak()                  # Peak(bytes=..., kinds={"weights": ..., "activations": ...}, op="mm", place="model/lean.py _layer")

It sits above FakeTensorMode: nothing is computed, only shapes, lifetimes and floating-point operations are seen. Values
read out of a tensor (`.item()`) are 2.0, so the code that reads a gradient's norm runs on, and clips; two that are compared are equal.
"""

import sys
import weakref
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from inspect import CO_OPTIMIZED
from typing import Any

import torch
from torch._guards import detect_fake_mode
from torch._subclasses.fake_tensor import FakeTensor, in_kernel_invocation_manager
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from tunesmith.plan.scratch import scratch

READ = 2.0  # what a value read out of a fake tensor is: above every clip norm in use, so that clipping is simulated

KINDS = ("weights", "masters", "gradients", "optimizer", "activations", "loss", "helpers", "temporaries")


@dataclass(eq=False)
class Storage:
    """One storage: its bytes, what made it, in which phase; `kind` once somebody said what it is."""

    bytes: int
    op: str
    place: str
    phase: str
    kind: str | None = None
    until: str | None = None
    """the phase in which it was let go; None = still alive at the end"""


@dataclass(frozen=True)
class Peak:
    """The moment when most bytes were alive: the operation that ran, where it is written, in which phase and layer."""

    bytes: int
    kinds: dict[str, int]
    op: str
    place: str
    phase: str
    layer: str


@dataclass
class Log:
    """What happened, in order: (+storage, -storage, or an operation's own scratch bytes), with the time's operation."""

    events: list[tuple[int, int]] = field(default_factory=list)
    """(storage number, +1 made or -1 let go), or (bytes of scratch, 0): taken and given back within an operation"""
    storages: list[Storage] = field(default_factory=list)
    marks: dict[str, int] = field(default_factory=dict)
    """{name: number of events so far}, set by `Tracker.at`"""


class Tracker(TorchDispatchMode):
    """Follows storages, and counts how often each operation ran.

    names   modules by id, to say in which layer the peak was
    device  "cpu" or "cuda": whose kernels' own scratch is counted
    work    {(passes or update, number format, floating-point operations, bytes read and written): how many calls}
    """

    def __init__(self, names: dict[int, str] | None = None, device: str = "cpu") -> None:
        super().__init__()
        self.log = Log()
        self.live = 0
        self.work: Counter[tuple[str, str, int, int]] = Counter()
        self.num_ops = 0
        self.updating = False
        self.names, self.device = names or {}, device
        self._known: dict[int, tuple[int, Any]] = {}
        self._top = 0
        self._top_at: tuple[int, str, str, str, str] = (0, "", "", "", "")

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is torch.ops.aten._local_scalar_dense.default:
            return READ if args[0].dtype.is_floating_point else int(READ)
        if func is torch.ops.aten.equal.default:
            return True
        if func is torch.ops.prim.device.default:
            return args[0].fake_device if isinstance(args[0], FakeTensor) else func(*args)
        out = quick(func, args, kwargs)
        self.num_ops += 1
        made = out if isinstance(out, tuple | list) else (out,)
        new = False
        for tensor in made:
            if isinstance(tensor, torch.Tensor):
                new |= self._see(tensor, func)
        spent = scratch(func, args, kwargs, out, self.device)
        if spent:
            self.log.events.append((spent, 0))
        if (new or spent) and self.live + spent > self._top:
            self._top = self.live + spent
            place, layer = _where(self.names)
            self._top_at = (len(self.log.events), str(func.overloadpacket.__name__), place, self.phase, layer)
        self._count(func, args, kwargs, out)
        return out

    @property
    def phase(self) -> str:
        """forward, backward or update."""
        if self.updating:
            return "update"
        return "backward" if torch._C._current_graph_task_id() != -1 else "forward"

    def hold(self, tensors: Iterable[torch.Tensor], kind: str) -> None:
        """Say what these tensors are, unless it was said before; those made before the tracker began count from now on."""
        for tensor in tensors:
            self._see(tensor, None)
            storage = self.log.storages[self._known[_key(tensor)][0]]
            storage.kind = storage.kind or kind

    def at(self, name: str) -> None:
        """Give this moment a name; peaks are asked for from one to another."""
        self.log.marks[name] = len(self.log.events)

    def restart(self) -> None:
        """Forget the highest moment so far (what lives stays)."""
        self._top, self._top_at = 0, (len(self.log.events), "", "", "", "")

    def _see(self, tensor: torch.Tensor, func: Any) -> bool:
        key = _key(tensor)
        if key in self._known:
            return False
        storage = tensor.untyped_storage()
        size = storage.nbytes()
        number = len(self.log.storages)
        op = "" if func is None else str(func.overloadpacket.__name__)
        place = "" if func is None else _where({})[0]
        self.log.storages.append(Storage(size, op, place, self.phase))
        self.log.events.append((number, 1))
        self.live += size
        self._known[key] = (number, weakref.ref(storage, lambda _: self._freed(key, number, size)))
        return True

    def _freed(self, key: int, number: int, size: int) -> None:
        self.live -= size
        self.log.events.append((number, -1))
        self.log.storages[number].until = self.phase
        self._known.pop(key, None)

    def _count(self, func: Any, args: Any, kwargs: Any, out: Any) -> None:
        tensors = [t for t in _flat((args, tuple(kwargs.values()), out)) if isinstance(t, torch.Tensor)]
        if not tensors or func.is_view:
            return
        dtype = str(tensors[0].dtype).removeprefix("torch.")
        moved = sum(t.numel() * t.element_size() for t in tensors)
        self.work["update" if self.updating else "passes", dtype, flops(func, args, kwargs, out), moved] += 1

    def peak(self, begin: str | None = None) -> Peak:
        """The highest moment since the mark `begin` (or the start), with what was alive then, by kind."""
        top, when = most(self.log, self.log.marks[begin] if begin else 0)
        alive = alive_at(self.log, when)
        kinds = Counter({kind: 0 for kind in KINDS})
        for number in alive:
            kinds[kind_of(self.log.storages[number])] += self.log.storages[number].bytes
        kinds["temporaries"] += top - sum(kinds.values())  # the scratch of the operation itself
        at = self._top_at
        return Peak(top, dict(kinds), at[1], at[2], at[3], at[4])


# Operations that FakeTensorMode hands to torch's meta kernels as they are. It takes 0.3 ms to find that out each time.
_VIEWS = {
    "view", "permute", "detach", "t", "transpose", "slice", "split", "expand", "unsqueeze", "squeeze", "select", "alias",
    "_unsafe_view",
}  # fmt: skip
_PLAIN = _VIEWS | {
    "mean",
    "sum",
    "gather",
    "logsumexp",
    "index_select",
    "linalg_vector_norm",
    "baddbmm",
    "_softmax_backward_data",
}
# Those whose result is as their operand when all are of one shape and dtype: made without asking a kernel.
_ALIKE = {
    "mul",
    "add",
    "sub",
    "neg",
    "div",
    "clone",
    "silu",
    "silu_backward",
    "_softmax",
    "empty_like",
    "zeros_like",
    "exp",
}
_IN_PLACE = {
    "mul_", "add_", "sub_", "div_", "addcmul_", "addmm_", "exp_", "rsqrt_", "pow_", "copy_", "fill_", "zero_", "square_", "neg_",
}  # fmt: skip


def quick(func: Any, args: Any, kwargs: Any) -> Any:
    """func(*args) on fake tensors: what FakeTensorMode would do, without its way there where the operation is plain."""
    name = func.overloadpacket.__name__
    if name == "lift_fresh" and type(args[0]) is torch.Tensor and (mode := detect_fake_mode()) is not None:
        return _given(args[0], mode)
    if not (name in _PLAIN or name in _ALIKE or name in _IN_PLACE or name in _PRODUCTS):
        return func(*args, **kwargs)
    tensors = [value for value in args if isinstance(value, torch.Tensor)]
    if not tensors or kwargs.keys() - {"alpha", "memory_format"} or any(type(t) is not FakeTensor for t in tensors):
        return func(*args, **kwargs)
    like = tensors[0]
    if name in _IN_PLACE:
        return like
    if name in _PRODUCTS:
        return _empty(like, _PRODUCTS[name](*tensors[-2:]))
    same = all(t.dtype == like.dtype and t.is_contiguous() and _spreads(t.shape, like.shape) for t in tensors)
    if name in _ALIKE and same and like.dtype.is_floating_point:
        return _empty(like, like.shape)
    if any(isinstance(value, tuple | list) and value and isinstance(value[0], torch.Tensor) for value in args):
        return func(*args, **kwargs)
    with in_kernel_invocation_manager(like.fake_mode):
        out = func(*args, **kwargs)
    if isinstance(out, tuple | list):
        return type(out)(_wrapped(each, like) for each in out)
    return _wrapped(out, like)


_PRODUCTS: dict[str, Callable[..., tuple[int, ...]]] = {
    "mm": lambda a, b: (a.shape[0], b.shape[1]),
    "addmm": lambda a, b: (a.shape[0], b.shape[1]),
    "bmm": lambda a, b: (a.shape[0], a.shape[1], b.shape[2]),
}


def _spreads(shape: torch.Size, to: torch.Size) -> bool:
    """Whether what is of one shape is read as if of the other, which is the result's."""
    return shape == to or (len(shape) <= len(to) and all(a in (1, b) for a, b in zip(reversed(shape), reversed(to))))


def _given(constant: torch.Tensor, mode: Any) -> Any:
    """A tensor of numbers that stand in the program, without them: the tracker says what is read out of tensors."""
    return _made(mode, constant.shape, constant.dtype, constant.device)


def _empty(like: FakeTensor, shape: Any) -> Any:
    return _made(like.fake_mode, shape, like.dtype, like.fake_device)


def _made(mode: Any, shape: Any, dtype: torch.dtype, device: torch.device) -> Any:
    with in_kernel_invocation_manager(mode):
        out = torch.empty(shape, dtype=dtype, device="meta")
    return FakeTensor(mode, out, device)


def _wrapped(out: Any, like: FakeTensor) -> Any:
    if not isinstance(out, torch.Tensor) or isinstance(out, FakeTensor):
        return out
    return FakeTensor(like.fake_mode, out, like.fake_device)


def kind_of(storage: Storage) -> str:
    """What a storage is for: as was said of it, else by where it was made and how long it lives."""
    if storage.kind is not None:
        return storage.kind
    if storage.place.startswith("model/loss.py"):
        return "loss"
    if storage.phase == "forward" and storage.until in ("backward", "update", None):
        return "activations"
    return "temporaries"


def most(log: Log, begin: int = 0) -> tuple[int, int]:
    """(most bytes alive, index of the event after which they were), from event `begin` on."""
    live = top = when = 0
    for index, (number, sign) in enumerate(log.events):
        now = live
        if sign:
            live += sign * log.storages[number].bytes
            now = live
        else:
            now = live + number
        if index >= begin and now > top:
            top, when = now, index
    return top, when


def highest(log: Log, bounds: Sequence[int], without: Collection[str] = ()) -> list[int]:
    """Most bytes alive in each span of events, from bounds[0] to bounds[1], from bounds[1] to bounds[2], ...; storages that were said
    to be of a kind in `without` are left out."""
    sizes = [0 if storage.kind in without else storage.bytes for storage in log.storages]
    tops = [0] * (len(bounds) - 1)
    live, span = 0, -1
    for index, (number, sign) in enumerate([*log.events[: bounds[-1]], (0, 0)]):
        while span + 1 < len(tops) and index >= bounds[span + 1]:
            span += 1
            tops[span] = live
        if sign:
            live += sign * sizes[number]
        if span >= 0:
            tops[span] = max(tops[span], live + (0 if sign else number))
    return tops


def alive_at(log: Log, when: int) -> set[int]:
    """Numbers of the storages alive after event `when`."""
    alive: set[int] = set()
    for number, sign in log.events[: when + 1]:
        if sign > 0:
            alive.add(number)
        elif sign < 0:
            alive.discard(number)
    return alive


_WRITES = {torch.ops.aten.addmm_: torch.ops.aten.addmm, torch.ops.aten.baddbmm_: torch.ops.aten.baddbmm}


def flops(func: Any, args: Any, kwargs: Any, out: Any) -> int:
    """Floating-point operations of one call, 0 for what is no matrix product."""
    packet = _WRITES.get(func.overloadpacket, func.overloadpacket)
    if packet in flop_registry:
        return int(flop_registry[packet](*args, **kwargs, out_val=out))
    rule = _ATTENTION.get(packet.__name__)
    return rule(args) if rule else 0


def _attention(args: Any) -> int:
    query, key = args[0], args[1]  # (batch, heads, time, dim)
    batch, heads, time, dim = query.shape
    return 4 * batch * heads * time * key.shape[2] * dim // (2 if len(args) > 4 and args[4] else 1)


def _attention_backward(args: Any) -> int:
    query, key = args[1], args[2]
    batch, heads, time, dim = query.shape
    return 10 * batch * heads * time * key.shape[2] * dim // (2 if len(args) > 7 and args[7] else 1)


_ATTENTION: dict[str, Callable[[Any], int]] = {
    "_scaled_dot_product_flash_attention_for_cpu": _attention,
    "_scaled_dot_product_flash_attention_for_cpu_backward": _attention_backward,
}


def _key(tensor: torch.Tensor) -> int:
    return tensor.untyped_storage()._cdata


def _flat(values: Any) -> Iterable[Any]:
    for value in values:
        if isinstance(value, tuple | list):
            yield from _flat(value)
        else:
            yield value


_PLACES: dict[Any, str | None] = {}


def _place(code: Any) -> str | None:
    """`model/lean.py _layer` for code of ours or of transformers' models; None for everything between."""
    if code not in _PLACES:
        path = code.co_filename.replace("\\", "/")
        found = None
        for root in ("/tunesmith/", "/transformers/"):
            if root in path and "/tunesmith/plan/" not in path:
                found = f"{path.rpartition(root)[2]} {code.co_name}"
        _PLACES[code] = found
    return _PLACES[code]


def _where(names: dict[int, str]) -> tuple[str, str]:
    """(the nearest function of ours or transformers' on the stack, the module whose code it runs)."""
    frame = sys._getframe(2)
    place = ""
    while frame is not None:
        found = _place(frame.f_code)
        if found:
            place = place or found
            if not names:
                return place, ""
            if frame.f_code.co_flags & CO_OPTIMIZED:  # a function, not a module's top level
                local = frame.f_locals
                name = next((names[id(local[w])] for w in ("layer", "self") if id(local.get(w)) in names), "")
                local.clear()  # a copy that the frame keeps: it would hold on to tensors
                if name:
                    return place, name
        frame = frame.f_back  # type: ignore[assignment]
    return place, ""
