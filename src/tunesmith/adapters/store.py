"""Adapters on and off disk, in PEFT's two files, and opening what a run made.

names = attach(adapter, model, seed=0)          what is new on the model trains too, whatever the adapter
save_adapter(model, adapter, names, folder)     adapter_config.json, adapter_model.safetensors, the tokenizer
model = open_run("runs/train-1")                base + adapter, or the whole tuned model, or any model by name

Each adapter says itself what it reads (`reads(config)`) and how (`read`); nothing here knows their names. What PEFT's files
have no place for (the kind of network, names of labels, a packed base) stands beside them in tunesmith.json.
"""

import inspect
import json
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from tunesmith.adapters._peft import PREFIX, TASKS
from tunesmith.adapters._rows import merge_rows, read_rows, row_config, row_tensors
from tunesmith.adapters._whole import new_heads, read_whole, whole_tensors
from tunesmith.core.errors import ModelError, SettingError
from tunesmith.core.registry import named
from tunesmith.core.shelf import shelf
from tunesmith.model.kinds import kind_of
from tunesmith.model.load import Model, load, made_as
from tunesmith.model.mapped import stored_dtype
from tunesmith.model.packed import dequantise_network
from tunesmith.model.packed import kind_of as packing_of
from tunesmith.model.save import replace_folder
from tunesmith.model.tokens import take_tokenizer
from tunesmith.text.tokenizer import Tokenizer

CONFIG, WEIGHTS, FACTS = "adapter_config.json", "adapter_model.safetensors", "tunesmith.json"


def attach(adapter: Any, model: Model, *, seed: int = 0) -> list[str]:
    """Put an adapter on a model and let its new heads train beside it. Returns the names of what was adapted."""
    heads = tuple(model.facts.get("heads", ()))
    model.net.new_heads = heads  # type: ignore[assignment]
    if (packing := packing_of(model.net)) and getattr(adapter, "file", "adapter") == "model":
        raise SettingError(
            f"{model.name} is quantised as {packing}: its weights are frozen, and this adapter trains them.",
            fix="adapter=lora, or the model it was made from.",
        )
    wants = inspect.signature(adapter.attach).parameters
    given: dict[str, Any] = {"tokenizer": model.tokenizer} if "tokenizer" in wants else {}
    names: list[str] = adapter.attach(model.net, seed=seed, **given)
    for head in heads:
        model.net.get_submodule(head).requires_grad_(True)
    _lay_out(model, adapter)
    return names


def _lay_out(model: Model, adapter: Any) -> None:
    """An adapter that cannot be packed says so."""
    if reason := getattr(adapter, "padded", ""):
        model.proof = replace(model.proof, layout="padded", lean=False, reason=reason)


def save_adapter(model: Model, adapter: Any, names: list[str], folder: Path, *, base: str) -> Path:
    """Write the adapter's tensors under PEFT's names; `base` is the model to put them on.

    Matrices of an adapter that says saved: base are rounded to the number format of the base's own file. Rows and modules that
    are saved whole stay as they were trained.
    """
    from safetensors.torch import save_file

    folder = Path(folder)
    part = folder.parent / f".{folder.name}.part"
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    heads = new_heads(model.net, model.facts.get("heads", ()))
    rows = not getattr(adapter, "holds_rows", False)  # `tokens` writes the trained rows itself
    update = adapter.tensors(model.net)
    if getattr(adapter, "saved", "fp32") == "base" and model.source is not None:
        kept = stored_dtype(model.source)
        update = {
            name: tensor.to(kept) if tensor.dtype.itemsize > kept.itemsize else tensor
            for name, tensor in update.items()
        }
    tensors = {**update, **whole_tensors(model.net, heads)}
    config = adapter.peft_config(model.net, names, base)
    if rows:
        tensors |= row_tensors(model.net)
        config |= row_config(model.net)
    save_file({k: v.contiguous().cpu() for k, v in tensors.items()}, part / WEIGHTS, {"format": "pt"})
    config["task_type"] = TASKS.get(_kind(model))
    if heads:
        config["modules_to_save"] = list(dict.fromkeys((*(config.get("modules_to_save") or ()), *heads)))
    (part / CONFIG).write_text(json.dumps(config, indent=2) + "\n")
    if facts := _facts(model):
        (part / FACTS).write_text(json.dumps(facts, indent=2, ensure_ascii=False) + "\n")
    model.tokenizer.save(part)
    replace_folder(part, folder)
    return folder


def _kind(model: Model) -> str:
    return str(getattr(model, "kind", "causal"))


def _facts(model: Model) -> dict[str, Any]:
    """What opening has to know and PEFT's configuration does not say; {} for a plain causal model."""
    facts: dict[str, Any] = {}
    if _kind(model) != "causal":
        facts["kind"] = _kind(model)
    if labels := getattr(model, "labels", ()):
        facts["labels"] = list(labels)
    if problem := getattr(model.net.config, "problem_type", None):
        from tunesmith.model.kinds import PROBLEMS

        facts["problem"] = next((ours for ours, theirs in PROBLEMS.items() if theirs == problem), "single")
    if packing := packing_of(model.net):
        facts["base"] = packing
    if done := getattr(model.net.config, "stretched_context", None):  # see model/rope.py
        facts["rope"] = {"kind": done["kind"], "factor": done["factor"]}
    return facts


def open_run(name: str | Path, *, dtype: str = "fp32", device: str = "cpu", base: str | None = None) -> Model:
    """A model ready to answer: a run folder (or @NAME of one), an adapter folder, a model folder, an embedded or a hub name."""
    name = named(name)
    folder = Path(name)
    if (folder / "manifest.json").exists():
        if (folder / "model" / "config.json").exists():
            return load(folder / "model", kind=kind_of(folder / "model"), dtype=dtype, device=device)
        if (folder / "adapter" / CONFIG).exists():
            return open_adapter(folder / "adapter", dtype=dtype, device=device, base=base)
        if (folder / "features").is_dir():
            raise ModelError(
                f"{folder} holds a small classifier over the vectors of its base, which stayed as it was",
                fix=f"Score it: tunesmith eval {folder}    In Python: tunesmith.evals.labels.predict_fitted",
            )
        raise ModelError(
            f"{folder} has no finished model yet: neither adapter/ nor model/ is there",
            fix=f"Finish it: tunesmith train --resume {folder}",
        )
    if (folder / CONFIG).exists():
        return open_adapter(folder, dtype=dtype, device=device, base=base)
    return load(name, kind=made_as(name), dtype=dtype, device=device)


def open_adapter(folder: Path, *, dtype: str = "fp32", device: str = "cpu", base: str | None = None) -> Model:
    """The adapter in `folder` on its base model; `base` overrides where the base lies."""
    config, tensors, facts = read_files(folder)
    model = load_base(folder, dtype=dtype, device=device, base=base)
    put_on(model, folder, config, tensors, facts)
    model.name = str(folder)
    return model


def read_files(folder: Path) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """(configuration, tensors, what tunesmith.json says) of a saved adapter."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    folder = Path(folder)
    try:
        config = json.loads((folder / CONFIG).read_text())
        tensors = load_file(folder / WEIGHTS)
        facts = json.loads((folder / FACTS).read_text()) if (folder / FACTS).exists() else {}
    except (OSError, ValueError, SafetensorError) as error:
        raise ModelError(f"the adapter in {folder} cannot be read: {error}") from error
    if not isinstance(config, dict) or "peft_type" not in config:
        raise ModelError(f"{folder / CONFIG} says no peft_type", wanted="An adapter in PEFT's format.")
    if (
        not facts
        and (kind := {task: kind for kind, task in TASKS.items()}.get(str(config.get("task_type")), "causal"))
        != "causal"
    ):
        facts = {"kind": kind, **_labels(config, tensors, kind)}
    return config, tensors, facts


def _labels(config: Mapping[str, Any], tensors: Mapping[str, Any], kind: str) -> dict[str, Any]:
    """Labels of a classifier that PEFT saved: their number is that of the head's outputs, their names are unknown."""
    if kind != "classify":
        return {}
    saved = [f"{PREFIX}{name}." for name in config.get("modules_to_save") or ()]
    heads = [
        v for n, v in tensors.items() if n.endswith(".weight") and v.ndim == 2 and n.startswith(tuple(saved) or ("-",))
    ]
    return {"labels": [f"LABEL_{number}" for number in range(min(map(len, heads)))]} if heads else {}


def load_base(folder: Path, *, dtype: str = "fp32", device: str = "cpu", base: str | None = None) -> Model:
    """The model that the adapter in `folder` was trained on, loaded as it was then."""
    config, _, facts = read_files(folder)
    as_kind = {key: facts[key] for key in ("kind", "labels", "problem", "rope") if key in facts}
    name = base or config.get("base_model_name_or_path")
    if not name:
        raise ModelError(f"{folder} does not say which model it belongs to", fix="Give it: base=...")
    return load(name, dtype=dtype, device=device, base=facts.get("base", ""), **as_kind)


def put_on(
    model: Model, folder: Path, config: Mapping[str, Any], tensors: Mapping[str, Any], facts: Mapping[str, Any]
) -> None:
    """Put a saved adapter on its base, which is loaded already."""
    folder = Path(folder)
    if (folder / "tokenizer.json").exists():
        take_tokenizer(model, Tokenizer(folder))
    model.net.new_heads = tuple(model.facts.get("heads", ()))  # type: ignore[assignment]
    read_whole(config, tensors, model.net, folder)
    adapter, names = reader(config, folder).read(config, tensors, model.net, folder)
    if not getattr(adapter, "holds_rows", False):
        read_rows(config, tensors, model.net, folder)
    model.net.eval()
    _lay_out(model, adapter)
    model.adapter = adapter
    model.facts["targets"] = names


def reader(config: Mapping[str, Any], source: Path) -> Any:
    """The adapter class that reads a saved configuration."""
    adapters = shelf("adapters")
    for name in adapters.names():
        kind: Any = adapters.load(name)
        if hasattr(kind, "reads") and kind.reads(config):
            return kind
    raise ModelError(
        f"{source} is an adapter of type {config['peft_type']}, which this version does not read",
        wanted=f"One of ours: {', '.join(adapters.names())}.",
        fix="Merge it with PEFT once (merge_and_unload) and give the merged folder.",
    )


def merge(model: Model) -> Model:
    """Put the adapter's update into the weights: the same answers (to 1e-5 in fp32), faster, no longer removable."""
    if model.adapter is not None:
        model.adapter.merge(model.net)
        merge_rows(model.net)
        dequantise_network(model.net)
        model.adapter = None
    return model


def merged(model: Model) -> Model:
    """`merge`, or the model as it is where its adapter cannot be put into the weights (soft prompts, layers put between)."""
    return merge(model) if getattr(model.adapter, "merges", True) else model
