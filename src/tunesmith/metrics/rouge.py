"""rouge: how much of the reference a summary covers, in words, pairs of words or longest common subsequence.

Use it for summaries.

Formula: F1 of the n-grams (rouge1, rouge2) or of the longest common subsequence (rougeL) that answer and reference
share.

Source: Lin 2004, ACL W04-1013.

ROUGE: 요약이 기준 요약의 단어나 단어쌍, 가장 긴 공통 부분열을 얼마나 담았는지입니다. 요약을 잴 때 씁니다. 한국어도 잴 수
있습니다.

>>> round(Rouge(kind="rouge1").score("the cat", {"answer": "the cat sat"}), 3)
0.8

Needs rouge-score: pip install "tunesmith[eval]". That library's own tokeniser throws away everything but a-z and 0-9, so Korean
text always scored 0; here words are runs of letters and digits of any script, or single characters with `unit: characters`.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

from tunesmith.metrics._extra import library
from tunesmith.metrics._text import Unit, normalise
from tunesmith.metrics._values import Summary, mean_summary, references


@dataclass(frozen=True)
class Rouge:
    """Mean ROUGE F1 (Lin 2004), best over the references."""

    kind: Literal["rouge1", "rouge2", "rougeL", "rougeLsum"] = "rougeL"
    """Words, pairs of words, longest common subsequence, or that one per line.

    낱말, 낱말 쌍, 가장 긴 공통 부분 수열, 또는 그것을 줄마다 잰 것."""
    unit: Unit = "words"
    """What is counted: words, or characters (Korean words carry their particles).

    낱말을 셀지 글자를 셀지(한국어 낱말에는 조사가 붙습니다)."""
    stem: bool = False
    """English words are reduced to their stems first, as in many papers.

    많은 논문처럼 영어 낱말을 먼저 어간으로 줄입니다."""

    def check(self, row: Mapping[str, Any]) -> None:
        """Fail before anything is generated when rouge-score is missing or a row has no answer."""
        _scorer(self.kind, self.unit, self.stem)
        references(row)

    def score(self, prediction: str, row: Mapping[str, Any]) -> float:
        """F1 from 0 to 1."""
        scorer = _scorer(self.kind, self.unit, self.stem)
        return max(float(scorer.score(answer, prediction)[self.kind].fmeasure) for answer in references(row))

    def summary(self, values: Sequence[Any]) -> Summary:
        """Mean with its interval."""
        return mean_summary(values)


class AnyScript:
    """A tokeniser for rouge_score that keeps letters of every script."""

    def __init__(self, unit: Unit, stem: bool) -> None:
        self.unit = unit
        self.stemmer = library("nltk.stem.porter", "rouge-score", "rouge").PorterStemmer() if stem else None

    def tokenize(self, text: str) -> list[str]:
        """Lower-cased words or characters."""
        words = re.findall(r"[^\W_]+", normalise(text).lower())
        if self.unit == "characters":
            return list("".join(words))
        if self.stemmer is not None:
            return [self.stemmer.stem(word) if len(word) > 3 else word for word in words]
        return words


@lru_cache(maxsize=8)
def _scorer(kind: str, unit: Unit, stem: bool) -> Any:
    module = library("rouge_score.rouge_scorer", "rouge-score", "rouge")
    return module.RougeScorer([kind], tokenizer=AnyScript(unit, stem))
