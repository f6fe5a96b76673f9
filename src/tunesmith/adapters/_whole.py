"""Modules that are saved whole beside an adapter, or as all of it: new heads, and what `head` and `top` train.

On disk they are PEFT's `modules_to_save`. Reading puts a copy of the module with the saved weights in its place, so the
base's own tensors keep their bytes and another adapter can stand on the same base.
"""

import copy
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from tunesmith.adapters._peft import PREFIX
from tunesmith.core.errors import ModelError, SettingError
from tunesmith.model.packed import name_of, packed_layers

NOTHING = "dummy-target-modules"  # PEFT's word for a LoRA that goes into no layer
NOT_EXPORTED = "value_head"  # only training reads it


def new_heads(net: Any, heads: Iterable[str]) -> list[str]:
    """The new modules of a network as PEFT names them: `classifier`, not `classifier.dense` and `classifier.out_proj`."""
    given = [name for name in heads if name != NOT_EXPORTED]
    found: list[str] = []
    for name in given:
        top = name.split(".")[0]
        parts = {f"{top}.{n}".rpartition(".")[0] for n, _ in net.get_submodule(top).named_parameters()}
        found.append(top if parts <= set(given) else name)
    return list(dict.fromkeys(found))


def untie(net: Any, names: Iterable[str]) -> None:
    """Give a head among `names` that shares the embedding's tensor one of its own, of the same values."""
    embedding, head = net.get_input_embeddings(), net.get_output_embeddings()
    chosen = {id(part) for name in names for part in net.get_submodule(name).modules()}
    if head is not None and head.weight is embedding.weight and (id(head) in chosen) != (id(embedding) in chosen):
        head.weight = nn.Parameter(head.weight.detach().clone(), requires_grad=head.weight.requires_grad)
        net.config.tie_word_embeddings = False


def refuse_packed(net: Any, names: Iterable[str]) -> None:
    """Modules that train must hold their weights: what lies in few bits or in its file stays as it is."""
    for name, layer in packed_layers(net).items():
        if any(name == chosen or name.startswith(f"{chosen}.") for chosen in names):
            raise SettingError(
                f"the adapter trains {name} itself, and base is {name_of(layer.layout)}, which is frozen.",
                fix="adapter=lora, or leave base out.",
            )


def whole_tensors(net: Any, names: Iterable[str]) -> dict[str, torch.Tensor]:
    """All weights of the modules, by PEFT's names."""
    return {
        f"{PREFIX}{name}.{ending}": value.detach()
        for name in names
        for ending, value in net.get_submodule(name).state_dict().items()
    }


def read_whole(config: Mapping[str, Any], tensors: Mapping[str, torch.Tensor], net: Any, source: Path) -> list[str]:
    """Put the saved modules in their places; returns their full names."""
    found: list[str] = []
    for wanted in config.get("modules_to_save") or ():
        named = [name for name, _ in net.named_modules() if name == wanted or name.endswith(f".{wanted}")]
        named = [name for name in named if any(key.startswith(f"{PREFIX}{name}.") for key in tensors)]
        if not named and any(f".{wanted}." in key for key in tensors):
            raise ModelError(
                f"{source} holds a module {wanted!r}, {type(net).__name__} has none of that name",
                wanted="The adapter's own base model, loaded as what it was trained as.",
            )
        found += named
    found = list(dict.fromkeys(found))
    _make_long_enough(net, found, tensors)
    for name in found:
        old = net.get_submodule(name)
        saved = {
            key.removeprefix(f"{PREFIX}{name}."): v for key, v in tensors.items() if key.startswith(f"{PREFIX}{name}.")
        }
        made = copy.deepcopy(old)
        shapes = {key: tuple(value.shape) for key, value in made.state_dict().items()}
        if shapes != {key: tuple(value.shape) for key, value in saved.items()}:
            raise ModelError(
                f"{source}: {name} was saved as {_said(saved)}, the base's is {_said(made.state_dict())}",
                wanted="The adapter's own base model.",
            )
        made.load_state_dict(saved)
        net.set_submodule(name, made)
    embedding, head = net.get_input_embeddings(), net.get_output_embeddings()
    if head is not None and head.weight is not embedding.weight:
        net.config.tie_word_embeddings = False
    return found


def _make_long_enough(net: Any, names: Iterable[str], tensors: Mapping[str, torch.Tensor]) -> None:
    """Grow the tables of tokens where the saved ones are longer."""
    from tunesmith.model.tokens import grow

    ends = [net.get_input_embeddings(), net.get_output_embeddings()]
    rows = [
        len(tensors[f"{PREFIX}{name}.weight"])
        for name in names
        if any(net.get_submodule(name) is end for end in ends) and f"{PREFIX}{name}.weight" in tensors
    ]
    if rows:
        grow(net, max(rows))


def _said(state: Mapping[str, torch.Tensor]) -> str:
    return ", ".join(f"{key} {tuple(value.shape)}" for key, value in list(state.items())[:4])
