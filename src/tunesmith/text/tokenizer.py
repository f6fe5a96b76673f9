"""Words to ids and back: one tokenizer, read from and written to the files every Hugging Face model folder has.

    tokenizer = Tokenizer("some/model/folder")   # tokenizer.json, tokenizer_config.json, chat_template.jinja, ...
    tokenizer.encode("안녕 world")                       # plain text: control tokens typed in it stay plain text
    tokenizer.encode("<|user|>hi<|end|>", special=True)  # here they become control tokens
    tokenizer.save("elsewhere")                          # loads in transformers.AutoTokenizer with equal ids

No torch, no transformers: importing AutoTokenizer costs seconds.
"""

import json
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers
from tokenizers import AddedToken, decoders, models, pre_tokenizers, processors

from tunesmith.core.errors import DataError, ModelError, SettingError

# The control tokens of `mini` and `pico`, first in the vocabulary and in this order. The reserved ones keep the
# vocabulary's size when a later version of the model needs another.
CONTROL_TOKENS = (
    "<|endoftext|>", "<|system|>", "<|user|>", "<|assistant|>", "<|tool|>", "<|end|>", "<|think|>", "<|/think|>",
    "<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>", "<|mask|>", "<|sep|>", "<|cls|>", "<|pad|>",
    *(f"<|reserved_{number}|>" for number in range(17)),
)  # fmt: skip

# What `mini` and `pico` speak. Reasoning stands before the answer, tool calls after it, all inside one turn.
CHAT_TEMPLATE = (
    "{%- if tools %}{{ '<|system|>Tools: ' + (tools | tojson) + '<|end|>' }}{% endif %}"
    "{%- for message in messages %}"
    "{%- if message.role not in ['system', 'user', 'assistant', 'tool'] %}"
    "{{- raise_exception('Unknown role: ' + message.role) }}{% endif %}"
    "{{- '<|' + message.role + '|>' }}"
    "{%- if message.role == 'assistant' %}"
    "{%- if message.reasoning_content %}{{- '<|think|>' + message.reasoning_content + '<|/think|>' }}{% endif %}"
    "{%- if message.content %}{{- message.content }}{% endif %}"
    "{%- for call in message.tool_calls or [] %}{{- '<|tool|>' + ({'name': call.function.name, "
    "'arguments': call.function.arguments} | tojson) }}{% endfor %}"
    "{{- '<|end|>' }}"
    "{%- else %}{{- message.content + '<|end|>' }}{% endif %}"
    "{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|assistant|>' }}{% endif %}"
)

NAMED_TOKENS = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")

# Whole words with their leading space, letters together with their combining marks, digits one by one.
WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{M}\p{N}]?[\p{L}\p{M}]+|\p{N}"
    r"| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


@dataclass(frozen=True, eq=False)
class TextBatch:
    """Several texts as one rectangle. All arrays are int64, shape (batch, time)."""

    ids: np.ndarray
    attention_mask: np.ndarray  # 1 = token, 0 = padding
    token_type_ids: np.ndarray  # 0 = first text and padding, 1 = second text of a pair


class Tokenizer:
    """A thin wrapper over `tokenizers.Tokenizer` and the small files that stand beside it.

    bos, eos, pad   ids, or None where the model has none (`pad` falls back to `eos`)
    mask            id of the token that stands for a hidden one, or None
    eos_ids         every id that ends an answer: the tokenizer's own and those of generation_config.json
    chat_template   the jinja source, or None; `chat_templates` holds all named ones
    adds_bos        True when raw text gets a BOS in front (the model was trained so)
    """

    def __init__(
        self,
        source: str | Path | tokenizers.Tokenizer,
        *,
        config: Mapping[str, Any] | None = None,
        chat_template: str | Mapping[str, str] | None = None,
        generation: Mapping[str, Any] | None = None,
    ) -> None:
        """Read a folder, or wrap a backend with the contents of tokenizer_config.json and generation_config.json."""
        self.folder: Path | None = None
        if isinstance(source, tokenizers.Tokenizer):
            self.backend = source
            self.config = dict(config or {})
            self.generation = dict(generation or {})
            templates = {"default": chat_template} if isinstance(chat_template, str) else dict(chat_template or {})
        else:
            self.folder = Path(source)
            self.backend = _read_backend(self.folder)
            self.config = _read_config(self.folder)
            self.generation = _read_json(self.folder / "generation_config.json")
            templates = _read_templates(self.folder, self.config)
            if not self.generation:
                model = _read_json(self.folder / "config.json")
                self.generation = {key: model[key] for key in ("eos_token_id",) if model.get(key) is not None}
        self.config.pop("chat_template", None)
        self.chat_templates: dict[str, str] = templates
        _declare(self.backend, self.config, self.folder)
        self.backend.no_truncation()  # some published files cut at 128 tokens in silence
        self.backend.no_padding()
        _remember_words_only(self.backend)
        self._lock = threading.Lock()
        self.refresh()

    def __getstate__(self) -> dict[str, Any]:  # a lock does not travel to a worker
        return {name: value for name, value in self.__dict__.items() if name != "_lock"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _lock=threading.Lock())
        _remember_words_only(self.backend)

    def refresh(self) -> None:
        """Find named tokens and what is put around texts again, after `config` or the backend's post-processor changed."""
        self.bos_token, self.bos = self._special("bos_token")
        self.eos_token, self.eos = self._special("eos_token")
        self.pad_token, self.pad = self._special("pad_token")
        self.mask_token, self.mask = self._special("mask_token")
        if self.pad is None:
            self.pad_token, self.pad = self.eos_token, self.eos
        stops = self.generation.get("eos_token_id")
        stops = [] if stops is None else [stops] if isinstance(stops, int) else list(stops)
        self.eos_ids: tuple[int, ...] = tuple(dict.fromkeys(([] if self.eos is None else [self.eos]) + stops))
        added = self.backend.get_added_tokens_decoder()
        self.control_tokens: dict[str, int] = {token.content: id for id, token in added.items() if token.special}
        self.prefix_ids, self.suffix_ids = self._around()

    def _special(self, name: str) -> tuple[str | None, int | None]:
        value = self.config.get(name)
        text = value.get("content") if isinstance(value, dict) else value
        id = self.backend.token_to_id(text) if text else None
        return (text, id) if id is not None else (None, None)

    def _around(self) -> tuple[list[int], list[int]]:
        """The ids the post-processor puts before and after one raw text."""
        bare = self.backend.encode("a", add_special_tokens=False).ids
        full = self.backend.encode("a", add_special_tokens=True).ids
        for start in range(len(full) - len(bare) + 1):
            if full[start : start + len(bare)] == bare:
                return full[:start], full[start + len(bare) :]
        return [], []

    # -- words to ids -------------------------------------------------------------------------------------------

    def encode(self, text: str, special: bool = False) -> list[int]:
        """Ids of `text`, nothing added around it.

        special  True: names of control tokens in the text become those tokens (template text). False: they are
                 encoded as the characters they are, so that nobody can end a turn by typing `<|end|>`.
        """
        with self._lock:  # the switch belongs to the shared backend
            self.backend.encode_special_tokens = not special
            try:
                return self.backend.encode(text, add_special_tokens=False).ids
            except (UnicodeEncodeError, TypeError) as error:
                raise _bad_text([text]) or error from error

    def encode_many(self, texts: Sequence[str], special: bool = False) -> list[list[int]]:
        """`encode` for many texts at once, on all cores."""
        return [encoding.ids for encoding in self.encodings(texts, special=special)]

    def encodings(self, texts: Sequence[str], special: bool = False) -> list[tokenizers.Encoding]:
        """The backend's own encodings (ids, offsets in characters), nothing added around them."""
        with self._lock:
            self.backend.encode_special_tokens = not special
            try:
                return self.backend.encode_batch(list(texts), add_special_tokens=False)
            except (UnicodeEncodeError, TypeError) as error:
                raise _bad_text(texts) or error from error

    def encode_unadded(self, text: str) -> list[int]:
        """Ids of `text` by the model's pieces alone: no added token is matched, special or not."""
        if self.backend.normalizer is not None:
            text = self.backend.normalizer.normalize_str(text)
        words = [text]
        if self.backend.pre_tokenizer is not None:
            words = [word for word, _ in self.backend.pre_tokenizer.pre_tokenize_str(text)]
        return [token.id for word in words for token in self.backend.model.tokenize(word)]

    def around(self, text: str, second: str | None = None, *, most: int | None = None) -> tuple[list[int], list[int]]:
        """(ids, type ids) of a text or a pair with the model's own tokens around them; type 1 is the second text.

        most  cut to so many tokens, of a pair the longer text first

        BERT: around("a", "b") -> ids of [CLS] a [SEP] b [SEP], types 0 0 0 1 1
        """
        with self._lock:
            self.backend.encode_special_tokens = True
            if most is not None:
                self.backend.enable_truncation(most, strategy="longest_first")
            try:
                encoding = self.backend.encode(text, second, add_special_tokens=True)
            except (UnicodeEncodeError, TypeError) as error:
                raise _bad_text([text] if second is None else [text, second]) or error from error
            finally:
                self.backend.no_truncation()
        return encoding.ids, encoding.type_ids

    def decode(self, ids: Iterable[int], skip_special: bool = True) -> str:
        """Text of `ids`. skip_special leaves the control tokens out."""
        return self.backend.decode([int(id) for id in ids], skip_special_tokens=skip_special)

    def tokens(self, ids: Iterable[int]) -> list[str]:
        """The names of `ids` in the vocabulary, as `["토", "##크"]`."""
        return [self.backend.id_to_token(int(id)) or "" for id in ids]

    def id_of(self, token: str) -> int | None:
        """The id of a token by its name, or None."""
        return self.backend.token_to_id(token)

    def batch(
        self,
        texts: Sequence[str],
        pairs: Sequence[str] | None = None,
        *,
        padding: str = "longest",
        max_length: int | None = None,
        truncation: bool = False,
    ) -> TextBatch:
        """Texts (or pairs of texts) with the model's own tokens around them, as one rectangle padded on the right.

        padding     "longest" = to the longest text here; "max_length" = to max_length
        truncation  True cuts to max_length (of a pair, the longer text first); False refuses what is longer

        Tokenizer.batch(["a", "b c"]) -> ids [[2, 7, 3, 0], [2, 8, 9, 3]], attention_mask [[1, 1, 1, 0], [1, 1, 1, 1]]
        """
        if padding not in ("longest", "max_length"):
            raise SettingError(f"padding: {padding} is unknown.", wanted="Known: longest, max_length.")
        if max_length is None and (truncation or padding == "max_length"):
            raise SettingError("max_length is missing.", fix="Give max_length=... with truncation or padding to it.")
        if pairs is not None and len(pairs) != len(texts):
            raise DataError(f"{len(texts)} texts but {len(pairs)} second texts.")
        inputs: list[Any] = list(texts) if pairs is None else list(zip(texts, pairs, strict=True))
        with self._lock:
            self.backend.encode_special_tokens = True
            if truncation and max_length is not None:
                self.backend.enable_truncation(max_length, strategy="longest_first")
            try:
                encodings = self.backend.encode_batch(inputs, add_special_tokens=True)
            except (UnicodeEncodeError, TypeError) as error:
                raise _bad_text([*texts, *(pairs or [])]) or error from error
            finally:
                self.backend.no_truncation()
        longest = max((len(encoding) for encoding in encodings), default=0)
        if max_length is not None and longest > max_length:
            raise DataError(
                f"A text has {longest} tokens, max_length is {max_length}.", fix="Cut it: truncation=True, or raise it."
            )
        width = max_length if padding == "max_length" and max_length is not None else longest
        if self.pad is None and any(len(encoding) < width for encoding in encodings):
            raise ModelError("This tokenizer has no pad token and no eos token to pad with.")
        ids = np.full((len(encodings), width), self.pad or 0, dtype=np.int64)
        mask = np.zeros_like(ids)
        types = np.zeros_like(ids)
        for row, encoding in enumerate(encodings):
            ids[row, : len(encoding)] = encoding.ids
            mask[row, : len(encoding)] = 1
            types[row, : len(encoding)] = encoding.type_ids
        return TextBatch(ids, mask, types)

    # -- facts --------------------------------------------------------------------------------------------------

    @property
    def vocab_size(self) -> int:
        """Number of ids, added tokens included."""
        return self.backend.get_vocab_size(with_added_tokens=True)

    @property
    def chat_template(self) -> str | None:
        """The template used for chat, or None."""
        return self.chat_templates.get("default")

    @property
    def adds_bos(self) -> bool:
        """Whether raw text gets a BOS in front."""
        return self.bos is not None and self.prefix_ids[:1] == [self.bos]

    # -- change and save ----------------------------------------------------------------------------------------

    def add_tokens(self, tokens: Sequence[str], special: bool = True) -> int:
        """Add tokens at the end of the vocabulary; returns how many were new."""
        before = self.vocab_size
        added = [AddedToken(token, special=special, normalized=not special) for token in tokens]
        (self.backend.add_special_tokens if special else self.backend.add_tokens)(added)
        self.refresh()
        return self.vocab_size - before

    def set_around(self, single: Sequence[str], pair: Sequence[str]) -> None:
        """Set what is put around a text and a pair of texts, as the post-processor that is saved with the tokenizer.

        tokenizer.set_around(["[CLS]", "$A", "[SEP]"], ["[CLS]", "$A", "[SEP]", "$B:1", "[SEP]:1"])
        """
        words = {part.split(":")[0] for part in (*single, *pair) if not part.startswith("$")}
        ids = {word: self.backend.token_to_id(word) for word in sorted(words)}
        if lost := [word for word, id in ids.items() if id is None]:
            raise ModelError(f"This tokenizer has no token {', '.join(lost)} to put around texts.")
        self.backend.post_processor = processors.TemplateProcessing(
            single=list(single), pair=list(pair), special_tokens=[(word, int(id or 0)) for word, id in ids.items()]
        )
        self.refresh()

    def save(self, folder: str | Path) -> None:
        """Write tokenizer.json, tokenizer_config.json, chat_template.jinja and generation_config.json."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        self.backend.save(str(folder / "tokenizer.json"))
        config = {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False, **self.config}
        config.pop("added_tokens_decoder", None)  # tokenizer.json says it
        _write_json(folder / "tokenizer_config.json", config)
        for name, template in self.chat_templates.items():
            path = folder / "chat_template.jinja"
            if name != "default":
                path = folder / "additional_chat_templates" / f"{name}.jinja"
                path.parent.mkdir(exist_ok=True)
            path.write_text(template, encoding="utf-8")
        if self.generation:
            path = folder / "generation_config.json"
            _write_json(path, {**_read_json(path), **self.generation})


def _declare(backend: tokenizers.Tokenizer, config: Mapping[str, Any], folder: Path | None) -> None:
    """Make the tokens that only tokenizer_config.json calls special or added so in the backend, as transformers does."""
    added = backend.get_added_tokens_decoder()
    for id, token in sorted((int(id), token) for id, token in config.get("added_tokens_decoder", {}).items()):
        if id in added:
            continue
        flags = {
            name: token[name] for name in ("lstrip", "rstrip", "single_word", "normalized", "special") if name in token
        }
        backend.add_tokens([AddedToken(token["content"], **flags)])
        if backend.token_to_id(token["content"]) != id:
            raise ModelError(
                f"{folder or 'The tokenizer'}: tokenizer_config.json gives {token['content']!r} the id {id}, "
                f"tokenizer.json {backend.token_to_id(token['content'])}.",
                fix="The two files are of different versions; download or copy them again.",
            )
    special = {token.content for token in backend.get_added_tokens_decoder().values() if token.special}
    for name in NAMED_TOKENS:
        value = config.get(name)
        text = value.get("content") if isinstance(value, Mapping) else value
        if isinstance(text, str) and text not in special and backend.token_to_id(text) is not None:
            backend.add_special_tokens([AddedToken(text, special=True, normalized=False)])


def _remember_words_only(backend: tokenizers.Tokenizer) -> None:
    """Where a backend does not split texts into words, what it would remember are 10,000 whole texts (6 MB of short rows), seldom met twice."""
    splits = backend.pre_tokenizer is not None and len(backend.pre_tokenizer.pre_tokenize_str("a b")) > 1
    if not splits and hasattr(backend.model, "_resize_cache"):
        backend.model._resize_cache(0)


def byte_tokenizer() -> Tokenizer:
    """The tokenizer of `pico`: the control tokens, then the 256 bytes. Any text round-trips; nothing is learned.

    byte_tokenizer().encode("A")  ->  [32 + 33]   (bytes in the order of the byte-level alphabet)
    """
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: id for id, token in enumerate([*CONTROL_TOKENS, *alphabet])}
    backend = tokenizers.Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    return with_control_tokens(backend)


def with_control_tokens(backend: tokenizers.Tokenizer) -> Tokenizer:
    """Make a backend speak the chat format of `mini`: control tokens, template, what ends an answer."""
    backend.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in CONTROL_TOKENS])
    config = {"eos_token": "<|endoftext|>", "pad_token": "<|endoftext|>"}
    stops = [backend.token_to_id("<|endoftext|>"), backend.token_to_id("<|end|>")]
    return Tokenizer(backend, config=config, chat_template=CHAT_TEMPLATE, generation={"eos_token_id": stops})


def _read_backend(folder: Path) -> tokenizers.Tokenizer:
    path = folder / "tokenizer.json"
    if not path.is_file():
        raise ModelError(
            f"{folder} has no tokenizer.json.",
            wanted="A model folder in the Hugging Face layout with a fast tokenizer.",
            fix="Check the path; `tunesmith tokenizer CORPUS out=folder` trains a new one.",
        )
    try:
        return tokenizers.Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises bare Exception
        raise ModelError(f"{path} cannot be read: {error}", fix="Download or copy the file again.") from error


def _read_config(folder: Path) -> dict[str, Any]:
    """tokenizer_config.json over the older special_tokens_map.json."""
    return {**_read_json(folder / "special_tokens_map.json"), **_read_json(folder / "tokenizer_config.json")}


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ModelError(f"{path} is not JSON: {error}", fix="Download or copy the file again.") from error
    if not isinstance(content, dict):
        raise ModelError(f"{path} holds a {type(content).__name__}, not an object.")
    return content


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")


def _read_templates(folder: Path, config: Mapping[str, Any]) -> dict[str, str]:
    """The chat templates by name: from tokenizer_config.json, then from files, which win (as in transformers)."""
    found = config.get("chat_template")
    templates: dict[str, str] = {}
    if isinstance(found, str):
        templates["default"] = found
    elif isinstance(found, list):
        templates.update({entry["name"]: entry["template"] for entry in found})
    elif isinstance(found, dict):
        templates.update(found)
    legacy = _read_json(folder / "chat_template.json").get("chat_template")
    if isinstance(legacy, str):
        templates["default"] = legacy
    if (folder / "chat_template.jinja").is_file():
        templates["default"] = (folder / "chat_template.jinja").read_text(encoding="utf-8")
    for path in sorted((folder / "additional_chat_templates").glob("*.jinja")):
        templates[path.stem] = path.read_text(encoding="utf-8")
    return templates


def _bad_text(texts: Sequence[Any]) -> DataError | None:
    for text in texts:
        if not isinstance(text, str):
            return DataError(f"A text is a {type(text).__name__}: {text!r:.80}", wanted="Text.")
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            return DataError(
                f"A text holds half a character (U+{ord(text[error.start]):04X}, a lone surrogate) at {error.start}: "
                f"{text[max(0, error.start - 20) : error.start]!r}",
                fix="The file was cut in the middle of an emoji or decoded wrongly; repair it at its source.",
            )
    return None
