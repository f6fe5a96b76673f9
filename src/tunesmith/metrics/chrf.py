"""chrf: character n-grams shared with the references, over the whole set (chrF2, from 0 to 1). Good for Korean, needs no tokeniser.

Use it for translations and free answers in languages with particles and endings.

Formula: (1 + beta^2) P R / (beta^2 P + R) of character n-grams up to 6, beta 2.

Source: Popovic 2015, ACL W15-3049.

chrF: 기준 답과 글자 n-그램이 겹치는 정도입니다. 형태소 분석기가 필요 없어 한국어 번역과 자유로운 답에 알맞습니다.

>>> metric = Chrf()
>>> metric.summary([metric.score("안녕하세요", {"answer": "안녕하세요"})]).value
1.0
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tunesmith.metrics._values import Summary, corpus_summary, references
from tunesmith.stats.intervals import OverCounts


@dataclass(frozen=True)
class Chrf:
    """Corpus chrF (Popović 2015), bootstrap interval. Equals sacreBLEU's chrF2 with its defaults."""

    order: int = 6
    """Longest n-gram, in characters without white space.

    가장 긴 글자 n-그램의 길이(빈칸은 빼고 셈)."""
    beta: float = 2.0
    """How much more recall weighs than precision.

    재현율을 정밀도보다 얼마나 더 중요하게 볼지."""

    def score(self, prediction: str, row: Mapping[str, Any]) -> dict[str, Any]:
        """The row's own chrF (only to look at) and the counts the corpus score is made of; the best of several references."""
        best: dict[str, Any] = {"score": -1.0}
        for answer in references(row):
            counts = self._counts(prediction, answer)
            own = float(self._corpus(np.array([counts], dtype=np.float64))[0])
            if own > best["score"]:
                best = {"score": own, "counts": counts}
        return best

    def over_counts(self, values: Sequence[Any]) -> OverCounts:
        """Corpus chrF of many resamples at once: (resamples, rows) counts -> (resamples,)."""
        sums = np.array([value["counts"] for value in values], dtype=np.float64)  # (rows, 3 x order)
        return lambda counts: self._corpus(counts @ sums)

    def summary(self, values: Sequence[Any]) -> Summary:
        """Corpus chrF with its interval."""
        return corpus_summary(self.over_counts(values) if len(values) else None, len(values))

    def _counts(self, said: str, gold: str) -> list[int]:
        """n-grams in the answer, in the reference, in both: of each order."""
        said, gold = "".join(said.split()), "".join(gold.split())
        counts = []
        for n in range(1, self.order + 1):
            a, b = (Counter(text[i : i + n] for i in range(len(text) - n + 1)) for text in (said, gold))
            counts += [a.total(), b.total(), (a & b).total()]
        return counts

    def _corpus(self, sums: np.ndarray) -> np.ndarray:
        said, gold, both = sums[:, 0::3], sums[:, 1::3], sums[:, 2::3]  # each (resamples, order)
        used = (said > 0) & (gold > 0)  # orders longer than either text do not count
        orders = np.maximum(used.sum(1), 1)
        precision = (np.where(used, both, 0) / np.maximum(said, 1)).sum(1) / orders
        recall = (np.where(used, both, 0) / np.maximum(gold, 1)).sum(1) / orders
        below = self.beta**2 * precision + recall
        return np.where(below > 0, (1 + self.beta**2) * precision * recall / np.where(below > 0, below, 1), 0.0)
