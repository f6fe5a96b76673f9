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
    From Python also a list of dicts, a dict of lists, or a DataFrame.

    파일, 텍스트 파일이 든 폴더, parts/*.jsonl 같은 패턴, 또는 그 목록. 프로젝트 파일을 기준으로 합니다."""

    name: str | None = None
    """A data set of the Hugging Face hub, such as klue, in place of a path.

    path 대신 쓰는 Hugging Face 허브 데이터 세트의 이름(예: klue)."""

    config: str | None = None
    """Which part of the hub's data set, such as ynat.

    허브 데이터 세트의 어느 부분인지(예: ynat)."""

    split: str | None = None
    """Which split of the hub's data set to read. Null = train, validation as dev and test as test where it has them.

    허브 데이터 세트의 어느 분할을 읽는지. null이면 train, 그리고 있으면 validation을 dev로, test를 test로 씁니다."""

    format: Literal["jsonl", "json", "csv", "tsv", "parquet", "xlsx", "text", "lines"] | None = None
    """Format of the file. Null = recognised by its name and content.

    파일 형식. null이면 이름과 내용으로 알아냅니다."""

    shape: (
        Literal[
            "messages", "sharegpt", "instruction", "prompt_completion", "question_answer", "text", "text_label",
            "preference", "rated", "scored", "prompts", "infill", "pair", "group",
        ]
        | None
    ) = None  # fmt: skip
    """What the columns make up. Null = recognised, and shown.

    열들이 이루는 모양. null이면 알아내어 보여 줍니다."""

    columns: dict[str, str] = field(default_factory=dict)
    """Names of columns that are called differently here, as  answer: reply.

    여기서 다른 이름을 쓰는 열. 예: answer: reply."""

    group: int | str | None = None
    """Texts that mean the same: the column whose value they share, or how many rows follow one another.

    뜻이 같은 글들: 같은 값을 갖는 열의 이름, 또는 잇달아 놓인 행의 수."""

    prompt: str | None = None
    """Template of the user's message over the columns, as  '{{ question }}'.

    열로 만드는 사용자 메시지의 틀. 예: '{{ question }}'."""

    answer: str | None = None
    """Template of the assistant's answer over the columns, as  '{"intent": "{{ category }}"}'.

    열로 만드는 답의 틀. 예: '{"intent": "{{ category }}"}'."""

    system: str | None = None
    """Template of the system message, put before every conversation that has none.

    시스템 메시지의 틀. 시스템 메시지가 없는 대화 앞에 붙습니다."""

    label_names: tuple[str, ...] = ()
    """Names of labels that are numbers in the file, from 0.

    파일에 숫자로 적힌 라벨의 이름, 0번부터."""

    bad_rows: Literal["error", "drop"] = "error"
    """A row that cannot be read stops everything, or is dropped and listed in data/dropped.jsonl.

    읽을 수 없는 행이 있으면 멈추거나(error), 빼고 data/dropped.jsonl에 적습니다(drop)."""

    dev: float | int | str | None = None
    """Rows held out for choosing: a share below 1, a count, or a file of its own. Null = a tenth, 1000 at most.

    고르는 데 쓰려고 떼어 두는 행: 1보다 작으면 비율, 아니면 개수, 또는 따로 있는 파일. null이면 10분의 1, 최대 1000."""

    test: float | int | str | None = None
    """Rows held out for the final figures: a share below 1, a count, or a file of its own. Null = as dev.

    마지막 수치를 위해 떼어 두는 행: 비율, 개수, 또는 파일. null이면 dev와 같습니다."""

    stratify: str | None = None
    """A column whose values get equal shares in all splits.

    모든 분할에서 값의 비율이 같아야 하는 열."""

    steps: tuple[Any, ...] = ()
    """Data steps in their order, such as [dedup, {filter: {most: 500}}].

    차례로 거치는 데이터 단계. 예: [dedup, {filter: {most: 500}}]."""

    seed: int | None = None
    """Decides the split. Null = the project's seed.

    분할을 정합니다. null이면 프로젝트의 seed."""

    header: bool | None = None
    """Does the first line of a CSV or TSV name the columns? Null = recognised, and shown.

    CSV나 TSV의 첫 줄이 열 이름인지. null이면 알아내어 보여 줍니다."""

    delimiter: str | None = None
    """What stands between the cells of a CSV or TSV. Null = recognised, and shown.

    CSV나 TSV에서 칸을 나누는 글자. null이면 알아내어 보여 줍니다."""

    sheet: str | None = None
    """The sheet of an XLSX file. Null = the only one with rows.

    XLSX에서 읽을 시트. null이면 하나뿐인 시트를 읽습니다."""

    encoding: str | None = None
    """Encoding of text files, such as cp949; repair puts text right that was encoded twice. Null = UTF-8.

    텍스트 파일의 인코딩(예: cp949). null이면 UTF-8."""

    weight: str | None = None
    """A column with the weight of each row in training.

    학습에서 각 행의 가중치가 든 열."""

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
        part: float | int | str | None
        for name, part in (("dev", self.dev), ("test", self.test)):
            if isinstance(part, bool):
                raise SettingError(f"data.{name} is {part}.", wanted="A share below 1, a count, or a path.")
            if isinstance(part, float) and part > 1 and not part.is_integer():
                raise SettingError(f"data.{name} is {part}.", wanted="A share below 1, or a whole number of rows.")
            if isinstance(part, int | float):
                at_least(f"data.{name}", part, 0)
