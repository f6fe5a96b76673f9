"""Strict filling: types, unknown names, nested sections, values of the command line."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import annotated_types
import pytest

from tunesmith.core.errors import SettingError
from tunesmith.core.fill import Typed, choices, conform, describe, fill, words


@dataclass(frozen=True)
class Loop:
    """A loop."""

    bare: ClassVar[str] = "epochs"

    epochs: float | None = None
    """How often."""

    size: int = 4
    """How many."""

    kind: Literal["adam", "sgd"] = "adam"
    betas: tuple[float, float] = (0.9, 0.999)
    every: int | Literal["epoch"] | None = "epoch"

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ValueError("size is below 1")


@dataclass(frozen=True)
class Project:
    loop: Loop = field(default_factory=Loop)
    maybe: Loop | None = None
    name: str = "x"
    fast: bool = False
    words: tuple[str, ...] = ()
    columns: dict[str, str] = field(default_factory=dict)
    anything: Any = None
    share: float | int | str | None = None
    path: Path | None = None


@dataclass(frozen=True)
class Needs:
    must: int


def test_values_become_nested_frozen_dataclasses():
    made = fill(
        Project,
        {"loop": {"epochs": 3, "betas": [0.8, 0.9]}, "words": ["a"], "columns": {"answer": "reply"}, "path": "a/b"},
    )
    assert made == Project(
        loop=Loop(epochs=3.0, betas=(0.8, 0.9)), words=("a",), columns={"answer": "reply"}, path=Path("a/b")
    )
    assert isinstance(made.loop.epochs, float)
    assert fill(Project, {"loop": 2}).loop.epochs == 2.0
    assert fill(Project, {"loop": None, "maybe": None}) == Project()
    assert fill(Project, {"maybe": {"size": 2}}).maybe == Loop(size=2)
    assert fill(Loop, Loop(size=9)) == Loop(size=9)


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        ({"loop": {"epohcs": 3}}, 'There is no setting "loop.epohcs".\nDid you mean: loop.epochs'),
        ({"lop": {}}, 'There is no setting "lop".\nDid you mean: loop'),
        ({"zzz": 1}, "There are: loop, maybe"),
        ({"loop": {"epochs": "three"}}, 'loop.epochs is "three".\nIt must be a number or null.'),
        ({"loop": {"epochs": True}}, "loop.epochs is true."),
        ({"loop": {"size": 2.5}}, "loop.size is 2.5.\nIt must be a whole number."),
        ({"loop": {"size": "4"}}, 'loop.size is "4".'),
        ({"loop": {"size": True}}, "loop.size is true."),
        ({"loop": {"size": None}}, "loop.size is null."),
        ({"loop": {"kind": "adamm"}}, "It must be one of adam, sgd.\nDid you mean: adam"),
        ({"loop": {"betas": [0.9]}}, "It must be a list of 2 (a number, a number)."),
        ({"loop": {"every": "epohc"}}, 'It must be a whole number or "epoch" or null.\nDid you mean: epoch'),
        ({"loop": {"size": 0}}, "loop: size is below 1"),
        ({"loop": [1]}, "loop.epochs is [1]."),
        ({"fast": "yes"}, 'fast is "yes".\nIt must be true or false.'),
        ({"fast": 1}, "fast is 1."),
        ({"name": 7}, "name is 7.\nIt must be text."),
        ({"words": "a"}, "It must be a list (text each).\nWrite a list: [a]"),
        ({"columns": {"answer": 3}}, "columns.answer is 3.\nIt must be text."),
        ({"columns": ["a"]}, 'columns is ["a"].\nIt must be names with text each.'),
        ({"name": object()}, "name is a object."),
    ],
)
def test_what_is_wrong_is_told_with_its_name(raw: dict, said: str):
    with pytest.raises(SettingError) as error:
        fill(Project, raw)
    assert said in str(error.value)


def test_a_required_setting_is_asked_for():
    with pytest.raises(SettingError, match=r"x\.must is missing.\nIt must be a whole number"):
        fill(Needs, {}, "x")


def test_constraints_of_outsiders_hold():
    hint = Annotated[int, annotated_types.Gt(0)]
    assert conform(3, hint, "n") == 3
    with pytest.raises(SettingError, match="n is 0"):
        conform(0, hint, "n")


@pytest.mark.parametrize(
    ("text", "hint", "value"),
    [
        ("7", int, 7),
        ("7", str, "7"),
        ("7", float, 7.0),
        ("1e-4", float | None, 1e-4),
        ("null", float | None, None),
        ("null", str | None, None),
        ("null", str, "null"),
        ("true", bool, True),
        ("[a, b]", tuple[str, ...], ("a", "b")),
        ("0.1", float | int | str | None, 0.1),
        ("500", float | int | str | None, 500),
        ("dev.jsonl", float | int | str | None, "dev.jsonl"),
        ('{"intent": "{{ c }}"}', str | None, '{"intent": "{{ c }}"}'),
        ("{{ q }}", str | None, "{{ q }}"),
        ("50", int | Literal["epoch"] | None, 50),
        ("epoch", int | Literal["epoch"] | None, "epoch"),
        ("{a: [1]}", Any, {"a": [1]}),
        ("faq.jsonl", Any, "faq.jsonl"),
        ("", str, ""),
        ("a/b", Path, Path("a/b")),
    ],
)
def test_typed_text_means_what_the_setting_asks_for(text: str, hint: Any, value: Any):
    found = conform(Typed(text), hint, "x")
    assert found == value and type(found) is type(value)


def test_typed_text_of_a_wrong_kind_is_refused():
    with pytest.raises(SettingError, match='x is "many".\nIt must be a whole number.'):
        conform(Typed("many"), int, "x")


def test_typed_settings_inside_dicts_are_read():
    assert fill(Project, {"columns": {"answer": Typed("7")}, "anything": {"a": {"rank": Typed("16")}}}) == Project(
        columns={"answer": "7"}, anything={"a": {"rank": 16}}
    )
    assert fill(Project, {"loop": Typed("{size: 3}")}).loop.size == 3


def test_describe_reads_the_sentences():
    described = describe(Loop)
    assert [(field.name, field.type, field.default, field.doc) for field in described][:2] == [
        ("epochs", "float | None", "None", "How often."),
        ("size", "int", "4", "How many."),
    ]
    assert described[2].doc == ""


def test_types_in_words():
    assert words(float | None) == "a number or null"
    assert words(Literal["a", "b"]) == "one of a, b"
    assert words(list[int]) == "a list (a whole number each)"
    assert choices(Literal["a", "b"] | None) == ["a", "b"]
    assert choices(bool) == ["true", "false"]
