"""Settings of the data: the section `data` of a project file.

data: questions.jsonl                    # short for  data: {path: questions.jsonl}

data:
  path: banking77.csv
  prompt: '{{ text }}'                   # templates over the columns
  answer: '{"intent": "{{ category }}"}'
  dev: 500
"""

from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from tunesmith.core.errors import SettingError
from tunesmith.core.limits import at_least


@dataclass(frozen=True)
class DataSettings:
    """Where rows come from, what their columns mean, and how they are split."""

    bare: ClassVar[str] = "path"

    path: Any = None
    """A file, a folder of text files, a pattern like parts/*.jsonl, or a list of them; relative to the project file.
    From Python also a list of dicts, a dict of lists, or a DataFrame."""

    name: str | None = None
    """A data set of the Hugging Face hub, such as klue, in place of a path."""

    config: str | None = None
    """Which part of the hub's data set, such as ynat."""

    split: str | None = None
    """Which split of the hub's data set to read. Null = train, validation as dev and test as test where it has them."""

    format: Literal["jsonl", "json", "csv", "tsv", "parquet", "xlsx", "text", "lines"] | None = None
    """Format of the file. Null = recognised by its name and content."""

    shape: (
        Literal["messages", "sharegpt", "instruction", "prompt_completion", "question_answer", "text", "text_label"] | None
    ) = None
    """What the columns make up. Null = recognised, and shown."""

    columns: dict[str, str] = field(default_factory=dict)
    """Names of columns that are called differently here, as  answer: reply."""

    prompt: str | None = None
    """Template of the user's message over the columns, as  '{{ question }}'."""

    answer: str | None = None
    """Template of the assistant's answer over the columns, as  '{"intent": "{{ category }}"}'."""

    system: str | None = None
    """Template of the system message, put before every conversation that has none."""

    label_names: tuple[str, ...] = ()
    """Names of labels that are numbers in the file, from 0."""

    bad_rows: Literal["error", "drop"] = "error"
    """A row that cannot be read stops everything, or is dropped and listed in data/dropped.jsonl."""

    dev: float | int | str | None = None
    """Rows held out for choosing: a share below 1, a count, or a file of its own. Null = a tenth, 1000 at most."""

    test: float | int | str | None = None
    """Rows held out for the final figures: a share below 1, a count, or a file of its own. Null = as dev."""

    stratify: str | None = None
    """A column whose values get equal shares in all splits."""

    steps: tuple[Any, ...] = ()
    """Data steps in their order, such as [dedup, {filter: {most: 500}}]."""

    seed: int | None = None
    """Decides the split. Null = the project's seed."""

    header: bool | None = None
    """Does the first line of a CSV or TSV name the columns? Null = recognised, and shown."""

    delimiter: str | None = None
    """What stands between the cells of a CSV or TSV. Null = recognised, and shown."""

    sheet: str | None = None
    """The sheet of an XLSX file. Null = the only one with rows."""

    encoding: str | None = None
    """Encoding of text files, such as cp949; repair puts text right that was encoded twice. Null = UTF-8."""

    weight: str | None = None
    """A column with the weight of each row in training."""

    def __post_init__(self) -> None:
        if self.path is not None and self.name is not None:
            raise SettingError(
                f'data.path and data.name ("{self.name}") are both given.',
                wanted="path is a file, name a data set of the Hugging Face hub.",
                fix="Leave one out.",
            )
        if self.name is None:
            for name, value in (("config", self.config), ("split", self.split)):
                if value is not None:
                    raise SettingError(
                        f'data.{name} is "{value}", but data.name is missing.',
                        wanted=f"{name} says which part of a hub data set is read.",
                        fix="Name the data set: data.name=...",
                    )
        for name, value in (("dev", self.dev), ("test", self.test)):
            if isinstance(value, bool):
                raise SettingError(f"data.{name} is {value}.", wanted="A share below 1, a count, or a path.")
            if isinstance(value, float) and value > 1 and not value.is_integer():
                raise SettingError(f"data.{name} is {value}.", wanted="A share below 1, or a whole number of rows.")
            if isinstance(value, int | float):
                at_least(f"data.{name}", value, 0)
