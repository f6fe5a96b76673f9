"""known_label: the answer is JSON and its label is one that the desk knows, right or wrong."""

import json
from dataclasses import dataclass

from tunesmith.metrics import mean_summary


@dataclass(frozen=True)
class KnownLabel:
    """Share of answers whose label is in the list: how often the model invents one."""

    labels: tuple[str, ...] = ("배송_조회", "환불_요청", "교환_요청", "주문_취소", "회원_정보", "상품_문의")
    """Labels that the desk works with."""

    def score(self, prediction, row):
        """1.0 or 0.0; what is no JSON has no label."""
        try:
            return float(json.loads(prediction).get("분류") in self.labels)
        except (ValueError, AttributeError):
            return 0.0

    def summary(self, values):
        """Share with its interval."""
        return mean_summary(values)
