"""How well a tokenizer fits a text: tokens per word for Korean and English, bytes per token, which words stay whole.

    survey(tokenizer, ["나는 학교에 간다. I go to school."])
        -> {"bytes_per_token": 3.1, "korean": {"tokens_per_word": 2.3, ...}, "english": {...}, ...}

A low number of tokens per word is more text in the same context and fewer steps to generate it.
"""

import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

from tunesmith.text.tokenizer import Tokenizer

HANGUL = re.compile(r"[\u1100-\u11ff\u3130-\u318f\uac00-\ud7a3]")
LATIN = re.compile(r"[A-Za-z]")
FREQUENT = 1000


def survey(tokenizer: Tokenizer, texts: Sequence[str]) -> dict[str, Any]:
    """Measure on `texts`. A word is what stands between spaces: Korean if it holds Hangul, English if Latin letters.

    bytes_per_token   UTF-8 bytes of all texts over their tokens
    korean, english   words, tokens_per_word (each word with the space before it); None where there are no words
    whole_frequent    share of the 1,000 most frequent words that are one token; whole_rare: of those seen once
    round_trips       share of texts that come back unchanged from ids
    """
    ids = tokenizer.encode_many(texts)
    num_tokens = sum(map(len, ids))
    num_same = sum(tokenizer.decode(one, skip_special=False) == text for one, text in zip(ids, texts))
    words = Counter(word for text in texts for word in text.split())
    lengths = dict(zip(words, map(len, tokenizer.encode_many([" " + word for word in words]))))
    frequent = [word for word, _ in words.most_common(FREQUENT)]
    rare = [word for word, count in words.items() if count == 1]
    return {
        "texts": len(texts),
        "bytes_per_token": _share(sum(len(text.encode()) for text in texts), num_tokens),
        "korean": _words(words, lengths, lambda word: bool(HANGUL.search(word))),
        "english": _words(words, lengths, lambda word: bool(LATIN.search(word)) and not HANGUL.search(word)),
        "whole_frequent": _share(sum(lengths[word] == 1 for word in frequent), len(frequent)),
        "whole_rare": _share(sum(lengths[word] == 1 for word in rare), len(rare)),
        "round_trips": _share(num_same, len(texts)),
    }


def _words(words: Counter[str], lengths: dict[str, int], belongs: Any) -> dict[str, Any]:
    own = {word: count for word, count in words.items() if belongs(word)}
    num = sum(own.values())
    tokens = sum(count * lengths[word] for word, count in own.items())
    return {"words": num, "tokens_per_word": _share(tokens, num)}


def _share(part: float, whole: float) -> float | None:
    return part / whole if whole else None
