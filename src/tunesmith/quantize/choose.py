"""Which matrices of a network are packed, and why everything else stays as it is.

choice = choose(net, "nf4", keep=("down_proj",))
choice.names                  # what is packed
choice.kept[0].why            # "embeddings, read as a table and never multiplied; the head is the same tensor"
small = packed_copy(net, "nf4", choice.names, torch.bfloat16)
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from tunesmith.core.errors import ModelError, SettingError
from tunesmith.core.names import nearest
from tunesmith.model.packed import KINDS, matrices, matrix, packed_layers, quantise_network


@dataclass(frozen=True)
class Kept:
    """Parameters that stay as they are for one reason."""

    why: str
    parameters: int
    names: tuple[str, ...]


@dataclass(frozen=True)
class Choice:
    """What is packed: names of layers with their shapes (out, in). And what is not, by reason, the largest part first."""

    shapes: dict[str, tuple[int, int]]
    kept: tuple[Kept, ...]

    @property
    def names(self) -> list[str]:
        return list(self.shapes)


def choose(net: nn.Module, kind: str, keep: Sequence[str] = ()) -> Choice:
    """Every linear layer of the body that gets smaller in a file, but for those that `keep` means (names, their ends, or globs).

    Raises SettingError for a pattern that means no layer, ModelError when nothing is left to pack.
    """
    from fnmatch import fnmatchcase

    possible = matrices(net)
    shapes = {name: _shape(net.get_submodule(name)) for name in possible}
    asked: set[str] = set()
    for pattern in keep:
        found = [n for n in possible if n == pattern or n.endswith(f".{pattern}") or fnmatchcase(n, pattern)]
        if not found:
            last = sorted({name.rsplit(".", 1)[-1] for name in possible})
            raise SettingError(
                f"keep={pattern} matches no layer that would be packed.",
                wanted=f"Nearest: {', '.join(nearest(pattern, last) or last[:8])}.",
            )
        asked.update(found)
    layout = KINDS[kind]
    small = {
        n
        for n, (out, columns) in shapes.items()
        if layout.size(out, columns) + layout.more_in_file >= 2 * out * columns
    }
    chosen = {name: shape for name, shape in shapes.items() if name not in asked | small}
    if not chosen:
        raise ModelError(
            f"{type(net).__name__} has no matrix that {kind} would make smaller",
            wanted="A network with linear layers of its own, larger than their scales.",
        )
    return Choice(chosen, _kept(net, chosen, asked, small))


def packed_copy(net: nn.Module, kind: str, names: Sequence[str], rest: torch.dtype) -> nn.Module:
    """A copy of a network with the layers of `names` packed, and all else rounded to `rest` but computed in as before."""
    made = copy.deepcopy(net).requires_grad_(False)
    quantise_network(made, kind, names)
    packed = {id(part) for layer in packed_layers(made).values() for part in layer.buffers(recurse=False)}
    kept = {id(value) for value in made.state_dict(keep_vars=True).values()} - packed  # what a file will hold
    with torch.no_grad():
        for value in (*made.parameters(), *made.buffers()):
            if id(value) in kept and value.is_floating_point():
                value.copy_(value.to(rest))
    return made.eval()


def errors(net: nn.Module, packed: nn.Module) -> dict[str, float]:
    """||W - W'|| / ||W|| of every packed layer, the worst first: W is the network's, W' what the codes stand for."""
    found = {}
    for name, layer in packed_layers(packed).items():
        whole = matrix(net.get_submodule(name)).detach().double()
        size = float(whole.norm())
        found[name] = float((whole - layer.packed.dequantised(torch.float64)).norm()) / size if size else 0.0
    return dict(sorted(found.items(), key=lambda item: -item[1]))


def _shape(layer: nn.Module) -> tuple[int, int]:
    out, columns = matrix(layer).shape
    return int(out), int(columns)


def _kept(net: nn.Module, chosen: dict[str, Any], asked: set[str], small: set[str]) -> tuple[Kept, ...]:
    head = net.get_output_embeddings() if hasattr(net, "get_output_embeddings") else None
    tied = head is not None and head.weight is net.get_input_embeddings().weight
    linear = {n for n, m in net.named_modules() if type(m) is nn.Linear or type(m).__name__ == "Conv1D"}
    groups: dict[str, list[tuple[str, int]]] = {}
    for name, parameter in net.named_parameters():
        layer = name.rpartition(".")[0]
        module = net.get_submodule(layer)
        if layer in chosen and name.endswith(".weight"):
            continue
        if isinstance(module, nn.Embedding):
            why = "embeddings, read as a table and never multiplied" + ("; the head is the same tensor" if tied else "")
        elif module is head:
            why = "the output head: an error there is in every logit"
        elif parameter.ndim < 2:
            why = "norms and biases: a vector has nothing to share a scale with"
        elif layer in asked:
            why = "asked for: keep"
        elif layer in small:
            why = "so small that its scales would outweigh the saving"
        elif layer.endswith((".router", ".gate")):
            why = "routers: a small error sends a token to another expert"
        elif layer in linear:
            why = "the head of a task, or a layer outside the body"
        else:
            why = "not the weight of a linear layer"
        groups.setdefault(why, []).append((name, parameter.numel()))
    kept = [Kept(why, sum(n for _, n in found), tuple(name for name, _ in found)) for why, found in groups.items()]
    return tuple(sorted(kept, key=lambda one: -one.parameters))
