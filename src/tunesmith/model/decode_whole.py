"""The plainest decoder: no cache, every step reads the whole text again. Right for every causal LM, and slow.

It is what the faster decoders are proved against before they are used, and what is left when none of them agrees.
"""

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import nn


class Decoder(Protocol):
    """Rows of tokens that grow by one token a step. Rows are numbered 0..n-1 in the order they joined."""

    def join(self, prompts: Sequence[Sequence[int]], again: bool = False) -> torch.Tensor:
        """Add rows at the end; logits of the token after each prompt, (prompts, vocab). No prompt is empty.

        again  the last of these prompts comes once more with the next call: what was read of it may be kept
        """
        ...

    def step(self, tokens: torch.Tensor) -> torch.Tensor:
        """Append tokens (n,) to the rows; logits of the token after, (n, vocab)."""
        ...

    def keep(self, rows: Sequence[int]) -> None:
        """Drop all rows but these; row j is from now on what row rows[j] was."""
        ...


class WholeDecoder:
    """A Decoder over any module that maps input_ids (batch, time) to an object with .logits."""

    def __init__(self, net: nn.Module, prefix: Sequence[int] = ()) -> None:
        self.net, self.prefix = net, list(prefix)
        self.rows: list[list[int]] = []
        self.device = next(net.parameters()).device

    def join(self, prompts: Sequence[Sequence[int]], again: bool = False) -> torch.Tensor:
        """See Decoder.join."""
        new = [[*self.prefix, *prompt] for prompt in prompts]
        self.rows += new
        return self._last(new)

    def step(self, tokens: torch.Tensor) -> torch.Tensor:
        """See Decoder.step."""
        for row, token in zip(self.rows, tokens.tolist(), strict=True):
            row.append(token)
        return self._last(self.rows)

    def keep(self, rows: Sequence[int]) -> None:
        """See Decoder.keep."""
        self.rows = [self.rows[row] for row in rows]

    def _last(self, rows: list[list[int]]) -> torch.Tensor:
        logits: dict[int, torch.Tensor] = {}
        for length in {len(row) for row in rows}:
            alike = [number for number, row in enumerate(rows) if len(row) == length]
            ids = torch.tensor([rows[number] for number in alike], device=self.device)
            logits.update(zip(alike, self.net(input_ids=ids, use_cache=False).logits[:, -1]))
        return torch.stack([logits[number] for number in range(len(rows))])
