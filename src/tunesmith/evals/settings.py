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
    """Which rows are scored. Each reading of the test split is counted and shown in the report."""

    rows: int | None = None
    """Score only so many rows, drawn from the seed and stratified like the split. Null = all."""

    panel: bool = False
    """Also score the fixed panel of other tasks, to see what the model forgot."""

    name: str | None = None
    """Name of the files evals/NAME.json and .jsonl. Null = the split's name."""

    def __post_init__(self) -> None:
        at_least("eval.rows", self.rows, 1)
        if self.name is not None and (not self.name or "/" in self.name or self.name.startswith(".")):
            raise SettingError(f'eval.name is "{self.name}".', wanted="A plain file name without / at its start or inside.")
