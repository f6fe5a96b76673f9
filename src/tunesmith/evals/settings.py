"""Settings of evaluation: the section `eval` of a project file.

eval:
  split: test
  rows: 770
"""

from dataclasses import dataclass
from typing import Literal

from tunesmith.core.errors import SettingError
from tunesmith.core.limits import at_least


@dataclass(frozen=True)
class EvalSettings:
    """What is scored, and under which name the scores are kept."""

    split: Literal["dev", "test", "train"] = "test"
    """Which rows are scored. Each reading of the test split is counted and shown in the report.

    채점할 행. 테스트 분할을 읽을 때마다 횟수가 기록되고 보고서에 나옵니다."""

    rows: int | None = None
    """Score only so many rows, drawn from the seed and stratified like the split. Null = all.

    이만큼의 행만 채점합니다. 시드로 뽑고 층화합니다. null이면 전부."""

    source: str | None = None
    """Score only rows of this file (its name, with or without its ending): one task of a set of several.

    이 파일에서 온 행만 채점합니다(확장자는 빼도 됩니다). 여러 과제를 모은 데이터에서 과제 하나를 볼 때 씁니다."""

    panel: bool = False
    """Also score the fixed panel of other tasks, to see what the model forgot.

    다른 과제로 된 고정 묶음도 채점해 모델이 무엇을 잊었는지 봅니다."""

    name: str | None = None
    """Name of the files evals/NAME.json and .jsonl. Null = the split's name, with the source's behind it.

    evals/이름.json과 .jsonl의 이름. null이면 분할의 이름(과 그 뒤에 source)."""

    def __post_init__(self) -> None:
        at_least("eval.rows", self.rows, 1)
        if self.name is not None and (not self.name or "/" in self.name or self.name.startswith(".")):
            raise SettingError(
                f'eval.name is "{self.name}".', wanted="A plain file name without / at its start or inside."
            )
