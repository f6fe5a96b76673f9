"""bleu: word n-grams shared with the references, over the whole set (sacreBLEU's, from 0 to 1).

Use it for translations, over a whole test set; single sentences scatter.

Formula: exp(min(0, 1 - reference length / answer length)) x (p_1 p_2 p_3 p_4)^(1/4), p_n the share of n-grams found.

Source: Papineni et al. 2002, ACL P02-1040; sacreBLEU: Post 2018, arXiv 1804.08771.

BLEU: 기준 답과 단어 n-그램이 겹치는 정도로, 번역을 시험 집합 전체에서 잴 때 씁니다. 한국어는 tokenize: char나
ko-mecab을 쓰세요.

>>> metric = Bleu()
>>> value = metric.score("the cat sat on the mat", {"answer": "the cat sat on the mat"})
>>> metric.summary([value]).value
1.0

Needs sacrebleu: pip install "tunesmith[eval]". For Korean set `tokenize: char` or `ko-mecab`: with the default a word and
the same word with another particle have nothing in common.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np

from tunesmith.metrics._extra import library
from tunesmith.metrics._values import Summary, corpus_summary, references
from tunesmith.stats.intervals import OverCounts

ORDER = 4


@dataclass(frozen=True)
class Bleu:
    """Corpus BLEU with exponential smoothing (Papineni et al. 2002, as sacreBLEU computes it), bootstrap interval."""

    tokenize: Literal["13a", "intl", "char", "zh", "ja-mecab", "ko-mecab", "none"] = "13a"
    """sacreBLEU's tokeniser; two BLEUs with different ones cannot be compared.

    sacreBLEU의 토크나이저. 서로 다른 것으로 잰 BLEU는 비교할 수 없습니다. 한국어는 char나 ko-mecab이 좋습니다."""
    lowercase: bool = False
    """Upper and lower case count as the same.

    대문자와 소문자를 같은 것으로 봅니다."""

    def check(self, row: Mapping[str, Any]) -> None:
        """Fail before anything is generated when sacrebleu is missing or a row has no answer."""
        _sentence_bleu(self.tokenize, self.lowercase)
        references(row)

    def score(self, prediction: str, row: Mapping[str, Any]) -> dict[str, Any]:
        """The row's own BLEU (only to look at) and the counts the corpus score is made of."""
        found = _sentence_bleu(self.tokenize, self.lowercase).sentence_score(prediction, references(row))
        return {"score": found.score / 100, "counts": [*found.counts, *found.totals, found.sys_len, found.ref_len]}

    def over_counts(self, values: Sequence[Any]) -> OverCounts:
        """Corpus BLEU of many resamples at once: (resamples, rows) counts -> (resamples,)."""
        sums = np.array([value["counts"] for value in values], dtype=np.float64)  # (rows, 4 + 4 + 2)
        return lambda counts: corpus_bleu(counts @ sums)

    def summary(self, values: Sequence[Any]) -> Summary:
        """Corpus BLEU with its interval; `extra`: sacreBLEU's settings, ratio of lengths."""
        lengths = np.array([value["counts"][-2:] for value in values], dtype=float).reshape(-1, 2).sum(0)
        extra = {"tokenize": self.tokenize, "length_ratio": float(lengths[0] / max(1.0, lengths[1]))}
        return corpus_summary(self.over_counts(values) if len(values) else None, len(values), extra=extra)


def corpus_bleu(sums: np.ndarray) -> np.ndarray:
    """BLEU (0 to 1) from summed counts: (resamples, matches of 1..4-grams + n-grams of 1..4 + two lengths) -> (resamples,)."""
    matches, totals = sums[:, :ORDER], sums[:, ORDER : 2 * ORDER]
    said, wanted = sums[:, 2 * ORDER], sums[:, 2 * ORDER + 1]
    none = matches == 0
    # exponential smoothing: the k-th order without a match counts as 1 / 2^k matches
    smoothed = np.where(none, 0.5 ** np.cumsum(none, axis=1), matches)
    possible = (totals > 0).all(1) & (matches > 0).any(1)
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.log(smoothed / np.maximum(totals, 1)).mean(1)
        brevity = np.where(said < wanted, 1 - wanted / np.maximum(said, 1), 0.0)
    return np.where(possible, np.exp(logs + brevity), 0.0)


@lru_cache(maxsize=8)
def _sentence_bleu(tokenize: str, lowercase: bool) -> Any:
    bleu = library("sacrebleu.metrics", "sacrebleu", "bleu").BLEU
    return bleu(tokenize=tokenize, lowercase=lowercase, effective_order=True)
