"""tunesmith tokenizer: train a tokenizer."""

from collections.abc import Iterable, Iterator
from typing import Any, Literal

from tunesmith.core.result import Result

HELD_OUT = 20  # one text in so many is kept for measuring
MOST_TEXTS, MOST_CHARACTERS = 2000, 20_000  # measured at most


def tokenizer(
    *corpus: str,
    kind: Literal["bpe", "wordpiece", "unigram"] = "bpe",
    vocab: int = 8000,
    out: str = "tokenizer",
    text: str | None = None,
    encoding: str | None = None,
    bad_rows: Literal["error", "drop"] = "error",
) -> Result:
    """Train a tokenizer on a corpus and show how well it fits Korean and English.

    corpus    files or folders of text: .txt, .jsonl (.gz), .csv, ... ; of other rows, every text is read
    kind      bpe or unigram (on bytes: any text round-trips), or wordpiece (as in BERT, with unknown letters)
    vocab     number of tokens, 32 control tokens included
    out       folder to write; transformers' AutoTokenizer reads it too
    text      the column that holds the text, where it has another name
    encoding  of the files (cp949, ...); repair puts right what was encoded twice
    bad_rows  error, or drop to go on without rows that cannot be used

    One text in twenty is kept out of training and measured: tokens per word, bytes per token.

    Example: tunesmith tokenizer news.jsonl.gz blogs/ kind=bpe vocab=8000 out=my-tokenizer
    """
    import re
    from pathlib import Path

    from tunesmith.core.errors import DataError, SettingError
    from tunesmith.data.read import read
    from tunesmith.text.survey import survey
    from tunesmith.text.train_tokenizer import train_tokenizer

    if not corpus:
        raise DataError("No corpus is given.", fix="Name files of text: tunesmith tokenizer news.jsonl")
    folder = Path(out)
    if (folder / "tokenizer.json").exists():
        raise SettingError(f"{folder} already holds a tokenizer.", fix="Choose another folder: out=...")
    columns = {"text": text} if text else None
    reading = read(list(corpus), columns=columns, need_answer=False, encoding=encoding, bad_rows=bad_rows)
    split = _Split(_texts(reading))
    try:
        made = train_tokenizer(split, kind=kind, vocab=vocab)
    except DataError as error:  # of the reader, whose advice is written for a project file
        here = re.sub(r"data\.(\w+): (\w[\w-]*)", r"\1=\2", error.fix)
        raise DataError(error.found, wanted=error.wanted, fix=here) from None
    made.save(folder)
    measured_on = "texts not trained on" if split.held_out else "the training texts (too few to keep some out)"
    facts = survey(made, split.held_out or split.first)
    result = {
        "kind": kind,
        "vocab": made.vocab_size,
        "out": str(folder),
        "texts": split.num_texts,
        "rows_dropped": reading.counts.num_dropped,
        "characters": split.num_characters,
        "measured_on": measured_on,
        "measured": facts,
    }
    return Result(result, text=_told(result))


class _Split:
    """Texts for training, as they stream by; one in twenty is put aside."""

    def __init__(self, texts: Iterable[str]) -> None:
        self.texts = texts
        self.held_out: list[str] = []
        self.first: list[str] = []
        self.num_texts = self.num_characters = 0

    def __iter__(self) -> Iterator[str]:
        for text in self.texts:
            self.num_texts += 1
            self.num_characters += len(text)
            if self.num_texts % HELD_OUT == 0 and len(self.held_out) < MOST_TEXTS:
                self.held_out.append(text[:MOST_CHARACTERS])
                continue
            if len(self.first) < HELD_OUT:
                self.first.append(text[:MOST_CHARACTERS])
            yield text


def _texts(rows: Iterable[dict[str, Any]]) -> Iterator[str]:
    from tunesmith.data.kinds import pieces

    for row in rows:
        yield from (piece.text for piece in pieces(row) if piece.text)


def _told(result: dict[str, Any]) -> str:
    facts = result["measured"]
    corpus = f"{result['texts']:,} texts ({result['characters']:,} characters)"
    lines = [
        f"{result['kind']} tokenizer of {result['vocab']:,} tokens, from {corpus}: {result['out']}",
        *([f"{result['rows_dropped']:,} rows could not be used and were left out."] if result["rows_dropped"] else []),
        "",
        f"Measured on {facts['texts']:,} {result['measured_on']}:",
    ]
    for name in ("korean", "english"):
        if facts[name]["words"]:
            words = f"({facts[name]['words']:,} words)"
            lines.append(f"  {name.capitalize():<8} {facts[name]['tokens_per_word']:.2f} tokens per word {words}")
    if facts["bytes_per_token"] is not None:
        lines.append(f"  {facts['bytes_per_token']:.2f} bytes per token")
    if facts["whole_frequent"] is not None:
        rare = "" if facts["whole_rare"] is None else f", {facts['whole_rare']:.0%} of those seen once"
        lines.append(f"  One token: {facts['whole_frequent']:.0%} of the 1,000 most frequent words{rare}")
    lines.append(f"  {facts['round_trips']:.1%} of the texts come back unchanged from ids")
    return "\n".join(lines)
