"""Pre-training on raw text: predict every next token (causal language modelling).

Rows are texts. Use it to make a base model, or to continue one on a field's own texts before labels are paid for
(Gururangan et al. 2020, arXiv 2004.10964): that is unsupervised fine-tuning, self-supervised to be exact, since the texts are their
own labels. Long texts are split at the length limit, nothing is dropped in silence.

Formula: loss = -sum over tokens of log p(token | those before it) / their number.

사전 학습: 날 텍스트에서 다음 토큰을 맞히도록 배웁니다. 기본 모델을 만들거나, 라벨을 사기 전에 그 분야의 글로 더 배우게 할 때
씁니다(계속 사전 학습). 라벨 없이 글 자체가 정답이 되는 비지도(정확히는 자기 지도) 미세 조정입니다.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from tunesmith.objectives._contract import Loss
from tunesmith.text.example import Unit, weighed


@dataclass(frozen=True)
class Pretrain:
    """Cross-entropy of every token, averaged over all of them in a step."""

    shape: ClassVar[str] = "text"
    weighted: ClassVar[bool] = True
    per: ClassVar[Mapping[str, str]] = {"text": "tokens"}
    figures: ClassVar[Mapping[str, str]] = {
        "loss": "mean cross-entropy of the text's tokens, in nats\n\n텍스트 토큰의 평균 교차 엔트로피(냇)"
    }

    def units(self, row: Mapping[str, Any], text: Any, draw: np.random.Generator) -> list[Unit]:
        """One Unit per piece of the text that fits."""
        examples = text.raw_pieces(row["text"])
        return [Unit((weighed(example, row),), origin=row.get("origin", "")) for example in examples]

    def loss(self, policy: Any, batch: Any, helpers: Any) -> Loss:
        """Sum of weight x -log p over all predicted tokens."""
        total, logp = policy.nll(batch)
        return Loss({"text": total}, {"loss": (total.detach(), batch.weight.sum())}, logp)
