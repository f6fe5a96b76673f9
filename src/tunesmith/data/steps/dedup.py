"""Drop rows that say what an earlier row said already, white space and upper case aside.

Use it always, and before a split is drawn: a test row that was trained on measures memory (Lee et al. 2021, arXiv 2107.06499).

    steps: [dedup]                       # whole rows: the same question with another answer stays
    steps: [{dedup: {part: prompt}}]     # the first answer to each question stays

앞의 행과 같은 말을 하는 행을 뺍니다. 띄어쓰기와 대소문자만 다른 것도 같은 것으로 봅니다. part: prompt 이면 질문이 같은 행을 뺍니다.

Memory: 8 bytes a row (64-bit hashes; among a million rows two different ones share a hash with odds of 1 to 37 million).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from tunesmith.data.hashes import HashSet, content_hash
from tunesmith.data.rows import Row
from tunesmith.data.steps import Drop


@dataclass(frozen=True)
class Dedup:
    """Keep the first of rows that are equal."""

    part: Literal["all", "prompt", "answer"] = "all"
    """What must be equal: the whole row, its prompt, or its answer.

    무엇이 같아야 하는지: 행 전체, 질문, 또는 답."""

    def apply(self, rows: Iterator[Row]) -> Iterator[Row | Drop]:
        seen = HashSet()
        reason = "duplicate" if self.part == "all" else f"duplicate {self.part}"
        for row in rows:
            yield row if seen.add(content_hash(row, self.part)) else Drop(row, reason)
