"""label_f1: F1 of texts that have several labels: of each label over all rows, averaged over the labels.

Use it where a text may have several labels at once.

Formula: mean over labels of 2 P R / (P + R).

Source: macro-averaged F1: Lewis et al. 2004 (RCV1), JMLR 5.

Answers are one label or a JSON list of labels, as a classifier of several labels (classify, problem: multi) gives them.

라벨이 여러 개인 글의 F1: 라벨마다 모든 행에서 F1을 구해 라벨 전체로 평균합니다. 답은 라벨 하나 또는 라벨의 JSON 목록입니다.

>>> metric = LabelF1()
>>> pairs = [('["a", "b"]', '["a", "b"]'), ("a", '["a", "b"]'), ("[]", "b")]      # (answer, reference)
>>> round(metric.summary([metric.score(said, {"answer": gold}) for said, gold in pairs]).value, 4)
0.75
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tunesmith.metrics._values import Summary, corpus_summary, references
from tunesmith.stats.intervals import OverCounts


@dataclass(frozen=True)
class LabelF1:
    """Mean over the references' labels of the F1 of each; `extra`: micro F1, share of rows all right, figures per label.

    Equals scikit-learn's f1_score(average="macro", zero_division=0) over the labels of the references.
    """

    def score(self, prediction: str, row: Mapping[str, Any]) -> dict[str, Any]:
        """F1 of the row's own labels, with both sets."""
        gold, said = _labels(references(row)[0]), _labels(prediction)
        both = len(set(gold) & set(said))
        score = 2 * both / (len(gold) + len(said)) if gold or said else 1.0
        return {"score": score, "gold": gold, "predicted": said}

    def over_counts(self, values: Sequence[Any]) -> OverCounts:
        """Macro-F1 of many resamples at once: (resamples, rows) counts -> (resamples,)."""
        gold, said, _ = _tables(values)

        def macro(counts: np.ndarray) -> np.ndarray:
            both, one, other = counts @ (gold * said), counts @ gold, counts @ said  # each (resamples, labels)
            present = one > 0  # a resample may miss a label
            f1 = np.where(present, 2 * both / np.maximum(one + other, 1), 0.0)
            return np.where(present.any(1), f1.sum(1) / np.maximum(present.sum(1), 1), 1.0)

        return macro

    def summary(self, values: Sequence[Any]) -> Summary:
        """Macro-F1 with a bootstrap interval."""
        if not len(values):
            return corpus_summary(None, 0)
        gold, said, labels = _tables(values)
        both, one, other = (gold * said).sum(0), gold.sum(0), said.sum(0)
        strange = sum(len(set(value["predicted"]) - set(labels)) for value in values)
        extra = {
            "per_class": {
                label: {
                    "precision": _share(both[i], other[i]), "recall": _share(both[i], one[i]),
                    "f1": _share(2 * both[i], one[i] + other[i]), "n": int(one[i]),
                }
                for i, label in enumerate(labels)
            },
            "micro_f1": _share(2 * both.sum(), one.sum() + other.sum() + strange),
            "all_right": float(np.mean([set(value["gold"]) == set(value["predicted"]) for value in values])),
        }  # fmt: skip
        return corpus_summary(self.over_counts(values), len(values), extra=extra)


def _labels(text: str) -> list[str]:
    """A JSON list of names, or the text as one name; nothing is no label."""
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    names = [str(name) for name in found] if isinstance(found, list) else [text.strip()]
    return sorted({name for name in names if name})


def _tables(values: Sequence[Any]) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """(rows, labels) of 0 and 1 for references and answers, and the references' labels, sorted."""
    labels = sorted({label for value in values for label in value["gold"]})
    gold, said = (
        np.array([[float(label in value[side]) for label in labels] for value in values]).reshape(len(values), -1)
        for side in ("gold", "predicted")
    )
    return gold, said, labels


def _share(part: float, whole: float) -> float:
    return float(part / whole) if whole else 0.0
