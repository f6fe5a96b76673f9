"""Supervised fine-tuning: learn to give the answers of the data.

Rows are conversations (instruction and answer, question and answer, messages). The loss is the cross-entropy of the
assistant's tokens, its end of turn included; prompts, tool results and padding are read but not trained on
(Ouyang et al. 2022, arXiv 2203.02155, step 1). Use it when the model should answer in a taught way: form, style, labels.

Formula: loss = -sum over the answers' tokens of log p(token | prompt, those before it) / their number.

지도 미세 조정: 데이터의 답을 그대로 내도록 가르칩니다. 손실은 답 토큰(턴 끝 토큰 포함)에만 걸리고, 질문과 도구 결과는
읽기만 합니다. 답의 형식·말투·분류를 가르칠 때 먼저 쓰는 방법입니다.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from tunesmith.objectives._contract import Loss
from tunesmith.objectives._pairs import Kept
from tunesmith.text.example import Unit


@dataclass(frozen=True)
class Sft:
    """Cross-entropy of the assistant's tokens, averaged over all of them in a step."""

    shape: ClassVar[str] = "chat"
    weighted: ClassVar[bool] = True
    per: ClassVar[Mapping[str, str]] = {"answer": "tokens"}
    figures: ClassVar[Mapping[str, str]] = {
        "loss": "mean cross-entropy of the answers' tokens, in nats; exp(loss) is their perplexity\n\n"
        "답 토큰의 평균 교차 엔트로피(냇). exp(loss)가 퍼플렉시티입니다",
        "accuracy": "share of answer tokens that got a probability above one half\n\n확률이 절반을 넘은 답 토큰의 비율",
    }

    def units(self, row: Mapping[str, Any], text: Any, draw: np.random.Generator) -> list[Unit]:
        """One Unit per Example of the conversation (one, unless the template rewrites earlier turns)."""
        learned = [turn for turn in row["messages"] if turn["role"] == "assistant" and turn.get("train", True)]
        if learned and not any(turn.get("weight", 1) for turn in learned):
            return Kept(dropped=["its weight is 0"])
        examples = text.chat(row["messages"], row.get("tools"))
        return [Unit((example,), origin=row.get("origin", "")) for example in examples]

    def loss(self, policy: Any, batch: Any, helpers: Any) -> Loss:
        """Sum of weight x -log p over the trained-on tokens of `batch`."""
        total, logp = policy.nll(batch)
        weight = batch.weight.sum()
        above = ((logp > -0.6931472) * batch.weight).sum()
        return Loss({"answer": total}, {"loss": (total.detach(), weight), "accuracy": (above, weight)}, logp)
