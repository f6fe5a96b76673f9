"""Shelves: a folder listing is the registry; the user's own files; specs."""

import multiprocessing
import os
import pickle
import sys
from pathlib import Path
from typing import Any

import pytest

from tunesmith.core.errors import ProjectError, SettingError
from tunesmith.core.shelf import USE, shelf, shelves, use, used

MINE = '''"""mine: a metric of my own."""
from dataclasses import dataclass

@dataclass(frozen=True)
class Mine:
    ratio: float = 0.5
    """A share."""
    words: tuple[str, ...] = ()
    """Some."""

    def score(self, prediction, row):
        return self.ratio
'''


@pytest.fixture(autouse=True)
def no_files_of_others(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(USE, "{}")
    yield
    for name in [name for name in sys.modules if name.startswith("tunesmith.core.user.")]:
        del sys.modules[name]


def own(root: Path, text: str = MINE, name: str = "metrics/mine.py") -> str:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return name


def test_the_folder_is_the_registry():
    names = shelf("metrics").names()
    assert "exact_match" in names and names == sorted(names)
    assert not [name for name in names if name.startswith("_")]
    assert [one.name for one in shelves()] == ["metrics", "steps", "adapters", "objectives"]
    assert "dedup" in shelf("steps").names() and "sft" in shelf("objectives").names()
    with pytest.raises(SettingError, match="Did you mean: metrics"):
        shelf("metric")


def test_an_item_is_found_loaded_and_made():
    metrics = shelf("metrics")
    assert metrics.path("exact_match").name == "exact_match.py"
    assert metrics.load("exact_match").__name__ == "ExactMatch"
    made = metrics.make({"exact_match": {"ignore_case": True}})
    assert made.ignore_case and metrics.make(made) is made
    assert metrics.make("exact_match") == metrics.make({"exact_match": None}) == metrics.make({"exact_match": {}})
    assert metrics.filled({"exact_match": {"ignore_case": True}}) == {
        "exact_match": {"ignore_case": True, "ignore_punctuation": False}
    }
    assert metrics.item("exact_match").doc and metrics.item("exact_match").origin == "built in"


def test_looking_runs_nothing(tmp_path: Path):
    use([own(tmp_path, MINE + "\nraise SystemExit('was run')\n")], tmp_path)
    metrics = shelf("metrics")
    assert metrics.item("mine").doc == "a metric of my own."
    assert metrics.filled("mine") == {"mine": {"ratio": 0.5, "words": ()}}
    with pytest.raises(SettingError, match=r"mine.ratoi"):
        metrics.spec({"mine": {"ratoi": 1}})
    with pytest.raises(SystemExit):
        metrics.make("mine")


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("exact_macth", 'There is no metric "exact_macth".\nDid you mean: exact_match'),
        ({"exact_match": {"ignore_csae": True}}, "Did you mean: metrics[0].exact_match.ignore_case"),
        (
            {"exact_match": {"ignore_case": "yes"}},
            'metrics[0].exact_match.ignore_case is "yes".\nIt must be true or false.',
        ),
        ({"exact_match": 3}, "metrics[0].exact_match is 3."),
        ({"exact_match": {}, "accuracy": {}}, "It must be the name of a metric"),
        ([], "metrics[0] is []."),
        (None, "metrics[0] is null."),
    ],
)
def test_specs_that_cannot_be_meant_are_refused(spec: Any, said: str):
    with pytest.raises(SettingError) as error:
        shelf("metrics").make(spec, "metrics[0]")
    assert said in str(error.value)


def test_specs_merge_by_item(tmp_path: Path):
    metrics = shelf("metrics")
    assert metrics.merge("exact_match", {"ignore_case": True}) == {"exact_match": {"ignore_case": True}}
    assert metrics.merge({"exact_match": {"a": 1, "b": 1}}, {"exact_match": {"b": 2}}) == {
        "exact_match": {"a": 1, "b": 2}
    }
    assert metrics.merge({"exact_match": {"a": 1}}, "accuracy") == "accuracy"
    assert metrics.merge({"exact_match": {"a": 1}}, {"accuracy": None}) == {"accuracy": None}
    assert metrics.merge("accuracy", {"": "exact_match", "a": 1}) == {"exact_match": {"a": 1}}
    assert metrics.merge("exact_match", {"acuracy": {"x": 1}}) == {"acuracy": {"x": 1}}


def test_a_users_file_is_used_noted_and_shadows(tmp_path: Path):
    found = use([own(tmp_path), own(tmp_path, MINE.replace("Mine", "ExactMatch"), "metrics/exact_match.py")], tmp_path)
    assert [(file.shelf, file.name, file.path) for file in found] == [
        ("metrics", "exact_match", "metrics/exact_match.py"),
        ("metrics", "mine", "metrics/mine.py"),
    ]
    assert found == used() and all(len(file.hash) == 64 for file in found)
    assert shelf("metrics").make({"mine": {"ratio": 0.25}}).score("", {}) == 0.25
    assert shelf("metrics").path("exact_match") == tmp_path / "metrics" / "exact_match.py"
    assert shelf("metrics").load("exact_match").__module__ == "tunesmith.core.user.metrics.exact_match"
    use([], tmp_path)
    assert "mine" not in shelf("metrics").names()
    assert shelf("metrics").load("exact_match").__module__ == "tunesmith.metrics.exact_match"


def test_a_changed_file_is_loaded_anew(tmp_path: Path):
    use([own(tmp_path)], tmp_path)
    assert shelf("metrics").make("mine").ratio == 0.5
    use([own(tmp_path, MINE.replace("0.5", "0.75"))], tmp_path)
    assert shelf("metrics").make("mine").ratio == 0.75


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("metrics/none.py", "no Python file metrics/none.py"),
        ("../metrics/mine.py", "outside the project's folder"),
        ("other/mine.py", 'a folder called "other"'),
        ("metrics/two-words.py", "no Python name"),
        ("metrics/helper.py", "defines no class Helper"),
        ("metrics/broken.py", r"broken\.py:1 is not Python"),
        ("metrics", "no Python file metrics"),
    ],
)
def test_files_that_cannot_be_used_are_told(tmp_path: Path, path: str, said: str):
    root = tmp_path / "project"
    own(tmp_path), own(root), own(root, name="other/mine.py"), own(root, name="metrics/two-words.py")
    own(root, "x = 1", "metrics/helper.py"), own(root, "class Broken: (", "metrics/broken.py")
    with pytest.raises(ProjectError, match=said):
        use([path], root)


def test_a_link_out_of_the_project_is_outside(tmp_path: Path):
    root = tmp_path / "project"
    own(tmp_path, name="far/metrics/mine.py")
    (root / "metrics").mkdir(parents=True)
    (root / "metrics" / "mine.py").symlink_to(tmp_path / "far" / "metrics" / "mine.py")
    with pytest.raises(ProjectError, match="outside the project's folder"):
        use(["metrics/mine.py"], root)


def test_two_files_for_one_place_are_refused(tmp_path: Path):
    own(tmp_path), own(tmp_path, name="sub/metrics/mine.py")
    with pytest.raises(ProjectError, match=r"are both metrics\.mine"):
        use(["metrics/mine.py", "sub/metrics/mine.py"], tmp_path)


def test_no_dataclass_is_told_when_loaded(tmp_path: Path):
    use([own(tmp_path, "class Mine:\n    pass\n")], tmp_path)
    with pytest.raises(ProjectError, match=r"Put @dataclass\(frozen=True\)"):
        shelf("metrics").make("mine")


def _score(metric: Any) -> float:
    return metric.score("", {})


def test_a_users_item_reaches_worker_processes(tmp_path: Path):
    use([own(tmp_path)], tmp_path)
    made = shelf("metrics").make({"mine": {"ratio": 0.125}})
    assert pickle.loads(pickle.dumps(made)) == made
    with multiprocessing.get_context("spawn").Pool(1) as pool:  # a fresh interpreter, as on another machine
        assert pool.apply(_returned, (made,)) == (0.125, "tunesmith.core.user.metrics.mine")


def _returned(metric: Any) -> tuple[float, str]:
    assert os.environ[USE]
    return _score(metric), type(metric).__module__
