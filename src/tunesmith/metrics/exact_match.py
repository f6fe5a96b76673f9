"""exact_match: the answer is the reference, word for word.

Use it where there is one right answer: numbers, names, short facts, code of one line.

Formula: answers equal to the reference / answers.

Source: Rajpurkar et al. 2016 (SQuAD), arXiv 1606.05250, section 6.1.

정확히 일치: 답이 기준 답과 글자 그대로 같은 비율입니다. 숫자, 이름, 짧은 사실처럼 정답이 하나일 때 씁니다.

>>> ExactMatch().score(" Seoul ", {"answer": "Seoul"})
1.0
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tunesmith.metrics._text import normalise
from tunesmith.metrics._values import Summary, mean_summary, references


@dataclass(frozen=True)
class ExactMatch:
    """Share of answers equal to a reference, after Unicode NFC and with white space trimmed."""

    ignore_case: bool = False
    """Upper and lower case count as the same.

    대문자와 소문자를 같은 것으로 봅니다."""
    ignore_punctuation: bool = False
    """Punctuation is taken out of both before comparing.

    비교하기 전에 양쪽에서 문장 부호를 뺍니다."""

    def score(self, prediction: str, row: Mapping[str, Any]) -> float:
        """1.0 or 0.0; with several references, whether any of them is met."""
        said = self._plain(prediction)
        return float(any(said == self._plain(answer) for answer in references(row)))

    def summary(self, values: Sequence[Any]) -> Summary:
        """Share with its Wilson interval."""
        return mean_summary(values)

    def _plain(self, text: str) -> str:
        return normalise(text, ignore_case=self.ignore_case, ignore_punctuation=self.ignore_punctuation)
