"""accuracy: the right class. With `field`, answers are JSON and one field of them is the class.

Use it where an answer is one of few classes. With classes of very different size look at macro_f1 beside it.

Formula: right answers / answers.

Source: scikit-learn's user guide, classification metrics (2024).

정확도: 정답과 같은 분류를 답한 비율입니다. 답이 몇 개의 분류 가운데 하나일 때 씁니다. 분류의 크기가 크게 다르면 macro_f1도
함께 보세요.

>>> Accuracy(field="intent").score('{"intent": "refund"}', {"answer": '{"intent":"refund"}'})["score"]
1.0
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tunesmith.metrics._labels import gold_label, predicted_label
from tunesmith.metrics._values import Summary, mean_summary


@dataclass(frozen=True)
class Accuracy:
    """Share of answers that name the right class; the share right of each class is in `extra`."""

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
        """Score 1.0 or 0.0, with the two classes; `predicted` is None where no class could be read."""
        gold = gold_label(row, self.field, inside_text=self.inside_text, ignore_case=self.ignore_case)
        said = predicted_label(prediction, self.field, inside_text=self.inside_text, ignore_case=self.ignore_case)
        return {"score": float(said == gold), "gold": gold, "predicted": said}

    def summary(self, values: Sequence[Any]) -> Summary:
        """Share right with its Wilson interval; `extra`: share right per class, share of unreadable answers."""
        n = Counter(value["gold"] for value in values)
        right = Counter(value["gold"] for value in values if value["score"])
        extra = {
            "per_class": {label: {"right": right[label] / n[label], "n": n[label]} for label in sorted(n)},
            "unreadable": sum(value["predicted"] is None for value in values) / max(1, len(values)),
        }
        return mean_summary(values, extra=extra)
