"""A decoder for every transformers causal LM, through the model's own forward and its own cache.

    decoder = GeneralDecoder(net, prefix=[5, 6], merge=True)
    logits = decoder.join([[7, 8], [9]])      # two rows, prompts 5 6 7 8 and 5 6 9
    logits = decoder.step(tokens)             # one more token each

Prompts of equal length are read together, so no padding is ever computed on the way in. With `merge` all rows then live in
one batch: shorter ones get masked columns on the left. Without it each group of equal length keeps its own batch, which is
what models with a recurrent state need.
"""

import copy
import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn


@dataclass
class _Group:
    """Rows that share one cache. Columns left of a row's `start` are masked."""

    cache: Any
    rows: list[int]  # the decoder's row number of each row of the cache
    starts: list[int]
    width: int  # columns in the cache


@dataclass(frozen=True)
class _Known:
    """A prompt that was read and comes again: a cache of one row, and the logits after it."""

    prompt: tuple[int, ...]
    cache: Any
    logits: torch.Tensor


class GeneralDecoder:
    """A Decoder (see decode_whole) over `net(input_ids, attention_mask, position_ids, past_key_values)`."""

    def __init__(self, net: nn.Module, prefix: Sequence[int] = (), *, merge: bool) -> None:
        """`prefix` stands before every prompt and is read once. `merge` needs a cache of plain keys and values only."""
        self.net, self.merge = net, merge
        self.device = next(net.parameters()).device
        known = inspect.signature(net.forward).parameters
        self.cache_name = "cache_params" if "cache_params" in known else "past_key_values"
        self.takes_positions = "position_ids" in known
        self.takes_mask = "attention_mask" in known
        self.last_only: dict[str, Any] = {"logits_to_keep": 1} if "logits_to_keep" in known else {}
        self.groups: list[_Group] = []
        self.known: _Known | None = None
        self.num_rows = 0
        self.prefix = list(prefix)
        self.prefix_cache = None
        # A recurrent model may ignore its state when it reads several tokens at once: there the prefix is read each time.
        if self.prefix and merge:
            self.prefix_cache = self._new_cache()
            self._forward(torch.tensor([self.prefix], device=self.device), self.prefix_cache, [0], 0)

    def join(self, prompts: Sequence[Sequence[int]], again: bool = False) -> torch.Tensor:
        """See Decoder.join. Prompts that are equal are read once."""
        given = [tuple(prompt) for prompt in prompts]
        unique = list(dict.fromkeys(given))
        logits: dict[tuple[int, ...], torch.Tensor] = {}
        known = self.known if self.known is not None and self.known.prompt in unique else None
        self.known = None
        if known is not None:
            unique.remove(known.prompt)
            logits[known.prompt] = known.logits
            self._add([known.prompt], given, copy.deepcopy(known.cache))
            self.known = known if again and known.prompt == given[-1] else None
        for length in sorted({len(prompt) for prompt in unique}):
            alike = [prompt for prompt in unique if len(prompt) == length]
            if self.prefix_cache is not None:
                cache, before, ids = copy.deepcopy(self.prefix_cache), len(self.prefix), [list(p) for p in alike]
                cache.reorder_cache(torch.zeros(len(alike), dtype=torch.long, device=self.device))
            else:
                cache, before, ids = self._new_cache(), 0, [[*self.prefix, *prompt] for prompt in alike]
            tokens = torch.tensor(ids, dtype=torch.long, device=self.device)
            logits.update(zip(alike, self._forward(tokens, cache, [0] * len(alike), before)))
            if again and given[-1] in alike:
                one = copy.deepcopy(cache)
                one.reorder_cache(torch.tensor([alike.index(given[-1])], device=self.device))
                self.known = _Known(given[-1], one, logits[given[-1]])
            self._add(alike, given, cache)
        self.num_rows += len(given)
        if self.merge and len(self.groups) > 1:
            self.groups = [_merged(self.groups)]
        return torch.stack([logits[prompt] for prompt in given])

    def _add(self, read: list[tuple[int, ...]], given: list[tuple[int, ...]], cache: Any) -> None:
        """A group of all rows whose prompt is one of `read`, prompts of one length that the cache holds in this order."""
        rows = [number for number, prompt in enumerate(given) if prompt in read]
        source = [read.index(given[number]) for number in rows]
        if source != list(range(len(read))):
            cache.reorder_cache(torch.tensor(source, device=self.device))
        width = len(self.prefix) + len(read[0])
        self.groups.append(_Group(cache, [self.num_rows + number for number in rows], [0] * len(rows), width))

    def step(self, tokens: torch.Tensor) -> torch.Tensor:
        """See Decoder.step."""
        logits = None
        for group in self.groups:
            index = torch.tensor(group.rows, device=self.device)
            out = self._forward(tokens[index][:, None], group.cache, group.starts, group.width)
            group.width += 1
            if logits is None:
                logits = out.new_empty(self.num_rows, out.shape[-1])
            logits[index] = out
        assert logits is not None
        return logits

    def keep(self, rows: Sequence[int]) -> None:
        """See Decoder.keep."""
        new_number = {row: number for number, row in enumerate(rows)}
        for group in self.groups:
            stay = [i for i, row in enumerate(group.rows) if row in new_number]
            if stay and len(stay) < len(group.rows):
                group.cache.reorder_cache(torch.tensor(stay, device=self.device))
            group.rows = [new_number[group.rows[i]] for i in stay]
            group.starts = [group.starts[i] for i in stay]
            if self.merge and stay and min(group.starts) > group.width // 4:
                _trim(group, min(group.starts))
        self.groups = [group for group in self.groups if group.rows]
        self.num_rows = len(rows)

    def _new_cache(self) -> Any:
        from transformers import DynamicCache

        # Plain layers keep every key also where the model looks back a window only: its mask cuts, and rows can be merged.
        return DynamicCache() if self.merge else DynamicCache(config=self.net.config)

    def _forward(self, ids: torch.Tensor, cache: Any, starts: list[int], before: int) -> torch.Tensor:
        """Read ids (rows, time) after `before` columns; logits of the last one, (rows, vocab). Grows the cache."""
        arguments: dict[str, Any] = {"input_ids": ids, "use_cache": True, self.cache_name: cache, **self.last_only}
        columns = torch.arange(before + ids.shape[1], device=self.device)
        first = torch.tensor(starts, device=self.device)[:, None]
        if self.takes_mask and any(starts):
            arguments["attention_mask"] = (columns >= first).long()
        if self.takes_positions:
            arguments["position_ids"] = columns[before:] - first
        return self.net(**arguments).logits[:, -1]


def can_merge(net: nn.Module) -> bool:
    """True when all the model remembers is keys and values of full or sliding-window attention."""
    from transformers import DynamicCache
    from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

    if "past_key_values" not in inspect.signature(net.forward).parameters:
        return False
    return all(
        type(layer) in (DynamicLayer, DynamicSlidingWindowLayer) for layer in DynamicCache(config=net.config).layers
    )


def _merged(groups: list[_Group]) -> _Group:
    """One group of all rows, as wide as the widest; the others get columns on the left."""
    from transformers import DynamicCache

    width = max(group.width for group in groups)

    def widened(tensor: torch.Tensor, group: _Group) -> torch.Tensor:  # (rows, heads, columns, head_dim)
        return F.pad(tensor, (0, 0, width - group.width, 0))

    data = [
        tuple(
            torch.cat([widened(getattr(layer, name), g) for layer, g in zip(layers, groups)])
            for name in ("keys", "values")
        )
        for layers in zip(*(group.cache.layers for group in groups))
    ]
    rows = [row for group in groups for row in group.rows]
    starts = [start + width - group.width for group in groups for start in group.starts]
    return _Group(DynamicCache(data), rows, starts, width)


def _trim(group: _Group, columns: int) -> None:
    """Forget `columns` columns on the left, which no row uses any more."""
    for layer in group.cache.layers:
        layer.keys, layer.values = layer.keys[:, :, columns:].contiguous(), layer.values[:, :, columns:].contiguous()
    group.starts = [start - columns for start in group.starts]
    group.width -= columns
