"""Packed attention on a GPU: all documents of a row in one call of torch's varlen flash attention, instead of a call each.

    if varlen.attends(query, key, window):
        mixed = varlen.attend(query, key, value, segments, scale, window)     # (tokens, heads, head_dim)

torch.nn.attention.varlen (2.10 and newer) computes in 16 bits on cards from compute capability 8.0 on; other formats, cards and
versions go document by document (attention.py). What a card gives is compared with that way once for each shape of
heads, output and gradients; where it differs, or the call is refused, the other way is taken, with a warning. Dao 2023, arXiv 2307.08691.
"""

import inspect
import warnings
from functools import lru_cache
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch.autograd.graph import saved_tensors_hooks
from torch.utils._python_dispatch import _disable_current_modes

from tunesmith.model.segments import Segments

PROOF = (0, 5, 6, 70, 103)  # bounds of the documents that are computed both ways
TOLERANCE = 0.03  # of 16-bit results of two orders of summing, beside the largest number


def attends(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, window: int | None) -> bool:
    """Whether packed (tokens, heads, head_dim) queries and (tokens, kv_heads, head_dim) keys and values are computed here."""
    if query.device.type != "cuda" or query.dtype not in (torch.bfloat16, torch.float16) or query.dtype != key.dtype:
        return False
    if value.shape[-1] != query.shape[-1]:  # DeepSeek's values are narrower than its keys
        return False
    dim = query.shape[-1]
    if dim > 256 or dim % 8 or _call() is None or torch.cuda.get_device_capability(query.device) < (8, 0):
        return False
    return _proved(query.device, query.dtype, query.shape[1], key.shape[1], dim, window is not None)


def attend(
    query: torch.Tensor,  # (tokens, heads, head_dim)
    key: torch.Tensor,  # (tokens, kv_heads, head_dim)
    value: torch.Tensor,
    segments: Segments,
    scale: float | None,
    window: int | None = None,
) -> torch.Tensor:
    """Causal attention within each document, (tokens, heads, head_dim); query i sees key j where i - j < window."""
    call = _call()
    assert call is not None
    more: dict[str, Any] = {}
    if query.shape[1] != key.shape[1]:
        if "enable_gqa" in _parameters(call):
            more["enable_gqa"] = True
        else:
            key, value = (x.repeat_interleave(query.shape[1] // x.shape[1], dim=1) for x in (key, value))
    ends, longest = segments.cumulative(query.device), segments.longest
    seen = (-1 if window is None else window - 1, 0)  # tokens to the left and to the right beside a query's own
    return call(
        query.contiguous(), key.contiguous(), value.contiguous(), ends, ends, longest, longest, scale=scale, window_size=seen, **more
    )  # fmt: skip


@lru_cache(maxsize=1)
def _call() -> Any:
    """torch's function, None where there is none or an older one without a window."""
    try:
        from torch.nn.attention.varlen import varlen_attn
    except ImportError:
        return None
    return varlen_attn if _parameters(varlen_attn) >= {"scale", "window_size"} else None


@lru_cache(maxsize=8)
def _parameters(call: Any) -> frozenset[str]:
    """The names it takes: asked by every layer of every pass, looked up once."""
    return frozenset(inspect.signature(call).parameters)


@lru_cache(maxsize=64)
def _proved(device: torch.device, dtype: torch.dtype, heads: int, groups: int, dim: int, banded: bool) -> bool:
    """Whether output and gradients are those of the documents one by one in fp32, within what 16 bits lose."""
    draw = torch.Generator().manual_seed(0)
    made = [torch.randn(PROOF[-1], number, dim, generator=draw) for number in (heads, groups, groups, heads)]
    *parts, pull = (x.to(device, dtype) for x in made)
    window = 16 if banded else None
    try:
        found = _with_gradients(lambda q, k, v: attend(q, k, v, Segments(PROOF), None, window), parts, pull)
    except (RuntimeError, ValueError, NotImplementedError) as error:
        warnings.warn(f"varlen attention is not used: {str(error).splitlines()[0]}", stacklevel=2)
        return False
    wanted = _with_gradients(
        lambda q, k, v: one_by_one(q, k, v, PROOF, window), [x.float() for x in parts], pull.float()
    )
    off = max(float((a.float() - b).abs().max() / b.abs().max()) for a, b in zip(found, wanted))
    if off > TOLERANCE:
        warnings.warn(f"varlen attention is not used: on this card it is {off:.2g} off", stacklevel=2)
    return off <= TOLERANCE


def one_by_one(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, bounds: tuple[int, ...], window: int | None
) -> torch.Tensor:
    """The same by masked attention of each document alone, in shapes as above."""
    outputs = []
    for start, end in pairwise(bounds):
        q, k, v = (x[start:end].transpose(0, 1)[None] for x in (query, key, value))
        distance = torch.arange(end - start, device=query.device)
        distance = distance[:, None] - distance[None, :]
        mask = (distance >= 0) & (distance < (window or end - start))
        mixed = F.scaled_dot_product_attention(q, k, v, mask, enable_gqa=q.shape[1] != k.shape[1])
        outputs.append(mixed[0].transpose(0, 1))
    return torch.cat(outputs)


def _with_gradients(compute: Any, parts: list[torch.Tensor], pull: torch.Tensor) -> list[torch.Tensor]:
    """Output, and the gradients of queries, keys and values under `pull`. Checkpointing around it sees nothing of this pass: it would
    miss it when the layer is computed again."""
    leaves = [x.detach().requires_grad_() for x in parts]
    with _disable_current_modes(), saved_tensors_hooks(torch.Tensor.detach, lambda x: x), torch.enable_grad():
        out = compute(*leaves)
        return [out.detach(), *torch.autograd.grad(out, leaves, pull)]
