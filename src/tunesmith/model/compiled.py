"""Kernels of our own in C, built once on this machine with the C compiler that is there; without one everything runs in torch.

    if attends(query):                                       # False: no compiler, TUNESMITH_KERNELS=off, ... (the reason: why_not())
        Attend.apply(query, key, value, bounds, scale)

Source lies beside this file (kernels/*.c). The library goes to the user's cache, named by a hash of source, compiler and
processor, so another machine that shares a home builds its own. It is written whole and renamed: two processes may build at once.
It uses the OpenMP threads that torch has already.
"""

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.flop_counter import register_flop_formula

SOURCES = Path(__file__).parent / "kernels"
FLAGS = ("-O3", "-march=native", "-std=gnu11", "-fPIC", "-fopenmp", "-fno-math-errno")
_LIBRARY = torch.library.Library("tunesmith", "FRAGMENT")
_reasons: dict[str, str] = {}


def attends(query: torch.Tensor) -> bool:
    """Whether the kernel computes attention of such queries, (tokens, heads, dim)."""
    return query.shape[-1] % 16 == 0 and reads("attention", query)


def reads(library: str, *tensors: torch.Tensor) -> bool:
    """Whether a kernel is there and its tensors are what the kernels know: all fp32 or all bf16, on the CPU."""
    dtype = tensors[0].dtype
    known = dtype in (torch.float32, torch.bfloat16)
    return (
        known
        and all(x.dtype == dtype and x.device.type == "cpu" for x in tensors)
        and shared_library(library) is not None
    )


def operation(function: Callable[..., Any]) -> Any:
    """`function`, which kernels compute on a CPU and which changes none of its tensors, as the operation tunesmith::NAME of torch's: plans on
    tensors without numbers know it (`torch.library.register_fake`), and what watches operations sees it. torch.library.custom_op does the
    same with twenty microseconds more around a call, which thousands of calls a second notice."""
    name = function.__name__
    _LIBRARY.define(name + torch.library.infer_schema(function, mutates_args=()))
    _LIBRARY.impl(name, function, "CPU")
    return getattr(torch.ops.tunesmith, name).default


@operation
def attention(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, bounds: list[int], scale: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """(out (tokens, heads, dim), log-sum-exp of each query's scores, float32 (heads, tokens)). An operation of torch's, so
    that plans on tensors without numbers know its sizes and its work."""
    out, lse = _sizes(query, key, value, bounds, scale)
    _run(0, bounds, scale, query, key, value, out, lse)
    return out, lse


@torch.library.register_fake("tunesmith::attention")
def _sizes(query, key, value, bounds, scale):
    lse = query.new_empty((query.shape[1], query.shape[0]), dtype=torch.float32)
    return torch.empty_like(query, memory_format=torch.contiguous_format), lse


@operation
def attention_backward(
    grad: torch.Tensor, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, out: torch.Tensor, lse: torch.Tensor,
    bounds: list[int], scale: float,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:  # fmt: skip
    """Gradients of query, key and value."""
    made = _gradients(grad, query, key, value, out, lse, bounds, scale)
    _run(1, bounds, scale, query, key, value, out, lse, grad, *made)
    return made


@torch.library.register_fake("tunesmith::attention_backward")
def _gradients(grad, query, key, value, out, lse, bounds, scale):
    made = [torch.empty_like(x, memory_format=torch.contiguous_format) for x in (query, key, value)]
    return made[0], made[1], made[2]


def _work(products: int, heads: int, dim: int, bounds: Sequence[int]) -> int:
    """Multiplications and additions of so many products over the scores that a query may see."""
    seen = sum((end - start) * (end - start + 1) // 2 for start, end in pairwise(bounds))
    return 2 * products * seen * heads * dim


@register_flop_formula(torch.ops.tunesmith.attention)
def _forward_work(query, key, value, bounds, scale, *rest, out_shape=None, **more):
    return _work(2, query[1], query[2], bounds)


@register_flop_formula(torch.ops.tunesmith.attention_backward)
def _backward_work(grad, query, key, value, out, lse, bounds, scale, *rest, out_shape=None, **more):
    return _work(5, query[1], query[2], bounds)


class Attend(torch.autograd.Function):
    """Causal attention within documents, (tokens, heads, dim); keeps its inputs, its output and one number a query and head."""

    @staticmethod
    def forward(ctx: Any, query, key, value, bounds, scale):
        query, key, value = query.contiguous(), key.contiguous(), value.contiguous()
        out, lse = attention(query, key, value, bounds, scale)
        ctx.save_for_backward(query, key, value, out, lse)
        ctx.bounds, ctx.scale = bounds, scale
        return out

    @staticmethod
    def backward(ctx: Any, grad):
        return *attention_backward(grad.contiguous(), *ctx.saved_tensors, ctx.bounds, ctx.scale), None, None


def _run(backward: int, bounds: Sequence[int], scale: float, *tensors: torch.Tensor) -> None:
    query, key = tensors[:2]
    ends = np.ascontiguousarray(bounds, dtype=np.int64)
    missing = [None] * (9 - len(tensors))
    sizes = (len(ends) - 1, query.shape[0], query.shape[1], key.shape[1], query.shape[2])
    facts = (ctypes.c_void_p(ends.ctypes.data), *sizes, ctypes.c_float(scale))
    if call("attention", "attention", backward, *tensors, *missing, *facts):
        raise MemoryError("attention could not have its working memory")


def call(library: str, function: str, *given: Any, kinds: bool = True) -> int:
    """A function of a kernel: tensors as pointers (None: a null one), numbers as they are, and at last whether the first tensor
    is bf16, if the kernel knows both `kinds` of elements."""
    kernel = shared_library(library)
    assert kernel is not None
    first = next(x for x in given if isinstance(x, torch.Tensor))
    passed = [ctypes.c_void_p(x.data_ptr()) if isinstance(x, torch.Tensor) else x for x in given]
    return int(getattr(kernel, function)(*passed, *([int(first.dtype == torch.bfloat16)] if kinds else [])))


def places(tensors: Sequence[torch.Tensor]) -> ctypes.Array:
    """Where several tensors lie, as a kernel takes them."""
    return (ctypes.c_void_p * len(tensors))(*(each.data_ptr() for each in tensors))


def why_not(name: str = "attention") -> str:
    """Why a kernel is not used; "" when it is."""
    shared_library(name)
    return _reasons.get(name, "")


@lru_cache(maxsize=8)
def shared_library(name: str) -> ctypes.CDLL | None:
    """kernels/NAME.c as a loaded library, built when it is not in the cache; None where that cannot be."""
    if os.environ.get("TUNESMITH_KERNELS", "").lower() in ("off", "0", "no"):
        _reasons[name] = "TUNESMITH_KERNELS=off"
        return None
    compiler = shutil.which(os.environ.get("CC", "cc")) or shutil.which("gcc") or shutil.which("clang")
    if compiler is None or platform.system() != "Linux":
        _reasons[name] = "there is no C compiler (cc, gcc, clang)" if compiler is None else "only Linux is supported"
        return None
    try:
        return ctypes.CDLL(str(_built(name, compiler)))
    except (OSError, subprocess.SubprocessError) as error:
        said = getattr(error, "stderr", None) or str(error)
        _reasons[name] = f"{compiler} could not build it: {str(said).strip()[-300:]}"
        return None


def _built(name: str, compiler: str) -> Path:
    source = SOURCES / f"{name}.c"
    version = subprocess.run([compiler, "--version"], capture_output=True, text=True, check=True, timeout=30).stdout
    texts = [file.read_text(encoding="utf-8") for file in (source, *sorted(SOURCES.glob("*.h")))]
    key = "\0".join([*texts, version, *FLAGS, _processor()])
    place = _cache() / f"{name}-{hashlib.blake2b(key.encode(), digest_size=12).hexdigest()}.so"
    if not place.exists():
        place.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.TemporaryDirectory(dir=place.parent) as folder:
            parts = [Path(folder) / f"{name}{end}" for end in (".o", ".so")]
            object_, shared = map(str, parts)
            run = partial(subprocess.run, capture_output=True, text=True, check=True, timeout=120)
            run([compiler, *FLAGS, "-c", str(source), "-o", object_])
            # not linked with OpenMP: torch has loaded its own, and a second set of threads would fight with it
            run([compiler, "-shared", object_, "-o", shared, "-lm"])
            parts[1].replace(place)
    return place


def _cache() -> Path:
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "tunesmith" / "kernels"


def _processor() -> str:
    """What -march=native depends on."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.machine()
    wanted = ("vendor_id", "model", "flags", "Features", "CPU part")
    return "\n".join(dict.fromkeys(line for line in lines if line.split(":")[0].strip() in wanted))
