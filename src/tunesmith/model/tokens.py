"""New tokens for a model: into its tokenizer, and a row for each in its embedding and its head.

    ids = add_tokens(model, ["<tool_search>", "주문번호"])   # [8000, 8001]

A new row starts as the mean of the rows of the pieces its token was written with until now, so the model reads and writes
it about as it did before. Rows that a padded table has to spare are used first; only then the table grows.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import nn

from tunesmith.core.errors import SettingError
from tunesmith.text.tokenizer import Tokenizer

if TYPE_CHECKING:
    from tunesmith.model.load import Model


@torch.no_grad()
def add_tokens(model: "Model", tokens: Sequence[str]) -> list[int]:
    """The ids of `tokens`, in their order. Those the tokenizer knows already keep their id and their row.

    They are no control tokens: a user who types one gets it. Raises SettingError for an empty or repeated one.
    """
    if empty := [token for token in tokens if not token.strip()]:
        raise SettingError(f"add_tokens holds {empty[0]!r}.", wanted="Tokens with something to see in them.")
    if twice := [token for number, token in enumerate(tokens) if token in tokens[:number]]:
        raise SettingError(f"add_tokens holds {twice[0]!r} twice.")
    tokenizer = model.tokenizer
    new = [token for token in tokens if tokenizer.id_of(token) is None]
    pieces = {token: tokenizer.encode(token) for token in new}
    if new:
        tokenizer.add_tokens(new, special=False)
    ids = {token: id for token in tokens if (id := tokenizer.id_of(token)) is not None}
    _start(model.net, {ids[token]: pieces[token] for token in new})
    return list(ids.values())


@torch.no_grad()
def take_tokenizer(model: "Model", tokenizer: Tokenizer) -> None:
    """Change to a tokenizer that has more added tokens than the model's own, as one saved beside an adapter."""
    added = tokenizer.backend.get_added_tokens_decoder().items()
    new = {
        id: model.tokenizer.encode(token.content) for id, token in added if model.tokenizer.id_of(token.content) is None
    }
    if new:
        _start(model.net, new)
        model.tokenizer = tokenizer


def _start(net: nn.Module, new: Mapping[int, Sequence[int]]) -> None:
    """Give each id of `new` a row: the mean of the rows of its pieces."""
    grow(net, max(new, default=-1) + 1)
    for table in tables(net):
        for id, pieces in new.items():
            table[id] = table[list(pieces)].to(torch.float64).mean(0).to(table.dtype)


def grow(net: nn.Module, rows: int) -> None:
    """Make embedding and head at least `rows` long, tied ones together; rows that are there keep their bytes."""
    if net.get_input_embeddings().weight.shape[0] >= rows:
        return
    with torch.random.fork_rng(devices=[]):  # transformers draws the new rows; those of our tokens are overwritten
        torch.manual_seed(0)
        net.resize_token_embeddings(rows, mean_resizing=False)


def tables(net: nn.Module) -> list[torch.Tensor]:
    """What has a row for each token, each tensor once: embedding, head unless it is tied, the head's bias."""
    embedding, head = net.get_input_embeddings(), net.get_output_embeddings()
    found = [embedding.weight]
    if head is not None:
        found += [
            part
            for part in (head.weight, getattr(head, "bias", None))
            if part is not None and part is not embedding.weight
        ]
    return found
