"""Trained keys and values that every text finds in front of it, in every layer.

The module hangs on the network's body. A hook that runs before the body puts the keys and values into the key-value cache,
makes the mask longer and moves the positions; without the module it does nothing. Only padded rows can have it.
"""

from typing import Any

import torch
from torch import nn

from tunesmith.adapters._stand_in import trained
from tunesmith.core.errors import SettingError


class Prefix(nn.Module):
    """prompt (places, layers * 2 * kv_heads * head_dim): keys and values of each layer in turn, as PEFT lays them out."""

    def __init__(self, start: torch.Tensor, layers: int, heads: int) -> None:
        super().__init__()
        self.prompt = trained(start)
        self.layers, self.heads = layers, heads
        self.enabled = True

    @property
    def places(self) -> int:
        """Positions it takes."""
        return len(self.prompt) if self.enabled else 0

    def fill(self, cache: Any, rows: int, dtype: torch.dtype) -> None:
        """Put keys and values (rows, kv_heads, places, head_dim) into an empty cache."""
        parts = self.prompt.to(dtype).view(len(self.prompt), self.layers * 2, self.heads, -1).permute(1, 2, 0, 3)
        for layer in range(self.layers):
            key, value = (parts[2 * layer + i].expand(rows, -1, -1, -1) for i in range(2))
            cache.update(key, value, layer)


def flat(keys_values: Any) -> torch.Tensor:
    """[(keys, values)] a layer, each (1, kv_heads, places, head_dim) -> (places, layers * 2 * kv_heads * head_dim)."""
    parts = torch.stack([part[0] for pair in keys_values for part in pair])  # (layers * 2, kv_heads, places, head_dim)
    return parts.permute(2, 0, 1, 3).reshape(parts.shape[2], -1)


def hang(body: nn.Module, prefix: Prefix) -> None:
    """Give `body` a prefix, and the hook that reads it unless it has it already."""
    body.add_module("prefix", prefix)
    if put_in_front not in body._forward_pre_hooks.values():
        body.register_forward_pre_hook(put_in_front, with_kwargs=True)


def put_in_front(body: Any, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]] | None:
    """The hook. It finds the prefix on the module that is called, so that a copy of the network uses its own."""
    prefix = body._modules.get("prefix")
    if prefix is None or not prefix.places:
        return None
    if kwargs.get("segments") is not None:
        raise ValueError("a trained prefix wants padded rows: Policy(layout='padded')")
    if body.training and getattr(body, "gradient_checkpointing", False):
        raise SettingError(
            "train.checkpointing and adapter: prefix do not go together: transformers forgets the key-value cache there",
            fix="train.checkpointing=false, or adapter: prompt.",
        )
    given = args[0] if args else kwargs["input_ids"] if kwargs.get("input_ids") is not None else kwargs["inputs_embeds"]
    rows, places = given.shape[0], prefix.places
    cache = kwargs.get("past_key_values")
    if cache is None:
        from transformers import DynamicCache

        cache = DynamicCache(config=body.config)
    if not cache.get_seq_length():
        prefix.fill(cache, rows, next(p for n, p in body.named_parameters() if n != "prefix.prompt").dtype)
    mask, positions = kwargs.get("attention_mask"), kwargs.get("position_ids")
    return args, {
        **kwargs,
        "past_key_values": cache,
        "attention_mask": None if mask is None else _wider(mask, places),
        "position_ids": None if positions is None else positions + places,
    }


def _wider(mask: torch.Tensor, places: int) -> torch.Tensor:
    """The mask (rows, columns) with the prefix's columns visible, after the padding on the left where a row has some."""
    rows, width = mask.shape
    empty = (mask.cumsum(1) == 0).sum(1, keepdim=True)  # columns left of a row's first token
    column = torch.arange(width + places, device=mask.device).expand(rows, -1)
    own = mask.gather(1, (column - places).clamp_min(0))
    visible = torch.where(column < empty + places, torch.ones_like(own), own)
    return torch.where(column < empty, torch.zeros_like(own), visible)
