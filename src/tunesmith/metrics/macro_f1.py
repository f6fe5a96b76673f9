"""macro_f1: F1 of each class, averaged over the classes, so that a rare class counts as much as a common one.

Use it for classes of very different size.

Formula: mean over classes of 2 P R / (P + R), P the share of its answers that are right, R the share of its rows found.

Source: Opitz and Burst 2019, arXiv 1911.03347.

매크로 F1: 분류마다 F1을 구해 평균하므로 드문 분류도 흔한 분류만큼 셉니다. 분류의 크기가 크게 다를 때 씁니다.

>>> metric = MacroF1()
>>> pairs = [("a", "a"), ("a", "b"), ("b", "b"), ("b", "b")]   # (reference, answer)
>>> round(metric.summary([metric.score(said, {"answer": gold}) for gold, said in pairs]).value, 4)
0.7333
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tunesmith.metrics._labels import gold_label, predicted_label
from tunesmith.metrics._values import Summary, corpus_summary
from tunesmith.stats.intervals import OverCounts


@dataclass(frozen=True)
class MacroF1:
    """Mean of the F1 of the classes that occur in the references; answers that are no such class are wrong, not a class.

    Equals scikit-learn's f1_score(average="macro", labels=<classes of the references>, zero_division=0).
    """

    field: str = ""
    """Compare this field of a JSON answer (dotted: `order.status`); empty compares the whole answer.

    JSON 답의 이 필드를 비교합니다(점으로 이어 씀: `order.status`). 비우면 답 전체를 비교합니다."""
    inside_text: bool = False
    """Accept the first JSON object inside other text; otherwise the whole answer must be JSON.

    다른 글 속에 든 첫 JSON 객체도 받아들입니다. 아니면 답 전체가 JSON이어야 합니다."""
    ignore_case: bool = False
    """Upper and lower case count as the same.

    대문자와 소문자를 같은 것으로 봅니다."""

    def check(self, row: Mapping[str, Any]) -> None:
        """Refuse a row whose own answer has no such field, before anything is generated."""
        gold_label(row, self.field, inside_text=self.inside_text, ignore_case=self.ignore_case)

    def score(self, prediction: str, row: Mapping[str, Any]) -> dict[str, Any]:
        """The two classes, and 1.0 where they are the same."""
        gold = gold_label(row, self.field, inside_text=self.inside_text, ignore_case=self.ignore_case)
        said = predicted_label(prediction, self.field, inside_text=self.inside_text, ignore_case=self.ignore_case)
        return {"score": float(said == gold), "gold": gold, "predicted": said}

    def over_counts(self, values: Sequence[Any]) -> OverCounts:
        """Macro-F1 of many resamples at once: (resamples, rows) counts -> (resamples,)."""
        from scipy.sparse import (
            csr_array,  # slow to import, wanted only here; dense, 77 classes would be 77 times the work
        )

        labels, gold, said = _numbers(values)
        number, rows = len(labels), np.arange(len(values))
        named, right = said < number, said == gold
        kinds = np.concatenate([gold, number + said[named], 2 * number + gold[right]])
        owners = np.concatenate([rows, rows[named], rows[right]])
        sums = csr_array((np.ones(len(kinds)), (kinds, owners)), shape=(3 * number, len(values)))

        def macro(counts: np.ndarray) -> np.ndarray:
            of_class, as_class, both = np.split(sums @ np.ascontiguousarray(counts.T), 3)  # each (classes, resamples)
            present = of_class > 0  # a resample may miss a class: it then has one class fewer, as the whole would
            f1 = np.where(present, 2 * both / np.maximum(of_class + as_class, 1), 0.0)
            return f1.sum(0) / present.sum(0)

        return macro

    def summary(self, values: Sequence[Any]) -> Summary:
        """Macro-F1 with a bootstrap interval; `extra`: confusion (matrix[reference][answer], last column = none of the labels), per class."""
        labels, gold, said = _numbers(values)
        confusion = np.zeros((len(labels), len(labels) + 1), dtype=int)
        np.add.at(confusion, (gold, said), 1)
        right, of_class, as_class = confusion.diagonal(), confusion.sum(1), confusion[:, :-1].sum(0)
        per_class = {
            label: {
                "precision": _share(right[i], as_class[i]),
                "recall": _share(right[i], of_class[i]),
                "f1": _share(2 * right[i], of_class[i] + as_class[i]),
                "n": int(of_class[i]),
            }
            for i, label in enumerate(labels)
        }
        extra = {"confusion": {"labels": labels, "matrix": confusion.tolist()}, "per_class": per_class}
        return (
            corpus_summary(self.over_counts(values), len(values), extra=extra)
            if len(values)
            else corpus_summary(None, 0)
        )


def _numbers(values: Sequence[Any]) -> tuple[list[str], np.ndarray, np.ndarray]:
    """The classes of the references, sorted, and each row's two as numbers; an answer that is none of them = one past the last."""
    labels = sorted({value["gold"] for value in values})
    number = {label: i for i, label in enumerate(labels)}
    gold = np.array([number[value["gold"]] for value in values], dtype=int)
    said = np.array([number.get(value["predicted"], len(labels)) for value in values], dtype=int)
    return labels, gold, said


def _share(part: int, whole: int) -> float:
    return float(part / whole) if whole else 0.0
