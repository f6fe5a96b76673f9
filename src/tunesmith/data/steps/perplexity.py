"""Drop rows whose text surprises a language model too much or too little (a perplexity filter).

Use it on text from the web and from old systems: what is most surprising is often no language, what is least surprising is often
repeated. Look at what it drops (data/dropped.jsonl) before you trust a threshold: unusual is not bad, and a model finds the words
of its own field and language easiest.

Formula: perplexity = exp(mean -log p of a token); bits per byte = sum of -log2 p / UTF-8 bytes, which models of other tokenizers share.

Source: Wenzek et al. 2019 (CCNet), arXiv 1911.00359, section 3.3; Marion et al. 2023, arXiv 2309.04564 (the middle is best).

    steps: [{perplexity: {most: 800}}]                                       by mini
    steps: [{perplexity: {model: runs/pretrain-1, unit: bits_per_byte, least: 0.5, most: 4, part: answer}}]

언어 모델이 보기에 너무 뜻밖이거나 너무 뻔한 글이 든 행을 뺍니다. 문턱값을 믿기 전에 무엇이 빠졌는지 data/dropped.jsonl에서 살펴보세요. 드문 것이
나쁜 것은 아니며, 모델은 자기가 배운 분야와 언어를 가장 쉽게 여깁니다.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import ClassVar, Literal

from tunesmith.core.errors import SettingError
from tunesmith.data.rows import Row
from tunesmith.data.steps import Drop, said

ROWS_AT_ONCE = 256

Surprises = Callable[[Sequence[str]], list[tuple[float, int, int]]]


@dataclass(frozen=True)
class Perplexity:
    """Keep rows between two thresholds; a row without a token to predict stays."""

    needs: ClassVar[tuple[str, ...]] = ("nll",)

    most: float | None = None
    """Rows above it are dropped. Null = no limit.

    이보다 높은 행을 뺍니다. null이면 제한이 없습니다."""

    least: float | None = None
    """Rows below it are dropped. Null = no limit.

    이보다 낮은 행을 뺍니다. null이면 제한이 없습니다."""

    unit: Literal["perplexity", "bits_per_byte"] = "perplexity"
    """What the thresholds are in; bits per byte do not depend on the tokenizer.

    문턱값의 단위. 바이트당 비트는 토크나이저에 좌우되지 않습니다."""

    model: str = "mini"
    """The causal model that reads: a name, a folder or a run.

    글을 읽을 모델: 이름, 폴더, 또는 실행 폴더."""

    part: Literal["all", "prompt", "answer"] = "all"
    """What is read: the whole row, its prompt, or its answer.

    무엇을 읽는지: 행 전체, 질문, 또는 답."""

    def __post_init__(self) -> None:
        if self.most is None and self.least is None:
            raise SettingError(
                "The step perplexity has no threshold.",
                wanted="most, least or both.",
                fix="steps: [{perplexity: {most: 800}}]",
            )
        if self.most is not None and self.least is not None and self.most < self.least:
            raise SettingError(f"least is {self.least:g} and most {self.most:g}: no row can pass.")

    def apply(self, rows: Iterator[Row], nll: Callable[[str], Surprises]) -> Iterator[Row | Drop]:
        """nll  a model's name -> texts -> (nats, tokens, bytes) of each, as evals/perplexity.py gives them"""
        measure = nll(self.model)
        while chosen := list(islice(rows, ROWS_AT_ONCE)):
            found = measure([said(row, self.part) for row in chosen])
            for row, (nats, tokens, size) in zip(chosen, found, strict=True):
                yield self._judged(row, nats, tokens, size)

    def _judged(self, row: Row, nats: float, tokens: int, size: int) -> Row | Drop:
        count = tokens if self.unit == "perplexity" else size
        if not count:
            return row
        value = math.exp(min(700.0, nats / tokens)) if self.unit == "perplexity" else nats / math.log(2) / size
        words = f"{value:,.4g} {self.unit.replace('_', ' ')}"
        if self.most is not None and value > self.most:
            return Drop(row, "too surprising", f"{words}, at most {self.most:g}")
        if self.least is not None and value < self.least:
            return Drop(row, "too predictable", f"{words}, at least {self.least:g}")
        return row
