"""A few rows of the embedding and the head that train while the others stay frozen: how added tokens are learned.

    train_rows(net, [8000, 8001])     # after the adapter was attached; nothing where the whole table trains anyway
    merge_rows(net)                   # write the rows into the tables and put the plain layers back

The stand-ins hold the base's own parameters under their own names and an fp32 parameter `new_rows` (n, dim); tied
tables share it. On disk it is PEFT's `trainable_token_indices`; PEFT wants the base resized to the adapter's tokenizer
first, as `net.resize_token_embeddings(len(tokenizer))` does.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from tunesmith.core.errors import ModelError, SettingError

SETTING, KEY = "trainable_token_indices", "token_adapter.trainable_tokens_delta"  # PEFT's names


class RowEmbedding(nn.Module):
    """Stands in for an embedding: ids (...) -> (..., dim), the ids in `ids` read from new_rows."""

    def __init__(self, base: nn.Module, ids: Sequence[int]) -> None:
        super().__init__()
        self._base = [base]  # in a list: its parameters are held here, under the names they had
        self.weight = base.weight
        self.num_embeddings, self.embedding_dim = base.weight.shape
        self.enabled = True
        self.new_rows = _rows_of(base.weight, ids)
        chosen = torch.tensor(list(ids), device=base.weight.device)
        slots = torch.full((self.num_embeddings,), -1, device=chosen.device)
        slots[chosen] = torch.arange(len(chosen), device=chosen.device)
        self.register_buffer("ids", chosen, persistent=False)
        self.register_buffer("slots", slots, persistent=False)

    def effective_weight(self) -> torch.Tensor:
        """The table with the new rows in place, differentiable in them."""
        return _effective(self)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        out = self._base[0](ids)
        if not self.enabled:
            return out
        slots = self.slots[ids]
        new = F.embedding(slots.clamp_min(0), self.new_rows.to(self.weight.dtype))
        scale = getattr(self._base[0], "embed_scale", None)  # Gemma multiplies what it reads
        if scale is not None:
            new = new * torch.as_tensor(scale, device=new.device).to(new.dtype)
        return torch.where((slots >= 0)[..., None], new.to(out.dtype), out)

    def unwrap(self) -> nn.Module:
        """The embedding that was replaced."""
        return self._base[0].train(self.training)


class RowHead(nn.Module):
    """Stands in for a head, an nn.Linear (vocab, dim); the logits of the ids in `ids` are made with new_rows."""

    def __init__(self, base: nn.Module, ids: Sequence[int], new_rows: nn.Parameter | None = None) -> None:
        super().__init__()
        self._base = [base]
        self.weight, self.bias = base.weight, base.bias
        self.out_features, self.in_features = base.weight.shape
        self.enabled = True
        self.new_rows = _rows_of(base.weight, ids) if new_rows is None else new_rows
        self.register_buffer("ids", torch.tensor(list(ids), device=base.weight.device), persistent=False)

    def effective_weight(self) -> torch.Tensor:
        """W with the new rows in place, differentiable in them: what the chunked loss multiplies by."""
        return _effective(self)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits = F.linear(x, self.weight, self.bias)
        if not self.enabled:
            return logits
        new = F.linear(x, self.new_rows.to(x.dtype), None if self.bias is None else self.bias[self.ids])
        return (
            logits.index_copy(-1, self.ids, new) if torch.is_grad_enabled() else logits.index_copy_(-1, self.ids, new)
        )

    def unwrap(self) -> nn.Module:
        """The head that was replaced."""
        return self._base[0].train(self.training)


def _rows_of(weight: torch.Tensor, ids: Sequence[int]) -> nn.Parameter:
    rows = weight.detach()[list(ids)]
    made = nn.Parameter(rows if rows.dtype == torch.float64 else rows.float())
    made.adapter = True  # type: ignore[attr-defined]  # it stays fp32 when the network is cast
    return made


def _effective(layer: Any) -> torch.Tensor:
    if not layer.enabled:
        return layer.weight
    return layer.weight.index_copy(0, layer.ids, layer.new_rows.to(layer.weight.dtype))


def row_layers(net: nn.Module) -> dict[str, RowEmbedding | RowHead]:
    """The stand-ins in `net` by their full names, the embedding first."""
    found = {name: layer for name, layer in net.named_modules() if isinstance(layer, RowEmbedding | RowHead)}
    return dict(sorted(found.items(), key=lambda item: isinstance(item[1], RowHead)))


def train_rows(net: nn.Module, ids: Sequence[int], *, with_head: bool = True) -> list[str]:
    """Let the rows `ids` of embedding and head train; the others stay as they are. Returns the layers' names.

    Nothing is done where the whole table trains. with_head=False leaves a head that is not tied as it is.
    Raises SettingError when the adapter sits in the head itself.
    """
    embedding, head = words_of(net), net.get_output_embeddings()
    if not ids or embedding.weight.requires_grad:
        return []
    if isinstance(embedding, RowEmbedding):  # some rows train already: all of them together
        ids = list(dict.fromkeys([*embedding.ids.tolist(), *ids]))
        merge_rows(net)
        embedding, head = words_of(net), net.get_output_embeddings()
    if head is not None and type(head) is not nn.Linear:
        raise SettingError(
            f"the head is a {type(head).__name__}: rows of added tokens cannot train beside it",
            wanted="A plain head.",
            fix="Take the head out of adapter.targets, or train everything: adapter=full.",
        )
    standing = RowEmbedding(embedding, ids)
    some = torch.cat([standing.ids, torch.arange(min(8, standing.num_embeddings), device=standing.ids.device)])
    with torch.no_grad():
        if not torch.equal(standing(some), embedding(some)):
            raise ModelError(
                f"{type(embedding).__name__} does more than look rows up, so single rows cannot train",
                fix="Use adapter=full.",
            )
    names = [_name(net, embedding)]
    tied = head is not None and head.weight is embedding.weight
    if head is None or head.weight.requires_grad or not (tied or with_head):  # none, or one that trains whole
        net.set_submodule(names[0], standing.train(embedding.training))
        return names
    names.append(_name(net, head))
    net.set_submodule(names[0], standing.train(embedding.training))
    net.set_submodule(names[1], RowHead(head, ids, standing.new_rows if tied else None).train(head.training))
    return names


def words_of(net: Any) -> Any:
    """The embedding of the words, under a soft prompt too."""
    embedding = net.get_input_embeddings()
    return getattr(embedding, "words", embedding)


def _name(net: nn.Module, wanted: nn.Module) -> str:
    return next(name for name, module in net.named_modules() if module is wanted)


@torch.no_grad()
def refuse_untrained(model: Any, used: Iterable[int]) -> None:
    """Raise ModelError when an added token among the ids `used` has a frozen row that was never trained.

    Never trained: all zeros, or equal to another added token's row, as tables are filled up when a model is made.
    """
    embedding = words_of(model.net)
    known = sorted(id for id in model.tokenizer.backend.get_added_tokens_decoder() if id < len(embedding.weight))
    if embedding.weight.requires_grad or not known:
        return
    added = torch.tensor(known)
    rows = embedding.weight[added.to(embedding.weight.device)].float()
    _, group, count = torch.unique(rows, dim=0, return_inverse=True, return_counts=True)
    dead = (rows.abs().amax(1) == 0) | (count[group] > 1)
    training = set(embedding.ids.tolist()) if isinstance(embedding, RowEmbedding) else set()
    if found := sorted((set(added[dead.cpu()].tolist()) & {int(id) for id in used}) - training):
        names = [str(name) for name in model.tokenizer.tokens(found)]
        raise ModelError(
            f"the data holds tokens whose rows of the embedding were never trained and are frozen: {', '.join(names)}",
            wanted="Rows that mean something: what such a token says is noise to the model.",
            fix=f"Let them train: add_tokens: {json.dumps(names, ensure_ascii=False)}",
        )


@torch.no_grad()
def merge_rows(net: nn.Module) -> None:
    """Write the new rows into the tables and put the plain layers back; tied tables stay tied."""
    for name, layer in row_layers(net).items():
        layer.weight.data.index_copy_(0, layer.ids, layer.new_rows.to(layer.weight.dtype))
        net.set_submodule(name, layer.unwrap())


def row_tensors(net: nn.Module) -> dict[str, torch.Tensor]:
    """The trained rows under PEFT's names, those of tied tables once."""
    out: dict[str, torch.Tensor] = {}
    for name, layer in row_layers(net).items():
        if not any(layer.new_rows is held for held in out.values()):
            out[f"base_model.model.{name}.{KEY}"] = layer.new_rows
    return {name: rows.detach() for name, rows in out.items()}


def row_config(net: nn.Module) -> dict[str, Any]:
    """What PEFT's adapter_config.json says of them; {} without any."""
    names = [name.removeprefix("base_model.model.").removesuffix(f".{KEY}") for name in row_tensors(net)]
    layers = row_layers(net)
    return {SETTING: {name: layers[name].ids.tolist() for name in names}} if names else {}


def read_rows(config: Mapping[str, Any], tensors: Mapping[str, torch.Tensor], net: nn.Module, source: Path) -> None:
    """Put saved rows on a net whose tables are long enough already."""
    wanted, found = config.get(SETTING), {name: value for name, value in tensors.items() if name.endswith(KEY)}
    if not wanted and found:
        raise ModelError(
            f"{source} holds rows of added tokens, its configuration does not say of which", wanted=f"{SETTING}."
        )
    if not wanted:
        return
    groups = list(wanted.values()) if isinstance(wanted, Mapping) else [wanted]
    if max(groups[0]) >= (size := len(net.get_input_embeddings().weight)):
        raise ModelError(
            f"{source} trained the row of token {max(groups[0])}, its base has {size} rows",
            fix="Save the tokenizer that has the added tokens into that folder; the base is made longer by it.",
        )
    if any(list(ids) != list(groups[0]) for ids in groups):
        raise ModelError(
            f"{source} trains other tokens in the head than in the embedding, which this version does not read"
        )
    train_rows(net, [int(id) for id in groups[0]], with_head=len(found) > 1)
    expected = row_tensors(net)
    if set(found) != set(expected) or any(found[name].shape != rows.shape for name, rows in expected.items()):
        raise ModelError(
            f"{source}: the rows of its added tokens do not fit the base: it has {', '.join(sorted(found)) or 'none'}",
            wanted=f"{', '.join(expected)}: the adapter's own base model.",
        )
    for name, rows in expected.items():
        rows.copy_(found[name])
