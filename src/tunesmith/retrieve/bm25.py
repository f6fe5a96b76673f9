"""BM25: ranked passages for a query, by rare words in common. Light, exact, and good enough that a vector index must beat it first.

>>> index = Bm25(["배송은 이틀 걸립니다", "환불은 영수증이 필요합니다", "Shipping takes two days"])
>>> [hit.position for hit in pick(index, "환불하려면 뭐가 필요해요?", 1)]
[1]

Korean works without a morphological analyser: besides whole words, neighbouring pairs of Hangul syllables are terms, so 환불은 and
환불하려면 meet in 환불. Scores are Lucene's BM25, which is never negative (Robertson and Zaragoza 2009; Kamphuis et al. 2020).
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

PARTS = re.compile(r"[가-힣]+|[^\W_가-힣]+")


def terms(text: str) -> list[str]:
    """Lower-cased words of any script; Hangul words also as pairs of syllables.

    >>> terms("환불은 OK, v2!")
    ['환불은', '환불', '불은', 'ok', 'v2']
    """
    found = []
    for part in PARTS.findall(unicodedata.normalize("NFC", text).casefold()):
        found.append(part)
        if len(part) > 2 and "가" <= part[0] <= "힣":
            found += [part[i : i + 2] for i in range(len(part) - 1)]
    return found


@dataclass(frozen=True)
class Hit:
    """A passage found: its place in the list the index was made of, its score, and the passage itself."""

    position: int
    score: float
    item: Any


class Bm25:
    """An inverted index over passages, in memory.

    passages  texts, or anything when `text` says how to get the text out of one
    k1        how soon more of the same word stops counting;  b  how much long passages are held back (0 to 1)
    terms     text -> terms, for other languages
    """

    def __init__(
        self,
        passages: Sequence[Any],
        *,
        text: Callable[[Any], str] = str,
        k1: float = 1.5,
        b: float = 0.75,
        terms: Callable[[str], Sequence[str]] = terms,
    ) -> None:
        if k1 < 0 or not 0 <= b <= 1:
            raise ValueError(f"k1 is {k1}, b is {b}; they must be k1 >= 0 and 0 <= b <= 1")
        self.passages = passages
        self.terms = terms
        counted = [Counter(terms(text(passage))) for passage in passages]
        lengths = np.array([counts.total() for counts in counted], dtype=np.float64)
        mean = lengths.mean() if len(lengths) and lengths.any() else 1.0
        self._number: dict[str, int] = {}
        owner, term, times = [], [], []
        for position, counts in enumerate(counted):
            for word, count in counts.items():
                owner.append(position)
                term.append(self._number.setdefault(word, len(self._number)))
                times.append(count)
        # postings lie one term after another: _start[t] .. _start[t + 1] are those of term t
        order = np.argsort(np.array(term, dtype=np.int64), kind="stable")
        self._owner = np.array(owner, dtype=np.int32)[order]
        spread = np.bincount(
            np.array(term, dtype=np.int64), minlength=len(self._number)
        )  # passages that have each term
        self._start = np.concatenate([[0], np.cumsum(spread)])
        rarity = np.log1p((len(passages) - spread + 0.5) / (spread + 0.5))
        frequency = np.array(times, dtype=np.float64)[order]
        held_back = k1 * (1 - b + b * lengths[self._owner] / mean)
        self._weight = np.repeat(rarity, spread) * frequency / (frequency + held_back)

    def __len__(self) -> int:
        return len(self.passages)

    def scores(self, query: str) -> np.ndarray:
        """The score of every passage for a query, float64, (passages,). A word that stands twice in the query counts twice."""
        total = np.zeros(len(self.passages))
        for word, count in Counter(self.terms(query)).items():
            number = self._number.get(word)
            if number is not None:
                piece = slice(self._start[number], self._start[number + 1])
                total[self._owner[piece]] += count * self._weight[piece]
        return total


def pick(index: Bm25, query: str, k: int) -> list[Hit]:
    """The k best passages for a query, best first, of equals the earlier one; fewer where fewer have a word in common with it."""
    if k < 1:
        raise ValueError(f"k is {k}; at least 1 passage can be picked")
    scores = index.scores(query)
    k = min(k, int((scores > 0).sum()))
    if not k:
        return []
    # all that tie with the k-th best stay in, so that ties are broken by position and not by the partition
    enough = np.flatnonzero(scores >= np.partition(scores, -k)[-k])
    best = enough[np.argsort(-scores[enough], kind="stable")][:k]
    return [Hit(int(position), float(scores[position]), index.passages[position]) for position in best]
