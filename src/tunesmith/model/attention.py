"""The one attention function we register with transformers: causal attention that keeps packed documents apart.

    config._attn_implementation = "tunesmith"
    body(input_ids=ids, position_ids=positions, attention_mask=NO_MASK, segments=(0, 12, 40))

The bounds of the documents are an argument of the call, never a global: gradient checkpointing calls the layer a second
time, and a global would by then hold the bounds of another batch. Without `segments` it is ordinary masked attention,
as padded batches and cached decoding want it.
"""

from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from tunesmith.model import varlen
from tunesmith.model.segments import Segments, attend

NAME = "tunesmith"

# transformers passes a four-dimensional mask through untouched: this one says "no mask is to be made, segments rule".
NO_MASK = torch.zeros(1, 1, 1, 1, dtype=torch.bool)

# Keyword arguments that other models' layers pass along and that change nothing for us.
_HARMLESS = {
    "position_ids", "use_cache", "past_key_values", "position_embeddings", "output_attentions", "cache_position",
    "output_hidden_states", "return_dict", "is_causal", "token_type_ids", "output_router_logits", "layer_idx", "layer_type",
}  # fmt: skip


def segment_attention(
    module: torch.nn.Module,
    query: torch.Tensor,  # (batch, heads, time, head_dim)
    key: torch.Tensor,  # (batch, kv_heads, time, head_dim)
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    segments: tuple[int, ...] | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    **others: Any,
) -> tuple[torch.Tensor, None]:
    """Attention within each segment, (batch, time, heads, head_dim). Refuses arguments it does not implement."""
    unknown = [name for name, given in others.items() if given is not None and name not in _HARMLESS]
    if unknown:
        raise NotImplementedError(
            f"attention argument {', '.join(unknown)} of {type(module).__name__} is not implemented"
        )
    if segments is None:
        if softcap is None:
            return sdpa_attention_forward(module, query, key, value, attention_mask, dropout, scaling, **others)
        return _softcapped(query, key, value, attention_mask, scaling, softcap, dropout), None
    bounds = segments if isinstance(segments, Segments) else Segments(segments)
    held = segments[-1] if bounds.source is None else len(bounds.source)
    if query.shape[0] != 1 or query.shape[2] != held:
        raise ValueError(f"packed attention wants one row of {held} tokens, got {tuple(query.shape)}")
    if (windows := getattr(segments, "windows", None)) is not None:
        windows.append(sliding_window)  # model/prove.py looks on: is every window given to us?
    banded = sliding_window is not None and bounds.longest > sliding_window
    if query.device.type == "cpu" and softcap is None and not banded and not dropout:
        scale = scaling if scaling is not None else query.shape[-1] ** -0.5
        return attend(*(x[0].transpose(0, 1) for x in (query, key, value)), bounds, scale)[None], None
    if bounds.place is not None:
        query, key, value = (x.index_select(2, bounds.place) for x in (query, key, value))
    window = sliding_window if banded else None
    flat = [x[0].transpose(0, 1) for x in (query, key, value)]
    if softcap is None and not dropout and varlen.attends(*flat, window):
        mixed = varlen.attend(*flat, bounds, scaling, window)[None]
        return (mixed if bounds.source is None else mixed.index_select(1, bounds.source)), None
    sizes = [end - start for start, end in pairwise(segments)]
    # split, not slices: the backward pass of a slice fills a whole row with zeros for each document
    parts = zip(*(x.split(sizes, dim=2) for x in (query, key, value)))
    outputs = [_one(q, k, v, scaling, softcap, sliding_window, dropout) for q, k, v in parts]
    mixed = torch.cat(outputs, dim=1)
    return (mixed if bounds.source is None else mixed.index_select(1, bounds.source)), None


def _one(q, k, v, scaling, softcap, window, dropout) -> torch.Tensor:
    """Causal attention of one document, (1, heads, time, dim) -> (1, time, heads, dim)."""
    time, grouped = q.shape[2], q.shape[1] != k.shape[1]
    banded = window is not None and time > window
    if softcap is not None:
        return _softcapped(q, k, v, _causal(time, window if banded else None, q.device), scaling, softcap, dropout)
    mask = _causal(time, window, q.device) if banded else None
    out = F.scaled_dot_product_attention(q, k, v, mask, dropout, mask is None, scale=scaling, enable_gqa=grouped)
    return out.transpose(1, 2)


def _causal(time: int, window: int | None, device: torch.device) -> torch.Tensor:
    """(time, time) mask, True where query i may see key j: j <= i, and i - j < window."""
    distance = torch.arange(time, device=device)[:, None] - torch.arange(time, device=device)[None, :]
    return (distance >= 0) if window is None else (distance >= 0) & (distance < window)


def _softcapped(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor | None,
    scaling: float | None,
    softcap: float,
    dropout: float,
) -> torch.Tensor:
    """Attention whose scores are squashed into +-softcap (Gemma-2, arXiv 2408.00118 eq. 1); (batch, time, heads, dim)."""
    groups = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(groups, dim=1), value.repeat_interleave(groups, dim=1)
    scores = query @ key.transpose(2, 3) * (scaling if scaling is not None else query.shape[-1] ** -0.5)
    scores = softcap * torch.tanh(scores / softcap)
    if mask is None:
        mask = _causal(key.shape[2], None, key.device)[-query.shape[2] :]
    scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min) if mask.dtype == torch.bool else scores + mask
    weights = F.dropout(torch.softmax(scores.float(), dim=-1).to(query.dtype), dropout)
    return (weights @ value).transpose(1, 2)


AttentionInterface.register(NAME, segment_attention)
AttentionMaskInterface.register(NAME, sdpa_mask)
