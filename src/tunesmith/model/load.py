"""Load a language model from a folder, a Hugging Face name, or by the name of an embedded one.

    model = load("mini")
    model.net         # a transformers causal LM, attention replaced by ours where the architecture lets us
    model.tokenizer   # tunesmith.text Tokenizer

Only safetensors are read and no code that comes with a model is run.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from tunesmith.core.errors import ModelError
from tunesmith.core.names import nearest
from tunesmith.model import attention, embedded
from tunesmith.model.policy import Policy
from tunesmith.model.prove import Proof, prove
from tunesmith.model.save import quietly
from tunesmith.text.tokenizer import Tokenizer, byte_tokenizer

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16, "fp64": torch.float64}


@dataclass(eq=False)
class Model:
    """A network with its tokenizer. `adapter` is what was attached, if anything; `facts` what was proved at load."""

    net: nn.Module
    tokenizer: Tokenizer
    name: str
    proof: Proof
    source: Path | None = None
    adapter: Any = None
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def context(self) -> int:
        """How many tokens the model can read."""
        config = self.net.config
        return int(getattr(config, "max_position_embeddings", None) or getattr(config, "n_positions", None) or 1 << 20)

    @property
    def policy(self) -> Policy:
        """The door objectives use."""
        pad_id = self.tokenizer.pad if self.tokenizer.pad is not None else 0
        proof = self.proof
        return Policy(self.net, layout=proof.layout, pad_id=pad_id, exact_head=proof.exact_head, lean=proof.lean)


def load(name: str | Path, *, dtype: str = "fp32", device: str = "cpu", seed: int = 0) -> Model:
    """Load `name`. dtype: fp32, bf16, fp16 or fp64; `seed` fixes the weights of models made on the spot (`pico`).

    Raises ModelError when there is no such model, its weights are not safetensors or it is not a causal LM.
    """
    if dtype not in DTYPES:
        raise ModelError(f"precision {dtype!r} is not known", wanted=f"One of {', '.join(DTYPES)}.")
    if str(name) == "pico":
        return fresh(embedded.pico_config, byte_tokenizer(), name="pico", dtype=dtype, device=device, seed=seed)
    source = find(name)
    tokenizer = read_tokenizer(source)
    net = read_network(source, DTYPES[dtype]).to(device)
    check_vocabulary(net, tokenizer, str(name))
    return Model(net, tokenizer, str(name), prove(net), source)


def fresh(
    config_of: Any, tokenizer: Tokenizer, *, name: str, dtype: str = "fp32", device: str = "cpu", seed: int = 0
) -> Model:
    """A model with random weights drawn from `seed`; `config_of(vocab_size)` gives its architecture."""
    from transformers import AutoModelForCausalLM

    config = config_of(tokenizer.vocab_size) if callable(config_of) else config_of
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = AutoModelForCausalLM.from_config(config, attn_implementation=attention.NAME)
    net = net.to(device=device, dtype=DTYPES[dtype]).eval()
    return Model(net, tokenizer, name, prove(net))


def find(name: str | Path) -> Path:
    """The folder a name stands for: an embedded model, a folder, or a snapshot from the Hugging Face hub."""
    if str(name) in embedded.NAMES:
        folder = embedded.folder(str(name))
        if not (folder / "model.safetensors").exists():
            raise ModelError(
                f"the embedded model {name} has no weights in this installation ({folder})",
                fix="Install the released wheel, or train it: python recipes/mini/train.py",
            )
        return folder
    folder = Path(name)
    if folder.is_dir():
        if not (folder / "config.json").exists():
            raise ModelError(f"{folder} is no model folder: it has no config.json", wanted="A folder with config.json.")
        return folder
    if str(name).count("/") == 1 and not str(name).startswith((".", "/", "~")):
        return _from_hub(str(name))
    close = nearest(str(name), [*embedded.NAMES, *(p.name for p in folder.parent.glob("*") if p.is_dir())])
    raise ModelError(
        f"there is no model {str(name)!r}: no such folder, no embedded model of that name",
        wanted=f"Nearest: {', '.join(close)}." if close else "",
        fix=f"Give a folder, {' or '.join(embedded.NAMES)}, or a Hugging Face name such as owner/model.",
    )


def _from_hub(name: str) -> Path:
    from huggingface_hub import snapshot_download

    patterns = ["*.safetensors", "*.json", "*.jinja", "*.model", "tokenizer*", "README.md", "LICENSE*"]
    try:
        return Path(snapshot_download(name, allow_patterns=patterns))
    except Exception as error:  # the hub raises a dozen kinds; all mean the same to the user
        raise ModelError(
            f"{name} could not be had from the Hugging Face hub: {type(error).__name__}: {str(error).splitlines()[0]}",
            fix="Check the name and the network, or give the folder of a model that is already here.",
        ) from error


def read_tokenizer(source: Path) -> Tokenizer:
    """The tokenizer in a model folder; one without tokenizer.json is converted once, through transformers."""
    if (source / "tokenizer.json").exists():
        return Tokenizer(source)
    import tempfile

    from transformers import AutoTokenizer

    try:
        slow = AutoTokenizer.from_pretrained(source, trust_remote_code=False)
        with tempfile.TemporaryDirectory() as converted:
            slow.save_pretrained(converted)
            return Tokenizer(Path(converted))
    except Exception as error:
        raise ModelError(
            f"{source} has no tokenizer.json and it cannot be converted: {error}",
            fix="Save the tokenizer with transformers' PreTrainedTokenizerFast.save_pretrained into that folder.",
        ) from error


def read_network(source: Path, dtype: torch.dtype) -> nn.Module:
    """The causal LM in a folder, in evaluation mode. Only safetensors, never code."""
    from transformers import AutoConfig, AutoModelForCausalLM

    if not list(source.glob("*.safetensors")):
        other = sorted(p.name for pattern in ("*.bin", "*.pt", "*.pth", "*.ckpt") for p in source.glob(pattern))
        raise ModelError(
            f"{source} has no safetensors weights" + (f", only {', '.join(other[:3])}" if other else ""),
            wanted="Weights as *.safetensors: other formats can run code when they are read.",
            fix="Convert them once with transformers: model.save_pretrained(folder, safe_serialization=True).",
        )
    quietly()
    try:
        config = AutoConfig.from_pretrained(source, trust_remote_code=False)
        if getattr(config, "is_encoder_decoder", False):
            raise ModelError(
                f"{source} holds an encoder-decoder ({config.model_type}), not a causal language model",
                wanted="A decoder, which predicts each token from those before it.",
            )
        settings: dict[str, Any] = {
            "dtype": dtype, "use_safetensors": True, "trust_remote_code": False, "output_loading_info": True
        }  # fmt: skip
        try:
            net, told = AutoModelForCausalLM.from_pretrained(source, attn_implementation=attention.NAME, **settings)
        except ValueError as error:
            if "attention" not in str(error).lower() and "attn" not in str(error).lower():
                raise
            net, told = AutoModelForCausalLM.from_pretrained(
                source, **settings
            )  # it keeps its own attention: run padded
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        raise ModelError(f"{source} cannot be loaded as a causal language model: {_first_line(error)}") from error
    except Exception as error:  # SafetensorError has no public base class
        if "safetensor" in type(error).__name__.lower():
            raise ModelError(
                f"the weights in {source} are damaged: {_first_line(error)}", fix="Fetch or save the model again."
            ) from error
        raise
    if missing := sorted(told["missing_keys"]):  # transformers fills them with random numbers and only warns
        raise ModelError(
            f"the weights in {source} lack {len(missing)} of {type(net).__name__}'s, such as {', '.join(missing[:3])}",
            wanted="All weights of a causal language model, its head included.",
        )
    return net.eval()


def check_vocabulary(net: nn.Module, tokenizer: Tokenizer, name: str) -> None:
    """Refuse a tokenizer with more ids than the model has rows."""
    rows = net.get_input_embeddings().weight.shape[0]
    if tokenizer.vocab_size > rows:
        raise ModelError(
            f"the tokenizer of {name} has {tokenizer.vocab_size} ids, its model only {rows} rows",
            fix="Use the tokenizer the model was trained with, or add rows by adding tokens through Tunesmith.",
        )


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
