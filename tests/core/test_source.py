"""Reading Python files without running them."""

from pathlib import Path

import pytest

from tunesmith.core import source
from tunesmith.core.errors import ProjectError

ITEM = '''"""Mine: a metric of my own.

More about it.
"""
from dataclasses import dataclass, field
from typing import ClassVar
raise SystemExit("was run")

@dataclass(frozen=True)
class MyMetric:
    """Scores."""

    shape: ClassVar[str] = "chat"
    _hidden: int = 0

    ratio: float = 0.5
    """Of what,
    in words.

    무엇의
    비율인지."""

    names: tuple[str, ...] = field(default_factory=tuple)
    must: int
'''
VERB = '''"""A verb."""
from x import y

def other(a): ...

def verb(config: str | None = None, *words: str, steps: int = 3, fast: bool = False, **keys: int) -> "Result":
    """Do it.

    Example: tunesmith verb
    """
'''


def test_an_item_is_described_without_being_run(tmp_path: Path):
    path = tmp_path / "my_metric.py"
    path.write_text(ITEM)
    assert source.class_for(path) == "MyMetric"
    assert source.first_line(path) == "Mine: a metric of my own."
    assert source.module_doc(path).endswith("More about it.")
    assert source.class_doc(path, "MyMetric") == "Scores."
    assert source.line_of(path, "MyMetric") == 10
    fields = source.fields(path, "MyMetric")
    assert [(f.name, f.type, f.default, f.doc) for f in fields] == [
        ("ratio", "float", "0.5", "Of what, in words."),
        ("names", "tuple[str, ...]", "field(default_factory=tuple)", ""),
        ("must", "int", "", ""),
    ]
    assert fields[0].korean == "무엇의 비율인지."
    assert fields[0].value() == 0.5
    assert fields[1].value() is fields[2].value() is source.MISSING


def test_a_verb_is_described_without_being_run(tmp_path: Path):
    path = tmp_path / "verb.py"
    path.write_text(VERB)
    assert source.verb_line(path) == "Do it."
    assert source.defines_function(path, "verb") and not source.defines_function(path, "nothing")
    function = source.function(path, "verb")
    assert [(f.name, f.default) for f in function.positional] == [("config", "None")]
    assert [(f.name, f.type, f.default) for f in function.keyword] == [("steps", "int", "3"), ("fast", "bool", "False")]
    assert (function.more, function.keys, function.line) == ("words", "keys", 6)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ('"""One."""', "One."),
        ('"""One.\n\nTwo."""', "One."),
        ("'''One.'''", "One."),
        ('# a comment\nr"""One."""', "One."),
        ("x = 1", ""),
        ("", ""),
    ],
)
def test_first_lines(tmp_path: Path, text: str, line: str):
    (tmp_path / "x.py").write_text(text)
    assert source.first_line(tmp_path / "x.py") == line


@pytest.mark.parametrize(
    ("name", "text", "wanted"),
    [
        ("dpo", "class DPO:\n    pass", "DPO"),
        ("exact_match", "class Other: ...\nclass ExactMatch: ...", "ExactMatch"),
        ("helpers", "class Other: ...", ""),
        ("inner", "def f():\n    class Inner: ...", ""),
    ],
)
def test_the_class_of_an_item_is_called_like_its_file(tmp_path: Path, name: str, text: str, wanted: str):
    (tmp_path / f"{name}.py").write_text(text)
    assert source.class_for(tmp_path / f"{name}.py") == wanted


def test_what_is_no_python_is_told_with_its_line(tmp_path: Path):
    (tmp_path / "bad.py").write_text("class Bad:\n    x = (\n")
    with pytest.raises(ProjectError, match=r"bad\.py:2 is not Python"):
        source.fields(tmp_path / "bad.py", "Bad")
    (tmp_path / "cp949.py").write_bytes("# 안녕".encode("cp949"))
    with pytest.raises(ProjectError, match="not UTF-8"):
        source.class_for(tmp_path / "cp949.py")


def test_a_changed_file_is_read_again(tmp_path: Path):
    import os

    path = tmp_path / "a.py"
    path.write_text("class A:\n    x: int = 1\n")
    assert [f.name for f in source.fields(path, "A")] == ["x"]
    path.write_text("class A:\n    y: int = 1\n")
    os.utime(path, ns=(1, 1))
    assert [f.name for f in source.fields(path, "A")] == ["y"]


def test_what_a_class_says_through_names_is_read_without_running_it(tmp_path: Path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "far_facts.py").write_text(
        'raise SystemExit("was run")\nBOTH = {"loss": "of " "all"}\nclass Other:\n    figures: ClassVar = {"kl": "far"}\n'
    )
    (tmp_path / "near.py").write_text(
        "import far_facts as far\nfrom far_facts import BOTH, Other\nMORE: dict = {**BOTH}\n"
        "class Near:\n"
        '    figures: ClassVar = {**MORE, **Other.figures, "own": far.BOTH["loss"]}\n'
        '    computed: ClassVar = dict(a=1)\n    unknown: ClassVar = {**NOWHERE}\n    shape: ClassVar = "chat"\n'
        '    @property\n    def per(self):\n        """By settings.\n\n        More."""\n'
    )
    facts = source.class_facts(tmp_path / "near.py", "Near")
    assert facts == {"figures": {"loss": "of all", "kl": "far", "own": "of all"}, "shape": "chat"}
    assert source.property_docs(tmp_path / "near.py", "Near") == {"per": "By settings."}
