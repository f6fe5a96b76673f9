"""Train a tokenizer on a corpus: byte-level BPE (the default), byte-level unigram, or WordPiece.

    tokenizer = train_tokenizer(lines, kind="bpe", vocab=8000)
    tokenizer.save("folder")

BPE and unigram work on bytes, so any text round-trips and there is no unknown token; frequent words stay whole and rare
ones fall into pieces. WordPiece (as in BERT) works on characters and has [UNK].
"""

from collections.abc import Iterable, Iterator

import tokenizers
from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers, processors, trainers

from tunesmith.core.errors import DataError, SettingError
from tunesmith.text.tokenizer import CONTROL_TOKENS, WORDS, Tokenizer, with_control_tokens

KINDS = ("bpe", "unigram", "wordpiece")
BERT_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def train_tokenizer(
    texts: Iterable[str],
    *,
    kind: str = "bpe",
    vocab: int = 8000,
    min_count: int = 2,
    progress: bool = False,
) -> Tokenizer:
    """Learn a vocabulary of at most `vocab` ids from texts. A small corpus gives fewer.

    min_count  pairs seen less often are not merged

    train_tokenizer(["low lower lowest"] * 9, vocab=320).encode("lower")  ->  [294, ...]
    """
    if kind not in KINDS:
        raise SettingError(f"kind: {kind} is unknown.", wanted=f"Known: {', '.join(KINDS)}.")
    least = len(BERT_TOKENS) + 1 if kind == "wordpiece" else len(CONTROL_TOKENS) + 256
    if vocab < least:
        raise SettingError(
            f"vocab: {vocab} is too small.", wanted=f"{kind} needs {least} ids before it learns anything."
        )
    counted = _Counted(texts)
    if kind == "wordpiece":
        tokenizer = _wordpiece(counted, vocab, min_count, progress)
    else:
        tokenizer = _byte_level(counted, kind, vocab, min_count, progress)
    if counted.num_characters == 0:
        raise DataError("The corpus holds no text.", wanted="At least one text that is not empty.")
    return tokenizer


def _byte_level(texts: Iterable[str], kind: str, vocab: int, min_count: int, progress: bool) -> Tokenizer:
    backend = tokenizers.Tokenizer(models.BPE() if kind == "bpe" else models.Unigram())
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(WORDS), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    backend.decoder = decoders.ByteLevel()
    trainer: trainers.Trainer
    if kind == "bpe":
        trainer = trainers.BpeTrainer(
            vocab_size=vocab,
            min_frequency=min_count,
            special_tokens=list(CONTROL_TOKENS),
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=progress,
        )
    else:
        trainer = trainers.UnigramTrainer(
            vocab_size=vocab,
            special_tokens=list(CONTROL_TOKENS),
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=progress,
        )
    backend.train_from_iterator(texts, trainer)
    return with_control_tokens(backend)


def _wordpiece(texts: Iterable[str], vocab: int, min_count: int, progress: bool) -> Tokenizer:
    backend = wordpiece_backend({token: id for id, token in enumerate(BERT_TOKENS)})
    trainer = trainers.WordPieceTrainer(
        vocab_size=vocab, min_frequency=min_count, special_tokens=list(BERT_TOKENS), show_progress=progress
    )
    backend.train_from_iterator(texts, trainer)
    return bert_style(backend)


def wordpiece_backend(vocabulary: dict[str, int]) -> tokenizers.Tokenizer:
    """A WordPiece backend over a given vocabulary: case and accents kept, words split at spaces and punctuation."""
    backend = tokenizers.Tokenizer(models.WordPiece(vocab=vocabulary, unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer(lowercase=False, strip_accents=False)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece()
    return backend


def bert_style(backend: tokenizers.Tokenizer) -> Tokenizer:
    """[CLS] a [SEP] around a text, [CLS] a [SEP] b [SEP] around a pair, second text of type 1."""
    backend.add_special_tokens(list(BERT_TOKENS))
    ids = {token: backend.token_to_id(token) for token in BERT_TOKENS}
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", ids["[CLS]"]), ("[SEP]", ids["[SEP]"])],
    )
    return Tokenizer(
        backend,
        config={
            "pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]", "mask_token": "[MASK]",
        },
    )  # fmt: skip


class _Counted:
    """The texts, counting characters as they pass, so that an empty corpus is not trained on in silence."""

    def __init__(self, texts: Iterable[str]) -> None:
        self.texts, self.num_characters = texts, 0

    def __iter__(self) -> Iterator[str]:
        for text in self.texts:
            self.num_characters += len(text)
            yield text
