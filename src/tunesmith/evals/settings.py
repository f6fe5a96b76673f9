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
    """Also score the fixed panel of other tasks, to see what the model forgot. For models that write; others are told it was left out.

    다른 과제로 된 고정 묶음도 채점해 모델이 무엇을 잊었는지 봅니다. 글을 쓰는 모델에만 씁니다."""

    base: bool = False
    """Also score the model as it was before tuning on the same rows, with the paired test; both stand in the report.

    튜닝하기 전의 모델도 같은 행으로 채점하고 짝지은 검정을 합니다. 보고서에 둘 다 나옵니다."""

    samples: int = 1
    """Ask each row so many times, each from another seed, and report how much answers agree and scores spread. Needs
    generate.temperature above 0.

    각 행을 시드를 바꿔 이만큼 묻고, 답이 얼마나 같은지와 점수가 얼마나 흩어지는지 보고합니다. generate.temperature가 0보다 커야 합니다."""

    positions: int = 0
    """Of running text also the loss by position, in so many equal stretches of the model's context (or of `length`): does it make use
    of what stands far back? With eval.base beside the model as it was.

    이어진 글에서는 위치별 손실도 봅니다. 모델 문맥(또는 `length`)을 이만큼 같은 구간으로 나눕니다. 먼 앞을 쓰는지 알 수 있고, eval.base가 있으면 튜닝 전과 나란히 봅니다."""

    name: str | None = None
    """Name of the files evals/NAME.json and .jsonl. Null = the split's name, with the source's behind it.

    evals/이름.json과 .jsonl의 이름. null이면 분할의 이름(과 그 뒤에 source)."""

    def __post_init__(self) -> None:
        at_least("eval.rows", self.rows, 1)
        at_least("eval.samples", self.samples, 1)
        at_least("eval.positions", self.positions, 0)
        if self.name is not None and (not self.name or "/" in self.name or self.name.startswith(".")):
            raise SettingError(
                f'eval.name is "{self.name}".', wanted="A plain file name without / at its start or inside."
            )
