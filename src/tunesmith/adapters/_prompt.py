"""An embedding that also knows the places of a soft prompt: ids above its rows are read from trained vectors."""

import torch
import torch.nn.functional as F
from torch import nn

from tunesmith.adapters._stand_in import trained


class PromptEmbedding(nn.Module):
    """Stands in for an embedding: ids (...) -> (..., dim). `virtual` are the ids that have to stand before every text.

    words   the embedding of the words, as it was (or with rows that train, see _rows.py)
    prompt  (n, dim), as the network's first layer reads them: an embedding's own scale (Gemma's) is not applied
    """

    def __init__(self, words: nn.Module, start: torch.Tensor) -> None:
        super().__init__()
        self.words = words
        self.prompt = trained(start)
        self.enabled = True

    @property
    def weight(self) -> torch.Tensor:
        """The table of the words."""
        return self.words.weight  # type: ignore[return-value]

    @property
    def virtual(self) -> tuple[int, ...]:
        """Ids of the trained vectors; none when switched off."""
        first = len(self.weight)
        return tuple(range(first, first + len(self.prompt))) if self.enabled else ()

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        place = ids - len(self.weight)
        words = self.words(ids.clamp_max(len(self.weight) - 1))
        soft = F.embedding(place.clamp_min(0), self.prompt.to(words.dtype))
        return torch.where((place >= 0)[..., None], soft, words)
