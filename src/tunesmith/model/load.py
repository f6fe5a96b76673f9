"""Load a language model from a folder, a Hugging Face name, or by the name of an embedded one.

    model = load("mini")
    model.net         # a transformers causal LM, attention replaced by ours where the architecture lets us
    model.tokenizer   # tunesmith.text Tokenizer
    load("mini", kind="classify", labels=("sport", "politics"))    # the same body under a new head; see kinds.py
    load("mini", rope={"kind": "yarn", "factor": 4})               # reads four times as far; see rope.py

Only safetensors are read and no code that comes with a model is run.
"""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from tunesmith.core.errors import ModelError
from tunesmith.core.names import nearest
from tunesmith.model import embedded, formats, kinds, mapped, packed, stream
from tunesmith.model.encoder import Encoder
from tunesmith.model.policy import Policy
from tunesmith.model.prove import Proof, prove
from tunesmith.model.rope import stretch
from tunesmith.model.seq2seq import Seq2Seq
from tunesmith.model.virtual import hidden_places, virtual_ids
from tunesmith.text.tokenizer import Tokenizer, byte_tokenizer

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16, "fp64": torch.float64}
NAMES = embedded.ALL


@dataclass(eq=False)
class Model:
    """A network with its tokenizer. `adapter` is what was attached, if anything; `facts` what was found at load.

    kind    what it was loaded as: causal | classify | masked | seq2seq | embed (see kinds.py)
    labels  names of a classifier's scores, in their order
    facts   "heads": modules that are new, drawn from the seed; "system": the system message its run was trained with
    """

    net: nn.Module
    tokenizer: Tokenizer
    name: str
    proof: Proof
    source: Path | None = None
    adapter: Any = None
    facts: dict[str, Any] = field(default_factory=dict)
    kind: str = "causal"
    labels: tuple[str, ...] = ()

    @property
    def context(self) -> int:
        """How many tokens the model can read, besides those that a soft prompt or a prefix takes."""
        config = self.net.config
        places = getattr(config, "max_position_embeddings", None) or getattr(config, "n_positions", None) or 1 << 20
        table = getattr(getattr(self.net.base_model, "embeddings", None), "position_embeddings", None)
        if getattr(table, "padding_idx", None) is not None:  # RoBERTa counts from behind the padding's number
            places -= table.padding_idx + 1
        return int(places) - len(virtual_ids(self.net)) - hidden_places(self.net)

    @property
    def policy(self) -> Policy | Encoder | Seq2Seq:
        """The door objectives use."""
        pad_id = self.tokenizer.pad if self.tokenizer.pad is not None else 0
        proof = self.proof
        if self.kind == "seq2seq":
            return Seq2Seq(self.net, pad_id=pad_id)
        if proof.both_ways:
            return Encoder(self.net, pad_id=pad_id, exact_head=proof.exact_head)
        return Policy(self.net, layout=proof.layout, pad_id=pad_id, exact_head=proof.exact_head, lean=proof.lean)

    def answer(
        self,
        asked: "str | Sequence[Mapping[str, Any]]",
        *,
        max_tokens: int = 256,
        temperature: float = 0.0,
        top_p: float = 1.0,
        stop: "str | Sequence[str]" = (),
        seed: int = 0,
    ) -> str:
        """What a causal model says to a text, or to a conversation of {"role", "content"} messages, as `tunesmith chat` asks it.

        A text stands alone, put into the templates of the run it was trained in (facts["asking"]: data/asked.py).

        model.answer("What is 2 + 2?", temperature=0.7, seed=1) -> "4"
        """
        from tunesmith.data.asked import Asking
        from tunesmith.model.answer import reply
        from tunesmith.text.encode import Text

        messages = self.facts.get("asking", Asking()).messages(asked) if isinstance(asked, str) else list(asked)
        found = reply(
            self, Text(self.tokenizer), messages, max_tokens=max_tokens, temperature=temperature, top_p=top_p, stop=stop,
            seed=seed,
        )  # fmt: skip
        return found.text


def load(
    name: str | Path,
    *,
    kind: str = "causal",
    labels: Sequence[str] = (),
    problem: str = "single",
    dtype: str = "fp32",
    device: str = "cpu",
    seed: int = 0,
    rope: Mapping[str, Any] | None = None,
    base: str = "",
) -> Model:
    """Load `name` as a network of `kind`: causal, classify, masked, seq2seq or embed.

    labels   names of a classifier's scores; () takes those its folder names
    problem  single (one label a text), multi (any number of them) or regression (a number)
    dtype    fp32, bf16, fp16 or fp64
    seed     fixes the weights of models made on the spot (`pico`) and of new heads
    rope     {"kind", "factor"}: a longer context, see rope.py
    base     nf4 or int8: the body's matrices in four or eight bits, frozen; see packed.py. streamed: in their file; see stream.py

    Raises ModelError when there is no such model, its weights are not safetensors or it cannot be of that kind.
    """
    kinds.check_kind(kind, labels, problem)
    if dtype not in DTYPES:
        raise ModelError(f"precision {dtype!r} is not known", wanted=f"One of {', '.join(DTYPES)}.")
    wanted: dict[str, Any] = {"kind": kind, "labels": tuple(labels), "problem": problem, "seed": seed, "rope": rope}
    if str(name) in embedded.CONFIGS:
        config_of, tokenizer = embedded.CONFIGS[str(name)], byte_tokenizer()
        if str(name) == "mini-encoder":
            tokenizer = Tokenizer(embedded.folder("mini"))
        if str(name) != "pico":
            embedded.speak_as(tokenizer, str(name))
        return _on(fresh(config_of, tokenizer, name=str(name), dtype=dtype, device=device, **wanted), base)
    source = find(name)
    tokenizer = read_tokenizer(source)
    streamed = base == "streamed"
    net, heads = kinds.read(source, mapped.stored_dtype(source) if streamed else DTYPES[dtype], **wanted)
    if streamed and not packed.is_quantised(net):
        net.new_heads = tuple(heads)  # type: ignore[assignment]
        stream.stream_network(net, DTYPES[dtype])
    check_vocabulary(net, tokenizer, str(name))
    if not packed.is_quantised(net) and (lost := formats.loss_of_loading(source, DTYPES[dtype])):
        warnings.warn(formats.warning(lost, str(name)), stacklevel=2)
    if base in packed.KINDS and not packed.is_quantised(net):
        net.new_heads = tuple(heads)  # type: ignore[assignment]
        packed.quantise_network(net, base, device=device)
    return _on(_model(net.to(device), tokenizer, str(name), source, kind, heads), base)


def _on(model: Model, base: str) -> Model:
    """The model with its base in another format: "" as it is, nf4 or int8. What is streamed, `load` has left in its file."""
    if base not in ("", "streamed", *packed.KINDS):
        known = ", ".join((*packed.KINDS, "streamed"))
        raise ModelError(f"base: {base} is not known", wanted=f"{known}, or nothing for the weights as they are.")
    found = packed.kind_of(model.net)
    if base and found not in ("", base):
        raise ModelError(
            f"{model.name} is quantised as {found} already: it cannot become {base}", fix="Leave base out."
        )
    if base == "streamed" and not found:
        raise ModelError(
            f"{model.name} is made on the spot: there is no file to read its base from",
            fix="Leave base out: it is small.",
        )
    if base and not found:
        model.net.new_heads = tuple(model.facts["heads"])  # type: ignore[assignment]
        packed.quantise_network(model.net, base)
    return model


def fresh(
    config_of: Any,
    tokenizer: Tokenizer,
    *,
    name: str,
    dtype: str = "fp32",
    device: str = "cpu",
    seed: int = 0,
    kind: str = "causal",
    labels: Sequence[str] = (),
    problem: str = "single",
    rope: Mapping[str, Any] | None = None,
) -> Model:
    """A model with random weights drawn from `seed`; `config_of(vocab_size)` gives its architecture."""
    config = config_of(tokenizer.vocab_size) if callable(config_of) else config_of
    if rope:
        stretch(config, **rope)
    net, heads = kinds.make(config, DTYPES[dtype], kind, labels, problem, seed)
    return _model(net.to(device), tokenizer, name, None, kind, heads)


def _model(net: nn.Module, tokenizer: Tokenizer, name: str, source: Path | None, kind: str, heads: list[str]) -> Model:
    kinds.set_up_tokenizer(tokenizer, net, kind)
    labels = kinds.labels_of(net.config) if kind == "classify" else ()
    proof = prove(net, kind)
    return Model(net, tokenizer, name, proof, source, facts={"heads": heads}, kind=kind, labels=labels)


def made_as(name: str | Path) -> str:
    """The kind of network that a model by name is, unless it is loaded as another: pico-t5 seq2seq, a saved folder what it says."""
    if str(name) in embedded.CONFIGS:
        config = embedded.CONFIGS[str(name)](byte_tokenizer().vocab_size)
        return kinds.NATIVE[kinds.family(config)]
    return kinds.kind_of(find(name))


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
    close = nearest(str(name), [*NAMES, *(p.name for p in folder.parent.glob("*") if p.is_dir())])
    raise ModelError(
        f"there is no model {str(name)!r}: no such folder, no embedded model of that name",
        wanted=f"Nearest: {', '.join(close)}." if close else "",
        fix=f"Give a folder, {' or '.join(NAMES)}, or a Hugging Face name such as owner/model.",
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


def check_vocabulary(net: nn.Module, tokenizer: Tokenizer, name: str) -> None:
    """Refuse a tokenizer with more ids than the model has rows."""
    rows = net.get_input_embeddings().weight.shape[0]
    if tokenizer.vocab_size > rows:
        raise ModelError(
            f"the tokenizer of {name} has {tokenizer.vocab_size} ids, its model only {rows} rows",
            fix="Use the tokenizer the model was trained with, or add rows by adding tokens through Tunesmith.",
        )
