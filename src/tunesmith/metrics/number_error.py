"""number_error: how far the number in an answer is from the right one, on average; for regression.

Use it where the answer is a quantity: scores, prices, ages.

Formula: mean of |answer - reference|.

Source: mean absolute error: Willmott and Matsuura 2005, Climate Research 30.

Less is better. An answer that is no number counts as far off as the reference is from the mean of the references.

수 오차: 답의 수가 정답에서 평균 얼마나 떨어져 있는지입니다(회귀). 작을수록 좋습니다. 수가 아닌 답은 정답들의 평균을 답한 것만큼
틀린 것으로 칩니다.

>>> metric = NumberError()
>>> values = [metric.score(said, {"answer": gold}) for said, gold in [("1.5", "1"), ("3", "4")]]
>>> metric.summary(values).value
0.75
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tunesmith.core.errors import DataError
from tunesmith.metrics._values import Summary, mean_summary, origin_of, references

_FAR = 1e300


@dataclass(frozen=True)
class NumberError:
    """Mean absolute error; `extra`: root mean square error, Pearson and Spearman correlation, share of answers that are no number."""

    def check(self, row: Mapping[str, Any]) -> None:
        """Refuse a row whose own answer is no number."""
        if _number(references(row)[0]) is None:
            raise DataError(
                f"{origin_of(row)}: its answer {references(row)[0][:40]!r} is no number.",
                fix="This metric is for numbers; for names take accuracy.",
            )

    def score(self, prediction: str, row: Mapping[str, Any]) -> dict[str, Any]:
        """The distance, with both numbers; of an answer that is no number `predicted` is None and the distance without bound."""
        self.check(row)
        gold, said = _number(references(row)[0]), _number(prediction)
        assert gold is not None
        return {"score": _FAR if said is None else abs(said - gold), "gold": gold, "predicted": said}

    def summary(self, values: Sequence[Any]) -> Summary:
        """Mean absolute error with its interval."""
        gold = np.array([value["gold"] for value in values], dtype=float)
        middle = float(gold.mean()) if len(gold) else 0.0
        said = np.array([middle if value["predicted"] is None else value["predicted"] for value in values], dtype=float)
        errors = np.abs(said - gold)
        extra = {
            "rmse": float(np.sqrt(np.mean(errors**2))) if len(gold) else None,
            "pearson": _correlation(gold, said),
            "spearman": _correlation(_ranks(gold), _ranks(said)),
            "unreadable": sum(value["predicted"] is None for value in values) / max(1, len(values)),
        }
        return mean_summary(errors.tolist(), better="lower", bounds=(0.0, math.inf), extra=extra)


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) and abs(value) < _FAR else None


def _ranks(values: np.ndarray) -> np.ndarray:
    """Ranks, equal values sharing their mean rank."""
    from scipy.stats import rankdata

    return rankdata(values)


def _correlation(one: np.ndarray, other: np.ndarray) -> float | None:
    if len(one) < 2 or np.ptp(one) == 0 or np.ptp(other) == 0:
        return None
    return float(np.corrcoef(one, other)[0, 1])
