"""A network from its configuration alone, on fake tensors: no weights are read, none are made.

    config = architecture("Llama-3.1-8B")          # a known model, an embedded one, a folder, a config.json, a Hugging Face name
    policy = fake_policy(config, adapter)          # inside FakeTensorMode: the real class, the real adapter, no numbers

The known ones are architecture numbers of public models, in known.json beside this file.
"""

import json
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import nn

from tunesmith.adapters._rows import train_rows
from tunesmith.core.errors import ModelError
from tunesmith.core.names import nearest
from tunesmith.model import attention, embedded, kinds
from tunesmith.model.encoder import Encoder
from tunesmith.model.packed import quantise_network
from tunesmith.model.policy import Policy
from tunesmith.model.seq2seq import Seq2Seq
from tunesmith.model.stream import stream_network


@cache
def known() -> dict[str, dict[str, Any]]:
    """{name: configuration} of the models whose architecture comes along."""
    return dict(json.loads(Path(__file__).with_name("known.json").read_text(encoding="utf-8")))


def architecture(name: str | Path | Mapping[str, Any]) -> Any:
    """The transformers configuration a name stands for.

    name  a known model (`Llama-3.1-8B`), mini or pico, a folder or config.json, a configuration as a dict, or owner/name
    Raises ModelError when there is none.
    """
    if isinstance(name, Mapping):
        return _of(dict(name), "the configuration")
    text = str(name)
    if text in embedded.CONFIGS:
        from tunesmith.text.tokenizer import byte_tokenizer

        return embedded.CONFIGS[text](byte_tokenizer().vocab_size)
    short = text.rpartition("/")[2].lower()
    for each, numbers in known().items():
        if short in (each.lower(), f"{each.lower()}-instruct", f"meta-{each.lower()}"):
            return _of(dict(numbers), each)
    path = embedded.folder(text) if text in embedded.NAMES else Path(text)
    path = path / "config.json" if path.is_dir() else path
    if path.is_file():
        try:
            return _of(json.loads(path.read_text(encoding="utf-8")), str(path))
        except ValueError as error:
            raise ModelError(f"{path} is no configuration: {error}", wanted="A model's config.json.") from error
    if text.count("/") == 1 and not text.startswith((".", "/", "~")):
        return _from_hub(text)
    raise ModelError(
        f"there is no model {text!r} to plan for",
        wanted=f"Nearest: {', '.join(nearest(text, known()) or list(known())[:4])}.",
        fix="Give a known name, a folder, a config.json, or a Hugging Face name such as owner/model.",
    )


def _of(numbers: dict[str, Any], where: str) -> Any:
    from transformers import AutoConfig

    kind = numbers.pop("model_type", None)
    if kind is None:
        raise ModelError(
            f"{where} has no model_type", wanted='A transformers configuration, as {"model_type": "llama"}.'
        )
    try:
        return AutoConfig.for_model(kind, **numbers)
    except ValueError as error:
        raise ModelError(f"{where}: {str(error).splitlines()[0]}") from error


def _from_hub(name: str) -> Any:
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(name, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise ModelError(
            f"the configuration of {name} could not be had: {str(error).splitlines()[0]}",
            fix="Check the name and the network, or give a folder or a config.json. Known without one: "
            + ", ".join(known()),
        ) from error


def context(config: Any) -> int:
    """How many tokens the model can read."""
    return int(getattr(config, "max_position_embeddings", None) or getattr(config, "n_positions", None) or 1 << 20)


def fake_network(config: Any, kind: str = "causal", labels: Sequence[str] = (), *, drawn: bool = False) -> nn.Module:
    """The network of a configuration with `kind`'s head; inside FakeTensorMode. Attention is ours where it takes it.

    drawn  its weights are drawn as transformers draws them, for a step that is made outside of that mode and timed
    """
    import transformers
    from transformers.initialization import no_init_weights

    auto = getattr(transformers, kinds.KINDS[kind][0])
    if kind == "classify":
        kinds.name_labels(config, labels or ("score",), "regression" if len(labels) < 2 else "single")
        if getattr(config, "pad_token_id", None) is None:
            config.pad_token_id = 0
    with nullcontext() if drawn else no_init_weights():
        if kind == "seq2seq":
            net = auto.from_config(config, dtype=torch.float32)
        else:
            try:
                net = auto.from_config(config, attn_implementation=attention.NAME, dtype=torch.float32)
            except ValueError as error:
                if "att" not in str(error).lower():
                    raise
                net = auto.from_config(config, dtype=torch.float32)
    net.tie_weights()  # it is part of the weights' initialisation, which was left out
    return net


def fake_policy(
    config: Any,
    adapter: Any = None,
    *,
    kind: str = "causal",
    labels: Sequence[str] = (),
    heads: Sequence[str] = (),
    lean: bool = True,
    layout: str | None = None,
    base: str = "",
    added: int = 0,
    drawn: bool = False,
) -> Any:
    """The door to a network with its adapter, as `model.load` would make it; without one, the network alone.

    lean    our own forward, where there is one
    base    nf4, int8 or streamed: how the frozen base is held
    layout  packed or padded; None = packed where the architecture takes our attention, and the adapter can be
    added   tokens whose rows train beside the adapter, as those of add_tokens;  drawn  see fake_network
    """
    net = fake_network(config, kind, labels, drawn=drawn)
    new = [name for name, _ in net.named_children() if kind == "classify" and name in ("score", "classifier")]
    if "value" in heads:
        net.add_module("value_head", nn.Linear(int(config.hidden_size), 1))
        for parameter in net.value_head.parameters():
            parameter.adapter = True
        new.append("value_head")
    net.new_heads = tuple(new)  # type: ignore[assignment]
    if base == "streamed":
        stream_network(net, torch.float32)
    elif base:
        quantise_network(net, base)
    if adapter is not None:
        adapter.attach(net, seed=0)
    for name in new:
        net.get_submodule(name).requires_grad_(True)
    if added:
        train_rows(net, range(added))  # any rows: all are as large
    if kind == "seq2seq":
        return Seq2Seq(net, pad_id=0)
    if kinds.family(config) == "encoder":
        return Encoder(net, pad_id=0, exact_head=True)
    padded = bool(getattr(adapter, "padded", ""))
    ours = getattr(config, "_attn_implementation", None) == attention.NAME and not padded
    return Policy(net, layout=layout or ("packed" if ours else "padded"), lean=lean and not padded)
