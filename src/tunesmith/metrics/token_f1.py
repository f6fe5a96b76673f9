"""token_f1: how much of the reference's words the answer has, and how little else (SQuAD's F1).

Use it for short free answers, where a part of the reference is better than nothing.

Formula: 2 P R / (P + R) of the words that answer and reference share.

Source: Rajpurkar et al. 2016 (SQuAD), arXiv 1606.05250, section 6.1; for Korean KorQuAD (Lim et al. 2019, arXiv
1909.07005).

토큰 F1: 답과 기준 답이 단어를 얼마나 나눠 갖는지입니다. 짧은 자유 답에 쓰며, 한국어는 unit: characters로 조사의 영향을
줄입니다.

>>> round(TokenF1().score("the big red house", {"answer": "a red house"}), 3)
0.8
>>> round(TokenF1(unit="characters").score("서울특별시", {"answer": "서울"}), 3)    # KorQuAD's way: particles cost little
0.571
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tunesmith.metrics._text import Unit, tokens
from tunesmith.metrics._values import Summary, mean_summary, references


@dataclass(frozen=True)
class TokenF1:
    """Harmonic mean of precision and recall of tokens, best over the references, averaged over rows (Rajpurkar et al. 2016)."""

    unit: Unit = "words"
    """Tokens are words (SQuAD) or characters (KorQuAD: Korean words carry their particles).

    낱말(SQuAD) 또는 글자(KorQuAD: 한국어 낱말에는 조사가 붙으므로)를 셉니다."""

    def score(self, prediction: str, row: Mapping[str, Any]) -> float:
        """0.0 to 1.0. Two empty texts are equal."""
        said = tokens(prediction, unit=self.unit)
        return max(_f1(said, tokens(answer, unit=self.unit)) for answer in references(row))

    def summary(self, values: Sequence[Any]) -> Summary:
        """Mean with its interval."""
        return mean_summary(values)


def _f1(said: list[str], gold: list[str]) -> float:
    if not said or not gold:
        return float(said == gold)
    common = sum((Counter(said) & Counter(gold)).values())
    return 2 * common / (len(said) + len(gold))
