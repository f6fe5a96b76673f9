"""Infilling: write what belongs in a blank, from the text before and after it.

Rows are texts, in which a random stretch of characters becomes the blank, or prefix, middle and suffix as they are given. The
parts are written in another order, prefix-suffix-middle or suffix-prefix-middle, and learned like any text: also a model that was
pre-trained left to right learns it, and keeps writing left to right at a rate below 1 (Bavarian et al. 2022, arXiv 2207.14255;
fine-tuning: section 5). Use it for editing text and mending code.

Formula: loss = -sum log p(token | what stands before it in <PRE> prefix <SUF> suffix <MID> middle <END>) / number of tokens.

빈칸 채우기: 앞뒤 글을 보고 그 사이에 들어갈 말을 쓰도록 배웁니다. 글이면 글자 구간 하나를 무작위로 빈칸으로 만들고, 앞·가운데·뒤로
나뉜 행이면 그대로 씁니다. 글을 고치거나 코드를 고칠 때 씁니다. 왼쪽에서 오른쪽으로만 배운 모델도 배울 수 있습니다.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np

from tunesmith.core.limits import between
from tunesmith.objectives._contract import Loss
from tunesmith.text.example import Unit, weighed


@dataclass(frozen=True)
class Infill:
    """Cross-entropy of rearranged texts, averaged over all trained-on tokens in a step."""

    rate: float = 0.9
    """Share of texts (of stretches of a long one) that get a blank; the rest is learned left to right. Rows with a given blank always
    have theirs.

    빈칸이 생기는 글(긴 글에서는 조각)의 비율. 나머지는 왼쪽에서 오른쪽으로 배웁니다. 빈칸이 정해진 행은 언제나 그대로입니다."""

    spm: float = 0.5
    """Share of blanks written suffix first (suffix-prefix-middle); the others prefix first. Learning both helps each.

    뒤 글을 먼저 쓰는(뒤-앞-가운데) 빈칸의 비율. 나머지는 앞 글을 먼저 씁니다. 둘 다 배우면 서로 도움이 됩니다."""

    level: Literal["context", "document"] = "context"
    """Where a text too long for one example gets its blank: in each stretch, which then fits whole (context), or once in the document,
    which is cut afterwards and may lose its prefix on the way (document).

    한 예제보다 긴 글의 빈칸을 어디에 만드는지: 조각마다 하나씩(context), 아니면 글 전체에 한 번 만든 뒤 자릅니다(document)."""

    learn: Literal["all", "middle"] = "all"
    """What is trained on: every token of the text (all), or the middle and its end alone (middle). Control tokens never are.

    무엇을 학습하는지: 글의 모든 토큰(all), 또는 가운데와 그 끝만(middle). 제어 토큰은 학습하지 않습니다."""

    shape: ClassVar[tuple[str, ...]] = ("infill", "text")
    weighted: ClassVar[bool] = True
    per: ClassVar[Mapping[str, str]] = {"text": "tokens"}
    figures: ClassVar[Mapping[str, str]] = {
        "loss": "mean cross-entropy of the trained-on tokens, in nats\n\n학습하는 토큰의 평균 교차 엔트로피(냇)",
        "middle_loss": "mean cross-entropy of the middles and their ends alone, in nats\n\n"
        "가운데 부분과 그 끝만의 평균 교차 엔트로피(냇)",
    }

    def __post_init__(self) -> None:
        between("rate", self.rate, 0, 1)
        between("spm", self.spm, 0, 1)

    def units(self, row: Mapping[str, Any], text: Any, draw: np.random.Generator) -> list[Unit]:
        """One Unit for a given blank, or one per stretch of a text."""
        from tunesmith.text.infill import blanked, filled

        only = self.learn == "middle"
        if "middle" in row:
            parts = row.get("prefix", ""), row["middle"], row.get("suffix", "")
            examples = filled(text, *parts, spm=draw.random() < self.spm, middle_only=only)
        else:
            settings: dict[str, Any] = {"rate": self.rate, "spm": self.spm, "whole": self.level == "document"}
            examples = blanked(text, row["text"], draw, middle_only=only, **settings)
        return [Unit((weighed(example, row),), origin=row.get("origin", "")) for example in examples]

    def loss(self, policy: Any, batch: Any, helpers: Any) -> Loss:
        """Sum of weight x -log p over the trained-on tokens, wherever they stand."""
        total, logp = policy.nll(batch)
        inside = batch.columns["middle"] * batch.weight
        stats = {"loss": (total.detach(), batch.weight.sum()), "middle_loss": (-(logp * inside).sum(), inside.sum())}
        return Loss({"text": total}, stats, logp)
