"""A longer context for a model with rotary positions: its frequencies are changed before the network is built.

    load("mini", rope={"kind": "yarn", "factor": 4})       # 1,024 tokens become 4,096; train on long texts afterwards

linear  every frequency divided by the factor: positions are squeezed (Chen et al. 2023, arXiv 2306.15595). Needs tuning most
ntk     theta x factor^(d / (d - 2)): slow frequencies are squeezed, fast ones stay, so that neighbours stay apart ("NTK-aware", bloc97
        2023). Works a little without tuning
yarn    frequencies that turn often within the old context stay, those that never finish a turn are squeezed, a ramp between; scores
        are sharpened by 0.1 ln(factor) + 1 (Peng et al. 2023, arXiv 2309.00071). Best after little tuning

It is written into the configuration as transformers reads it (rope_parameters), so the saved model is loaded by anything, with the same
logits. A model that brings a scaling of its own (Llama 3.1) keeps it: changing it would break what it was trained with.
"""

from collections.abc import Mapping
from typing import Any

from tunesmith.core.errors import ModelError

KINDS = ("linear", "ntk", "yarn")
NOTE = "stretched_context"  # under this name config.json says what was done


def stretch(config: Any, kind: str, factor: float) -> None:
    """Change a transformers configuration for a context `factor` times as long; call it before the network is built.

    Asking again for what was done already changes nothing. Raises ModelError for a model without rotary positions, or with a scaling
    of its own.
    """
    if kind not in KINDS:
        raise ModelError(f"rope: kind {kind!r} is not known", wanted=f"One of {', '.join(KINDS)}.")
    if not factor >= 1:
        raise ModelError(f"rope: factor is {factor}", wanted="1 or more: how many times as long the context becomes.")
    done = getattr(config, NOTE, None)
    if done:
        if (done["kind"], float(done["factor"])) == (kind, float(factor)):
            return
        raise ModelError(
            f"the model's context was stretched already: {done['kind']} x {done['factor']:g}, from {done['from']:,} tokens",
            fix="Leave rope out to keep it, or start again from the model it was made of.",
        )
    parameters = _parameters(config)
    before = int(config.max_position_embeddings)
    theta = float(parameters["rope_theta"])
    if kind == "ntk":
        dim = _dim(config, parameters)
        parameters["rope_theta"] = theta * float(factor) ** (dim / (dim - 2))
    else:
        parameters |= {"rope_type": kind, "factor": float(factor)}
        if kind == "yarn":
            parameters["original_max_position_embeddings"] = before
    config.max_position_embeddings = int(before * factor)
    setattr(config, NOTE, {"kind": kind, "factor": float(factor), "from": before})


def native(config: Any) -> str:
    """The scaling a model brings, in words; "" = none."""
    done = getattr(config, NOTE, None)
    parameters = getattr(config, "rope_parameters", None) or {}
    flat = [parameters] if "rope_theta" in parameters or "rope_type" in parameters else list(parameters.values())
    kinds = {str(one.get("rope_type", "default")) for one in flat if isinstance(one, Mapping)}
    return "" if done or kinds <= {"default"} else ", ".join(sorted(kinds - {"default"}))


def _parameters(config: Any) -> dict[str, Any]:
    """The dict of rotary parameters to change: the only one, or that of the layers that see everything."""
    parameters = getattr(config, "rope_parameters", None)
    if not parameters or not getattr(config, "max_position_embeddings", None):
        raise ModelError(
            f"{config.model_type} has no rotary positions: its context cannot be stretched",
            wanted="A model with rope_parameters, such as Llama, Qwen or Mistral.",
        )
    if own := native(config):
        raise ModelError(
            f"the model brings a scaling of its own ({own}), which stays as it is",
            fix="Leave rope out: its context is already long.",
        )
    if "rope_theta" not in parameters and isinstance(parameters.get("full_attention"), dict):
        parameters = parameters["full_attention"]  # layers with a window see no farther than it
    if not isinstance(parameters, dict) or "rope_theta" not in parameters:
        raise ModelError(f"the rotary parameters of {config.model_type} have a form that is not known: {parameters}")
    return parameters


def _dim(config: Any, parameters: Mapping[str, Any]) -> int:
    """How many numbers of each head are rotated."""
    head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return int(head * float(parameters.get("partial_rotary_factor", 1.0)))
