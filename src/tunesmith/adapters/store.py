"""Adapters on disk, in PEFT's two files, and opening what a run made.

save_adapter(model, adapter, names, folder)     adapter_config.json, adapter_model.safetensors, the tokenizer
model = open_run("runs/train-1")                base + adapter, or the whole tuned model, or any model by name
"""

import json
import shutil
from pathlib import Path
from typing import Any

from tunesmith.adapters._rows import merge_rows, read_rows, row_config, row_tensors
from tunesmith.core.errors import ModelError
from tunesmith.model.load import Model, load
from tunesmith.model.save import replace_folder
from tunesmith.model.tokens import take_tokenizer
from tunesmith.text.tokenizer import Tokenizer

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"


def save_adapter(model: Model, adapter: Any, names: list[str], folder: Path, *, base: str) -> Path:
    """Write the adapter's tensors under PEFT's names; `base` is the model to put them on."""
    from safetensors.torch import save_file

    folder = Path(folder)
    part = folder.parent / f".{folder.name}.part"
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    tensors = {**adapter.tensors(model.net), **row_tensors(model.net)}
    save_file({k: v.contiguous().cpu() for k, v in tensors.items()}, part / WEIGHTS, {"format": "pt"})
    config = {**adapter.peft_config(model.net, names, base), **row_config(model.net)}
    (part / CONFIG).write_text(json.dumps(config, indent=2) + "\n")
    model.tokenizer.save(part)
    replace_folder(part, folder)
    return folder


def open_run(name: str | Path, *, dtype: str = "fp32", device: str = "cpu", base: str | None = None) -> Model:
    """A model ready to answer: a run folder, an adapter folder, a model folder, an embedded name or a hub name."""
    folder = Path(name)
    if (folder / "manifest.json").exists():
        if (folder / "model" / "config.json").exists():
            return load(folder / "model", dtype=dtype, device=device)
        if (folder / "adapter" / CONFIG).exists():
            return open_adapter(folder / "adapter", dtype=dtype, device=device, base=base)
        raise ModelError(
            f"{folder} has no finished model yet: neither adapter/ nor model/ is there",
            fix=f"Finish it: tunesmith train --resume {folder}",
        )
    if (folder / CONFIG).exists():
        return open_adapter(folder, dtype=dtype, device=device, base=base)
    return load(name, dtype=dtype, device=device)


def open_adapter(folder: Path, *, dtype: str = "fp32", device: str = "cpu", base: str | None = None) -> Model:
    """The adapter in `folder` on its base model. Only LoRA so far; `base` overrides where the base lies."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    from tunesmith.adapters.lora import Lora

    try:
        config = json.loads((folder / CONFIG).read_text())
        tensors = load_file(folder / WEIGHTS)
    except (OSError, ValueError, SafetensorError) as error:
        raise ModelError(f"the adapter in {folder} cannot be read: {error}") from error
    if config.get("peft_type") != "LORA":
        raise ModelError(f"{folder} is an adapter of type {config.get('peft_type')}", wanted="LORA.")
    model = load(base or config["base_model_name_or_path"], dtype=dtype, device=device)
    if (folder / "tokenizer.json").exists():
        take_tokenizer(model, Tokenizer(folder))
    adapter, names = Lora.read(config, tensors, model.net, folder)
    read_rows(config, tensors, model.net, folder)
    model.net.eval()
    model.adapter, model.name = adapter, str(folder)
    model.facts["targets"] = names
    return model


def merge(model: Model) -> Model:
    """Put the adapter's update into the weights: the same answers (to 1e-5 in fp32), faster, no longer removable."""
    if model.adapter is not None:
        model.adapter.merge(model.net)
        merge_rows(model.net)
        model.adapter = None
    return model
