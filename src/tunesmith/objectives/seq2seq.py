"""Encoder-decoder tuning: one text is read whole, the other is written (T5, BART): translation, summaries, rewriting.

Rows are pairs (text, text2), or conversations, whose last answer is written and whose earlier turns are read. The loss is the
cross-entropy of the written tokens, end token included (Raffel et al. 2019, arXiv 1910.10683, section 2). Use it for models that have an encoder; for
decoders the same task is sft.

Formula: loss = -sum over the written tokens of log p(token | the text read, those before it) / their number.

인코더-디코더 학습: 글 하나를 통째로 읽고 다른 글을 씁니다(번역, 요약, 바꿔 쓰기). 손실은 쓰는 글의 토큰(끝 토큰 포함)에 걸립니다.
T5나 BART에 쓰며, 디코더 모델이라면 sft가 같은 일을 합니다.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from tunesmith.core.errors import DataError
from tunesmith.objectives._contract import Loss
from tunesmith.text.example import Example, Unit
from tunesmith.text.too_long import TooLong


@dataclass(frozen=True)
class Seq2seq:
    """Cross-entropy of the written text's tokens, averaged over all of them in a step."""

    shape: ClassVar[tuple[str, ...]] = ("pair", "chat")
    kind: ClassVar[str] = "seq2seq"
    weighted: ClassVar[bool] = True
    per: ClassVar[Mapping[str, str]] = {"written": "tokens"}
    figures: ClassVar[Mapping[str, str]] = {
        "loss": "mean cross-entropy of the written tokens, in nats; exp(loss) is their perplexity\n\n"
        "쓴 토큰의 평균 교차 엔트로피(냇). exp(loss)가 퍼플렉시티입니다",
        "accuracy": "share of written tokens that got a probability above one half\n\n"
        "확률이 절반을 넘은 쓴 토큰의 비율",
    }

    prefix: str = ""
    """Words put before every text that is read, such as "translate: ".

    읽는 글 앞마다 붙이는 말입니다(예: "translate: ")."""

    def texts(self, row: Mapping[str, Any]) -> tuple[str, str]:
        """(what is read, what is written): a pair, or the turns before the last answer and the answer."""
        if "text2" in row:
            return self.prefix + row["text"], row["text2"]
        turns = row["messages"]
        last = max((i for i, turn in enumerate(turns) if turn["role"] == "assistant"), default=0)
        if not last:
            raise DataError(
                "it has no answer after a question.", wanted="A turn to read and an assistant's turn to write."
            )
        read = "\n".join(str(turn.get("content") or "") for turn in turns[:last])
        return self.prefix + read, str(turns[last].get("content") or "")

    def weight(self, row: Mapping[str, Any]) -> float:
        """What each written token counts: as the pair says (data.weight), or the answer's message (weight, train)."""
        if "text2" in row:
            return float(row.get("weight", 1.0))
        answer = next(turn for turn in reversed(row["messages"]) if turn["role"] == "assistant")
        return float(answer.get("weight", 1.0)) if answer.get("train", True) else 0.0

    def units(self, row: Mapping[str, Any], text: Any, draw: np.random.Generator) -> list[Unit]:
        """One Unit: the source's ids, then the target's, on which the weights are."""
        read, written = self.texts(row)
        source, _ = text.tokenizer.around(read)
        target, _ = text.tokenizer.around(written)
        if text.length is not None and max(len(source), len(target)) > text.limit:
            if text.too_long == "drop":
                return []
            if text.too_long != "trim_prompt" or len(target) > text.limit:
                raise TooLong(max(len(source), len(target)), text.limit)
            text.num_trimmed += 1
            source, _ = text.tokenizer.around(read, most=text.limit)
        if not source or not target:
            raise DataError("one of its two texts is empty.", wanted="A text to read and a text to write.")
        weights = [0.0] * len(source) + [self.weight(row)] * len(target)
        return [Unit((Example.of([*source, *target], weights, source=len(source)),), origin=row.get("origin", ""))]

    def loss(self, policy: Any, batch: Any, helpers: Any) -> Loss:
        """Sum of weight x -log p over the written tokens."""
        total, logp = policy.nll(batch)
        weight = batch.weight.sum()
        above = ((logp > -0.6931472) * batch.weight).sum()
        return Loss({"written": total}, {"loss": (total.detach(), weight), "accuracy": (above, weight)}, logp)
