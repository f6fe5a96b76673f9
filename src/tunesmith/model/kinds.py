"""What a network is loaded as: the body of a checkpoint, and the head that its task wants.

    causal    predicts the next token                                        AutoModelForCausalLM
    classify  one score a label, from the last token or the first            AutoModelForSequenceClassification
    masked    predicts the tokens that are hidden (BERT)                     AutoModelForMaskedLM
    seq2seq   reads one text, writes another (T5, BART)                      AutoModelForSeq2SeqLM
    embed     the body alone, whose states are made into one vector a text   AutoModel

    net, heads = read(folder, torch.float32, kind="classify", labels=("sport", "politics"), seed=1)

Body weights are the checkpoint's. A head that the checkpoint lacks is drawn from `seed`, and its name is in `heads`.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from tunesmith.core.errors import ModelError
from tunesmith.core.names import nearest
from tunesmith.model import attention, packed_files
from tunesmith.model.rope import stretch
from tunesmith.model.save import quietly
from tunesmith.text.tokenizer import Tokenizer

KINDS: Mapping[str, tuple[str, str]] = {
    "causal": ("AutoModelForCausalLM", "a causal language model"),
    "classify": ("AutoModelForSequenceClassification", "a classifier"),
    "masked": ("AutoModelForMaskedLM", "a masked language model"),
    "seq2seq": ("AutoModelForSeq2SeqLM", "an encoder-decoder"),
    "embed": ("AutoModel", "a body without a head"),
}
PROBLEMS: Mapping[str, str] = {
    "single": "single_label_classification",
    "multi": "multi_label_classification",
    "regression": "regression",
}


# a family -> the kind of network that its own pre-training makes
NATIVE: Mapping[str, str] = {"decoder": "causal", "encoder": "masked", "encoder-decoder": "seq2seq"}


def family(config: Any) -> str:
    """encoder | decoder | encoder-decoder, from a transformers configuration."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES as MASKED

    if getattr(config, "is_encoder_decoder", False):
        return "encoder-decoder"
    return "encoder" if config.model_type in MASKED and not getattr(config, "is_decoder", False) else "decoder"


def check_kind(kind: str, labels: Sequence[str], problem: str) -> None:
    """Refuse what is no kind, no problem, or labels that cannot be told apart."""
    if kind not in KINDS:
        close = nearest(kind, KINDS)
        raise ModelError(f"kind {kind!r} is not known", wanted=f"One of {', '.join(close or KINDS)}.")
    if problem not in PROBLEMS:
        raise ModelError(f"problem {problem!r} is not known", wanted=f"One of {', '.join(PROBLEMS)}.")
    if len(set(labels)) < len(labels):
        twice = next(label for number, label in enumerate(labels) if label in labels[:number])
        raise ModelError(f"label {twice!r} is given twice", wanted="Each label once.")
    if problem == "regression" and len(labels) > 1:
        raise ModelError(f"regression has one number, not {len(labels)}", wanted="One label, the name of the number.")


def check_family(config: Any, kind: str, where: str) -> None:
    """Refuse a body that cannot do what is asked of it."""
    found = family(config)
    if kind == "seq2seq" and found != "encoder-decoder":
        raise ModelError(
            f"{where} holds {_a(found)} ({config.model_type}), not an encoder-decoder",
            wanted="A model that reads one text and writes another, such as T5 or BART.",
        )
    if kind != "seq2seq" and found == "encoder-decoder":
        raise ModelError(
            f"{where} holds an encoder-decoder ({config.model_type}), not {KINDS[kind][1]}",
            wanted="A decoder, which predicts each token from those before it."
            if kind == "causal"
            else "A decoder or an encoder.",
            fix="Train it with method=seq2seq.",
        )
    if kind == "masked" and found != "encoder":
        raise ModelError(
            f"{where} holds a decoder ({config.model_type}), which never sees the words after a hidden one",
            wanted="An encoder, such as BERT or RoBERTa.",
            fix="For a decoder: method=pretrain.",
        )


def labels_of(config: Any) -> tuple[str, ...]:
    """The names of a configuration's labels, in the order of its scores; () where they were never named."""
    names = getattr(config, "id2label", None) or {}
    found = tuple(str(names[number]) for number in sorted(names))
    return () if found == tuple(f"LABEL_{number}" for number in range(len(found))) else found


def kind_of(place: str | Path) -> str:
    """What a saved model folder was saved as, from its config.json; causal for anything else."""
    path = Path(place) / "config.json"
    if not path.is_file():
        return "causal"
    config = json.loads(path.read_text(encoding="utf-8"))
    if config.get("is_encoder_decoder"):
        return "seq2seq"
    made = next(iter(config.get("architectures") or ()), "")
    endings = {
        "ForSequenceClassification": "classify",
        "ForMaskedLM": "masked",
        "LMHeadModel": "causal",
        "Model": "embed",
    }
    return next((kind for ending, kind in endings.items() if made.endswith(ending)), "causal")


def name_labels(config: Any, labels: Sequence[str], problem: str) -> None:
    """Write label names and the problem into a configuration, where plain transformers looks for them.

    One label alone is a number, such as a reward: transformers' pipelines then give it as it is.
    """
    problem = "regression" if len(labels) == 1 and problem == "single" else problem
    config.id2label = dict(enumerate(labels))
    config.label2id = {label: number for number, label in enumerate(labels)}
    config.problem_type = PROBLEMS[problem]


def read(
    source: Path,
    dtype: torch.dtype,
    kind: str = "causal",
    labels: Sequence[str] = (),
    problem: str = "single",
    seed: int = 0,
    rope: Mapping[str, Any] | None = None,
) -> tuple[nn.Module, list[str]]:
    """(the network in a folder as `kind`, in evaluation mode; names of the modules that are new). Only safetensors, never code.

    labels () takes a classifier's own. The same labels in another order keep the checkpoint's order; others give a new head.
    """
    from transformers import AutoConfig

    weights = list(source.glob("*.safetensors"))
    if not weights:
        other = sorted(p.name for pattern in ("*.bin", "*.pt", "*.pth", "*.ckpt") for p in source.glob(pattern))
        raise ModelError(
            f"{source} has no safetensors weights" + (f", only {', '.join(other[:3])}" if other else ""),
            wanted="Weights as *.safetensors: other formats can run code when they are read.",
            fix="Convert them once with transformers: model.save_pretrained(folder, safe_serialization=True).",
        )
    with _named_failures(source, kind):
        config = AutoConfig.from_pretrained(source, trust_remote_code=False)
        check_family(config, kind, str(source))
        if rope:
            stretch(config, **rope)
        fresh_head = False
        if kind == "classify":
            own = labels_of(config)
            if not (labels or own):
                raise ModelError(
                    f"{source} names no labels", wanted="A classifier's folder, or labels for a new head.",
                    fix="Give them: load(name, kind='classify', labels=(...)).",
                )  # fmt: skip
            fresh_head = bool(labels) and set(labels) != set(own)
            if fresh_head or not own:
                name_labels(config, labels, problem)
        settings: dict[str, Any] = {
            "config": config, "dtype": dtype, "use_safetensors": True, "trust_remote_code": False, "output_loading_info": True,
        }  # fmt: skip
        if fresh_head:
            settings["ignore_mismatched_sizes"] = True
        net, told = _from_pretrained(source, kind, settings)
    body = net.base_model_prefix + "."
    lacking = sorted({*told["missing_keys"], *(key for key, *_ in told.get("mismatched_keys", ()))})
    lost = [key for key in lacking if _in_body(key, body, kind)]
    if lost or (
        lacking and kind in ("causal", "seq2seq")
    ):  # transformers fills them with random numbers and only warns
        bad = lost or lacking
        raise ModelError(
            f"the weights in {source} lack {len(bad)} of {type(net).__name__}'s, such as {', '.join(bad[:3])}",
            wanted=f"All weights of {KINDS[kind][1]}" + (", its head included." if kind == "causal" else "."),
        )
    if fresh_head:
        lacking = sorted({*lacking, *(name for name, _ in net.named_parameters() if not name.startswith(body))})
    return net.eval(), new_heads(net, lacking, seed)


def _in_body(key: str, body: str, kind: str) -> bool:
    """Whether a parameter belongs to what a checkpoint must bring. A pooler is part of the head: masked models have none."""
    return (kind == "embed" or key.startswith(body)) and "pooler" not in key


def _from_pretrained(source: Path, kind: str, settings: dict[str, Any]) -> tuple[nn.Module, dict[str, Any]]:
    import transformers

    auto = getattr(transformers, KINDS[kind][0])
    packed = packed_files.kind_of_folder(source)

    def load(**own: Any) -> tuple[nn.Module, dict[str, Any]]:
        if packed:
            return packed_files.read(auto, source, packed, {**settings, **own})
        return auto.from_pretrained(source, **settings, **own)

    with silent():
        if kind == "seq2seq":
            return load()
        try:
            return load(attn_implementation=attention.NAME)
        except ValueError as error:
            if "attention" not in str(error).lower() and "attn" not in str(error).lower():
                raise
            return load()  # it keeps its own attention: run padded


def make(
    config: Any,
    dtype: torch.dtype = torch.float32,
    kind: str = "causal",
    labels: Sequence[str] = (),
    problem: str = "single",
    seed: int = 0,
) -> tuple[nn.Module, list[str]]:
    """A network with weights drawn from `seed`; the body's are the same whatever the kind."""
    import transformers

    native = NATIVE[family(config)]
    check_family(config, kind, "this configuration")
    if kind == "classify":
        if not labels:
            raise ModelError(
                "a new classifier has no labels", fix="Give them: load(name, kind='classify', labels=(...))."
            )
        name_labels(config, labels, problem)

    def build(wanted: str) -> nn.Module:
        auto = getattr(transformers, KINDS[wanted][0])
        own = {} if wanted == "seq2seq" else {"attn_implementation": attention.NAME}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return auto.from_config(config, **own).to(dtype).eval()

    net = build(kind)
    if kind == native:
        return net, []
    told = net.base_model.load_state_dict(build(native).base_model.state_dict(), strict=False)
    prefix = "" if net.base_model is net else net.base_model_prefix + "."
    lacking = [prefix + key for key in told.missing_keys]
    if prefix:
        lacking += [name for name, _ in net.named_parameters() if not name.startswith(prefix)]
    return net, new_heads(net, lacking, seed)


@torch.no_grad()
def new_heads(net: nn.Module, names: Sequence[str], seed: int) -> list[str]:
    """Draw the parameters of `names` afresh from `seed` alone: N(0, initializer_range), biases 0, norms 1. Their modules' names."""
    generator = torch.Generator().manual_seed(seed)
    std = float(getattr(net.config, "initializer_range", 0.02))
    parameters = dict(net.named_parameters())
    for name in sorted(names):
        parameter = parameters.get(name)
        if parameter is None:
            continue
        if parameter.dim() > 1:
            drawn = torch.empty(parameter.shape, dtype=torch.float32).normal_(0.0, std, generator=generator)
            parameter.copy_(drawn)
        else:
            parameter.fill_(0.0 if name.endswith("bias") else 1.0)
    return sorted({name.rsplit(".", 1)[0] for name in names})


def set_up_tokenizer(tokenizer: Tokenizer, net: nn.Module, kind: str) -> None:
    """Make plain transformers read what we read: a pad token that ends no text, and a separator between the texts of a pair.

    Written with the tokenizer when the model is saved. Only for decoders that classify or embed; encoders bring both.
    """
    if kind not in ("classify", "embed"):
        return
    config = net.config
    if family(config) == "decoder":
        _separate_pairs(tokenizer)
        _own_padding(tokenizer)
        tokenizer.config["model_input_names"] = ["input_ids", "attention_mask"]  # decoders know no token types
    config.pad_token_id = tokenizer.pad


def _separate_pairs(tokenizer: Tokenizer) -> None:
    """Give a tokenizer that sets nothing between the two texts of a pair the separator: prefix A separator B suffix."""
    one, two = (tokenizer.encode(text) for text in ("a", "b"))
    whole = tokenizer.backend.encode("a", "b", add_special_tokens=True).ids
    before, after = list(tokenizer.prefix_ids), list(tokenizer.suffix_ids)
    if whole not in ([*one, *two], [*before, *one, *two, *after], [*before, *one, *before, *two]):
        return
    words = ["<|sep|>", *(_word(tokenizer, name) for name in ("sep_token", "eos_token"))]
    separator = next((word for word in words if word and tokenizer.id_of(word) is not None), None)
    if separator is None:
        raise ModelError(
            "this tokenizer has no token to set between two texts", fix="Give it a sep_token in tokenizer_config.json."
        )
    front, back = tokenizer.tokens(before), tokenizer.tokens(after)
    tokenizer.set_around([*front, "$A", *back], [*front, "$A", separator, "$B:0", *back])


def _word(tokenizer: Tokenizer, name: str) -> str | None:
    """A named token's text, as tokenizer_config.json holds it."""
    value = tokenizer.config.get(name)
    return value.get("content") if isinstance(value, Mapping) else value


def _own_padding(tokenizer: Tokenizer) -> None:
    """Choose a pad token that is not the end of a text: transformers finds the last token by looking for the padding."""
    if tokenizer.pad is not None and tokenizer.pad != tokenizer.eos and tokenizer.pad not in tokenizer.suffix_ids:
        return
    known = tokenizer.control_tokens
    better = next((name for name in known if "pad" in name.lower() and known[name] != tokenizer.eos), None)
    if better is None:
        unknown = _word(tokenizer, "unk_token")
        better = unknown if unknown and tokenizer.id_of(unknown) not in (None, tokenizer.eos) else None
    if better is not None:
        tokenizer.config["pad_token"] = better
        tokenizer.refresh()


@contextmanager
def silent() -> Iterator[None]:
    """transformers reports every key it did not find; what matters of it is checked by us."""
    from transformers.utils import logging

    quietly()
    level = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(level)


@contextmanager
def _named_failures(source: Path, kind: str) -> Iterator[None]:
    """Say in one line what transformers could not do with a folder."""
    try:
        yield
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        raise ModelError(f"{source} cannot be loaded as {KINDS[kind][1]}: {_first_line(error)}") from error
    except Exception as error:  # SafetensorError has no public base class
        if "safetensor" in type(error).__name__.lower():
            raise ModelError(
                f"the weights in {source} are damaged: {_first_line(error)}", fix="Fetch or save the model again."
            ) from error
        raise


def _a(word: str) -> str:
    return f"an {word}" if word[0] in "aeiou" else f"a {word}"


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
