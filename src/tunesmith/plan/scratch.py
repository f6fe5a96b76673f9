"""Bytes that torch's kernels take for themselves while they run: seen by an allocator, not by who calls the operation.

    scratch(torch.ops.aten.logsumexp.default, args, kwargs, out, "cpu")      # the exponentials, as large as the input

Each rule was held against the profiler's allocation events (tests/plan/test_simulate.py).
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch


def scratch(func: Any, args: Any, kwargs: Any, out: Any, device: str = "cpu") -> int:
    """Bytes taken and given back within one call."""
    rule = RULES.get(func.overloadpacket.__name__)
    if rule is not None:
        return rule(args, kwargs, out)
    if device != "cpu":
        return 0
    if func.overloadpacket.__name__ in ("mm", "addmm"):
        return reordered(*args[-2:])
    return promoted(args, out) if torch.Tag.pointwise in func.tags else 0


def size(tensor: torch.Tensor) -> int:
    """Bytes of a tensor's elements."""
    return tensor.numel() * tensor.element_size()


def reordered(left: torch.Tensor, right: torch.Tensor) -> int:
    """oneDNN's bf16 products lay a row-major second operand out anew, up to a few MB of it at a time, and add up in fp32.

    Measured with torch 2.13 on a CPU with AMX, and on one with AVX2 alone, where torch makes such products itself and takes nothing;
    CPUs between them take less, so it may say up to 3 MB too much there.
    """
    if left.dtype != torch.bfloat16 or right.stride(-1) != 1 or not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return 0
    shared = 2 * min(len(left), 256) * right.shape[1] * 4 + (16 << 10)  # sums that several threads make
    return min(size(right) + (shared if torch.get_num_threads() > 1 else 4 << 10), 3 << 20)


def promoted(args: Any, out: Any) -> int:
    """On a CPU, operands of a pointwise operation that are not of the common dtype are copied into it first, and a result
    of another dtype is made in it and copied (TensorIterator.cpp, compute_types)."""
    tensors = list(_tensors(args))
    if len({t.dtype for t in tensors}) < 2:
        return 0
    common = tensors[0].dtype
    for tensor in tensors[1:]:
        common = torch.promote_types(common, tensor.dtype) if tensor.ndim else common
    each = common.itemsize
    changed = (
        [args[0]] if args and out is args[0] else []
    )  # what is changed in place is copied twice: read, and to be written
    return sum(t.numel() * each for t in [*tensors, *changed] if t.ndim and t.dtype != common)


def _tensors(values: Any) -> Iterable[torch.Tensor]:
    for value in values:
        if isinstance(value, torch.Tensor):
            yield value
        elif isinstance(value, tuple | list):
            yield from _tensors(value)


RULES: dict[str, Callable[[Any, Any, Any], int]] = {
    "logsumexp": lambda args, kwargs, out: size(args[0]),  # (self - max).exp_()
}
