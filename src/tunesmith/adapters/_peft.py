"""Tensors of stand-in layers under PEFT's names, out and in.

A stand-in says what it trains as {ending of the name: tensor} in `peft_tensors()`; the rest of the name is where it sits:
base_model.model.layers.0.self_attn.q_proj + lora_A.weight.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from tunesmith.adapters._stand_in import stand_ins
from tunesmith.core.errors import ModelError

PREFIX = "base_model.model."
TASKS = {"causal": "CAUSAL_LM", "classify": "SEQ_CLS", "seq2seq": "SEQ_2_SEQ_LM", "embed": "FEATURE_EXTRACTION"}


def tensors_of(net: Any, kinds: Any) -> dict[str, torch.Tensor]:
    """What the stand-ins of `kinds` (a class or several) train, by PEFT's names."""
    return {
        f"{PREFIX}{name}.{ending}": tensor.detach()
        for name, layer in stand_ins(net, kinds).items()
        for ending, tensor in layer.peft_tensors().items()
    }


def take_tensors(
    net: Any, kinds: Any, config: Mapping[str, Any], tensors: Mapping[str, torch.Tensor], source: Path
) -> None:
    """Copy saved tensors into the stand-ins of `kinds`."""
    take_named(tensors_of(net, kinds), config, tensors, net, source)


@torch.no_grad()
def take_named(
    wanted: Mapping[str, torch.Tensor],
    config: Mapping[str, Any],
    tensors: Mapping[str, torch.Tensor],
    net: Any,
    source: Path,
) -> None:
    """Copy saved tensors into those `wanted`. Anything missing, left over or of another shape is an error."""
    other = sorted(n for n in {*tensors} ^ {*wanted} if not belongs_elsewhere(n, config, tensors, net))
    if other:
        raise ModelError(
            f"{source} has or lacks {len(other)} tensors that this adapter on this base has, such as {other[0]}",
            wanted="The tensors of the same layers and nothing else.",
            fix="Merge it with PEFT once (merge_and_unload) and give the merged folder.",
        )
    for name, held in wanted.items():
        if tensors[name].shape != held.shape:
            raise ModelError(
                f"{source}: {name.removeprefix(PREFIX)} has shape {tuple(tensors[name].shape)}, the base wants {tuple(held.shape)}",
                wanted="The adapter's own base model.",
            )
        held.copy_(tensors[name])


def belongs_elsewhere(name: str, config: Mapping[str, Any], tensors: Mapping[str, Any], net: Any) -> bool:
    """Trained rows of the embeddings (_rows.py), modules saved whole (_whole.py), or a copy of the base's own table, which
    PEFT writes beside its update."""
    if name.endswith(".token_adapter.trainable_tokens_delta"):
        return True
    own = name.removeprefix(PREFIX).replace(".base_layer.", ".")
    if any(f".{module}." in f".{own}" for module in config.get("modules_to_save") or ()):
        return True
    held = dict(net.named_parameters(remove_duplicate=False)).get(own)
    return (
        name in tensors
        and held is not None
        and held.shape == tensors[name].shape
        and bool((held == tensors[name].to(held.device)).all())
    )


def peft_config(kind: str, base: str, **settings: Any) -> dict[str, Any]:
    """An adapter_config.json; the task is filled in by store.py, which knows what the model was loaded as."""
    return {
        "peft_type": kind,
        "task_type": TASKS["causal"],
        "base_model_name_or_path": base,
        "inference_mode": True,
        **settings,
    }
