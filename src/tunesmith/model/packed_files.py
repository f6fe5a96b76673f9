"""Folders of packed networks, as bitsandbytes and transformers write them: what one of the three packed, the others open.

    save(net, tokenizer, folder)     # model/save.py: packed matrices are written as they are
    load(folder)                     # model/load.py: and read so; no whole matrix is ever made

config.json says under `quantization_config` how (so a reader that does not know it refuses, and fills nothing with random numbers);
packed.json says it with a format number of ours. Numbers and names only: nothing in such a folder is run.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from tunesmith.core.errors import ModelError
from tunesmith.model.packed import KINDS, PackedLinear, kind_of, packed_layers

FORMAT, FILE = 1, "packed.json"


def is_part(name: str, layers: Mapping[str, PackedLinear]) -> bool:
    """Whether a name of a state dict is that of a packed layer's part, which a file holds under other names."""
    layer, _, part = name.rpartition(".")
    return layer in layers and part in layers[layer].layout.parts


def tensors(layers: Mapping[str, PackedLinear], dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """What a file holds of packed layers. dtype is what they are computed in, by who asks no further."""
    word = str(dtype).removeprefix("torch.")
    return {
        f"{name}.{ending}": value.detach()
        for name, layer in layers.items()
        for ending, value in layer.packed.file_tensors(word).items()
    }


def told(net: nn.Module, dtype: torch.dtype) -> dict[str, Any]:
    """What config.json says of a network's packing; {} of one that is not packed."""
    kind = kind_of(net)
    if not kind:
        return {}
    layers = packed_layers(net)
    linear = [n for n, m in net.named_modules() if type(m) is nn.Linear or type(m).__name__ == "Conv1D"]
    common: dict[str, Any] = {
        "quant_method": "bitsandbytes", "load_in_8bit": kind == "int8", "load_in_4bit": kind == "nf4",
        "llm_int8_skip_modules": [name for name in linear if name not in layers] or ["lm_head"],
    }  # fmt: skip
    if kind == "nf4":
        common |= {
            "bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": True, "bnb_4bit_quant_storage": "uint8",
            "bnb_4bit_compute_dtype": str(dtype).removeprefix("torch."),
        }  # fmt: skip
    return {"quantization_config": common}


def sign(folder: Path, net: nn.Module) -> None:
    """Write packed.json: the format number, the kind and the layers that are packed."""
    layers = {name: list(layer.shape) for name, layer in packed_layers(net).items()}
    (folder / FILE).write_text(json.dumps({"format": FORMAT, "kind": kind_of(net), "layers": layers}, indent=1) + "\n")


def kind_of_folder(source: Path) -> str:
    """int8 or nf4 for a folder of packed weights; "" for any other."""
    try:
        config = json.loads((source / "config.json").read_text("utf-8"))
        mark = json.loads((source / FILE).read_text("utf-8")) if (source / FILE).is_file() else None
    except (OSError, ValueError):
        return ""  # transformers says what is wrong with it
    if mark is not None:
        if mark.get("format") != FORMAT or mark.get("kind") not in KINDS:
            raise ModelError(
                f"{source / FILE} has format {mark.get('format')}, kind {mark.get('kind')}",
                wanted=f"Format {FORMAT}, kind {' or '.join(KINDS)}.", fix="It was written by a later version: use that one.",
            )  # fmt: skip
        return str(mark["kind"])
    packing = config.get("quantization_config") if isinstance(config, dict) else None
    if not isinstance(packing, dict) or packing.get("quant_method", "bitsandbytes") != "bitsandbytes":
        return ""
    if packing.get("load_in_8bit"):
        return "int8"
    return "nf4" if packing.get("load_in_4bit") and packing.get("bnb_4bit_quant_type") == "nf4" else ""


def read(auto: Any, source: Path, kind: str, settings: dict[str, Any]) -> tuple[nn.Module, dict[str, Any]]:
    """(the network in a folder of packed weights, what transformers tells about its keys).

    auto  the transformers class that makes it;  settings  the keywords of its from_pretrained
    """
    config = settings["config"]
    if hasattr(config, "quantization_config"):
        del config.quantization_config  # packing is ours: transformers loads the rest
    own = {key: settings[key] for key in ("attn_implementation",) if key in settings}
    with torch.device("meta"):
        empty = auto.from_config(config, **own)
    layers, state = _tensors_of(source, kind)
    places = {name: _place(empty, name, source) for name in layers}
    for name, packed in layers.items():  # as large as the layer, and one number in memory
        conv = type(empty.get_submodule(places[name])).__name__ == "Conv1D"
        whole = packed.shape[::-1] if conv else packed.shape
        state[f"{name}.weight"] = torch.zeros((), dtype=settings["dtype"]).expand(whole)
    net, keys = type(empty).from_pretrained(None, **settings, state_dict=state)
    for name, packed in layers.items():
        base = net.get_submodule(places[name])
        net.set_submodule(places[name], PackedLinear(base, packed).train(base.training))
    return net, keys


def _tensors_of(source: Path, kind: str) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """(packed weights by layer, all other tensors by name) of the safetensors in a folder."""
    from safetensors.torch import load_file

    layout = KINDS[kind]
    state: dict[str, torch.Tensor] = {}
    for path in sorted(source.glob("*.safetensors")):
        state |= load_file(path)
    sure = layout.names[1] if kind == "int8" else layout.names[-1]  # what only a packed layer has
    layers = {}
    for name in [name.removesuffix(f".{sure}") for name in state if name.endswith(f".{sure}")]:
        found = {ending: state.pop(f"{name}.{ending}", None) for ending in layout.names}
        given = {ending: value for ending, value in found.items() if value is not None}
        if "weight" not in given:
            raise ModelError(f"{source} has the scales of {name} and no weight", fix="Fetch or save the model again.")
        layers[name] = layout.of_file(given, f"{name} in {source}")
    if not layers:
        raise ModelError(f"{source} says it is packed as {kind}, but its files hold no such weight")
    return layers, state


def _place(net: nn.Module, name: str, source: Path) -> str:
    """Where a layer of a file is in a network: under its own name, or with or without the body's prefix."""
    body = f"{getattr(net, 'base_model_prefix', '')}."
    modules = dict(net.named_modules())
    for candidate in (name, name.removeprefix(body), f"{body}{name}"):
        if candidate in modules:
            return candidate
    raise ModelError(f"{source} holds {name}, which {type(net).__name__} does not have")
