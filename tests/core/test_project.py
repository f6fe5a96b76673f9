"""The project file and the keys of the command line."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunesmith.core.errors import ProjectError, SettingError
from tunesmith.core.project import Typed, merge, parse_keys, parse_value, parse_yaml, place, read_project, to_yaml


def write(folder: Path, text: str, name: str = "tunesmith.yaml") -> Path:
    path = folder / name
    path.write_bytes(text.encode())
    return path


def test_yaml_is_read_as_yaml_1_2(tmp_path: Path):
    text = "\ufeffa: 1e-4\nb: no\nc: 1_000\nd: 010\ne: 2026-01-01\nf: 12:30\ng:\nh: true\ni: 0x10\nj: on\nk: .5\nl: -3\nm: '7'\n"
    assert read_project(write(tmp_path, text)) == {
        "a": 1e-4, "b": "no", "c": 1000, "d": 10, "e": "2026-01-01", "f": "12:30", "g": None, "h": True, "i": 16, "j": "on",
        "k": 0.5, "l": -3, "m": "7",
    }  # fmt: skip


def test_anchors_and_merge_keys_work_and_may_be_overridden():
    assert parse_yaml("a: &x {p: 1, q: 2}\nb: {<<: *x, q: 3}\n", "f") == {"a": {"p": 1, "q": 2}, "b": {"p": 1, "q": 3}}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: 1\nb: 2\na: 3\n", '"a" is repeated (first on line 1, again on line 3)'),
        ("t:\n  x: 1\n  # more\n  x: 1\n", '"x" is repeated (first on line 2, again on line 4)'),
        ("t: {x: 1, x: 2}\n", '"x" is repeated (first on line 1, again on line 1)'),
        ("prompt: {{ question }}\n", "Put the template in quotes"),
        ("a: [1\nb: 2\n", "tunesmith.yaml:2:"),
        ("\ta: 1\n", "spaces, not tabs"),
        ("a: b: c\n", "tunesmith.yaml:1: mapping values are not allowed here"),
        ("- 1\n- 2\n", "holds no settings but list"),
        ("just words\n", "holds no settings but str"),
        ("a: !!python/object/apply:os.system [echo]\n", "could not determine a constructor"),
        ("a: *nowhere\n", "undefined alias"),
        ("a: \x00\n", "not YAML"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(tmp_path: Path, text: str, said: str):
    with pytest.raises(ProjectError) as error:
        read_project(write(tmp_path, text))
    assert said in str(error.value)


def test_other_encodings_missing_files_and_empty_ones(tmp_path: Path):
    (tmp_path / "cp949.yaml").write_bytes("system: 안녕".encode("cp949"))
    with pytest.raises(ProjectError, match="not UTF-8"):
        read_project(tmp_path / "cp949.yaml")
    write(tmp_path, "")
    assert read_project(tmp_path) == {}
    with pytest.raises(ProjectError, match=r"no project file .*tunesmit.yaml.\nThere is: tunesmith.yaml"):
        read_project(tmp_path / "tunesmit.yaml")
    with pytest.raises(ProjectError, match="tunesmith new"):
        read_project(tmp_path / "nowhere" / "x.yaml")


def test_keys_nest_at_dots_and_stay_text():
    keys = parse_keys(["train.lr=1e-4", "train.epochs=3", "model=mini", "answer={{ a }} = b", "x="])
    assert keys == {"train": {"lr": "1e-4", "epochs": "3"}, "model": "mini", "answer": "{{ a }} = b", "x": ""}
    assert isinstance(keys["train"]["lr"], Typed)


@pytest.mark.parametrize(
    ("items", "said"),
    [
        (["lr"], "name=value"),
        (["=3"], "name=value"),
        (["lr=1", "lr=2"], '"lr" is given twice'),
        (["train.lr=1", "train=x", "train=y"], '"train" is given twice'),
        (["train=x", "train=y", "train.lr=1"], '"train" is given twice'),
    ],
)
def test_keys_that_cannot_be_meant_are_refused(items: list[str], said: str):
    with pytest.raises(SettingError, match=said):
        parse_keys(items)


def test_typed_values_are_yaml_where_they_are_yaml():
    assert parse_value("[a, 1, {b: 2}]") == ["a", 1, {"b": 2}]
    assert parse_value("1e-4") == 1e-4
    assert parse_value("null") is None
    assert parse_value("{{ question }}") == "{{ question }}"
    assert parse_value("a: b: c") == "a: b: c"
    with pytest.raises(ProjectError, match="repeated"):
        parse_value("{a: 1, a: 2}")


@settings(deadline=None)  # the machine may be busy
@given(st.integers() | st.floats(allow_nan=False) | st.booleans())
def test_plain_values_survive_the_command_line(value: Any):
    import json

    assert parse_value(json.dumps(value).replace("Infinity", ".inf")) == value


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
    | st.sampled_from(["no", "1e5", "010", "0x1F", "~", "12:30:45", ".inf", "2026-01-01", "- a", "a: b", "# c", "{{ q }}", "1_000"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip


@settings(deadline=None)  # the machine may be busy
@given(VALUES)
def test_what_is_written_as_yaml_reads_back_the_same(value: Any):
    import yaml

    assert parse_yaml(to_yaml({"value": value}), "x") == {"value": value}
    assert yaml.safe_load(to_yaml({"value": value})) == {"value": value}


def test_merge_goes_deep_and_the_second_wins():
    assert merge({"a": {"x": 1, "y": 2}, "b": 1}, {"a": {"y": 3}, "c": 4}) == {"a": {"x": 1, "y": 3}, "b": 1, "c": 4}
    assert merge({"a": {"x": 1}}, {"a": "word"}) == {"a": "word"}
    assert merge({"a": [1]}, {"a": [2]}) == {"a": [2]}


def test_a_class_may_say_what_a_word_of_several_sections_means():
    @dataclass(frozen=True)
    class Short:
        short: ClassVar[dict[str, str]] = {"name": "train"}
        data: Inner = field(default_factory=Inner)
        train: Other = field(default_factory=Other)

    assert place(Short, {"name": "x"}) == {"train": {"name": "x"}}


def test_a_bare_value_and_settings_of_the_same_section():
    for items in (["data=x", "data.name=n"], ["data.name=n", "data=x"]):
        assert place(Top, parse_keys(items)) == {"data": {"path": "x", "name": "n"}}
    with pytest.raises(SettingError, match='"data" and "data.path" are both given'):
        place(Top, parse_keys(["data=x", "data.path=y"]))
    with pytest.raises(SettingError, match='train is "x"'):
        place(Top, parse_keys(["train=x", "train.lr=1"]))


@dataclass(frozen=True)
class Inner:
    bare: ClassVar[str] = "path"
    path: str = ""
    name: str = ""


@dataclass(frozen=True)
class Other:
    lr: float = 0.1
    name: str = ""


@dataclass(frozen=True)
class Top:
    model: str = ""
    data: Inner = field(default_factory=Inner)
    train: Other = field(default_factory=Other)


def test_shorthands_go_to_the_only_section_that_has_them():
    assert place(Top, {"lr": 1, "data": "x.jsonl", "model": "m"}) == {
        "train": {"lr": 1},
        "data": {"path": "x.jsonl"},
        "model": "m",
    }
    assert place(Top, {"lr": 1, "train": {"name": "n"}}) == {"train": {"name": "n", "lr": 1}}


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        ({"name": "x"}, '"name" could be data.name, train.name'),
        ({"lr": 1, "train": {"lr": 2}}, '"lr" and "train.lr" are both given'),
        ({"lrr": 1}, "Did you mean: train.lr"),
        ({"modle": 1}, "Did you mean: model"),
        ({"train": 5}, "train is 5.\nIt must hold settings: lr, name."),
    ],
)
def test_shorthands_that_are_unclear_are_refused(raw: dict, said: str):
    with pytest.raises(SettingError) as error:
        place(Top, raw)
    assert said in str(error.value)
