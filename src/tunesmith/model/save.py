"""Write a model folder that plain transformers loads: config, bf16 or fp32 safetensors, tokenizer, template. Packed matrices
are written as they are.

    save(net, tokenizer, folder, dtype="bf16")

The folder is written beside its place and renamed, so a kill leaves either the old folder or the new one.
"""

import json
import os
import shutil
from pathlib import Path

import torch
from torch import nn

from tunesmith.model import packed_files
from tunesmith.model.packed import packed_layers
from tunesmith.text.tokenizer import Tokenizer


def save(net: nn.Module, tokenizer: Tokenizer, folder: Path, *, dtype: str | None = None) -> Path:
    """Save all weights of `net` (tied ones once) and its tokenizer. dtype None keeps the weights' own."""
    from tunesmith.model.load import DTYPES

    folder = Path(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    part = folder.parent / f".{folder.name}.part"
    shutil.rmtree(part, ignore_errors=True)
    packed = packed_layers(net)
    state, held = {}, set()
    for name, value in net.state_dict().items():
        if packed_files.is_part(name, packed):
            continue
        place = (value.data_ptr(), tuple(value.shape), value.stride())
        if value.numel() == 0 or place not in held:  # tied weights lie at one place and are written once
            state[name] = value.detach()
            held.add(place)
    if dtype is not None:
        state = {k: v.to(DTYPES[dtype]) if v.is_floating_point() else v for k, v in state.items()}
    written = next((v.dtype for v in state.values() if v.is_floating_point()), torch.float32)
    kept = net.config.dtype
    quietly()
    state |= packed_files.tensors(packed, written)
    net.save_pretrained(
        part, state_dict=state, save_original_format=not packed
    )  # empties `state`, and sets the config's dtype to the network's own
    net.config.dtype = kept
    config = json.loads((part / "config.json").read_text())
    (part / "config.json").write_text(
        json.dumps(
            {**config, "dtype": str(written).removeprefix("torch."), **packed_files.told(net, written)}, indent=2
        )
        + "\n"
    )
    if packed:
        packed_files.sign(part, net)
    tokenizer.save(part)
    replace_folder(part, folder)
    return folder


def quietly() -> None:
    """Keep transformers from drawing progress bars over ours."""
    from transformers.utils import logging

    logging.disable_progress_bar()


def replace_folder(part: Path, folder: Path) -> None:
    """Put a finished folder in its place. There is a moment with neither, but never one with half a folder."""
    old = folder.parent / f".{folder.name}.old"
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        os.rename(folder, old)
    os.rename(part, folder)
    shutil.rmtree(old, ignore_errors=True)
