import json

import pytest

from tunesmith.core.errors import ProjectError
from tunesmith.core.registry import back, name_run, named, names, names_of, stands_for


@pytest.fixture
def under(tmp_path):
    for name in ("a", "b", "chain/c"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "manifest.json").write_text("{}")
    return tmp_path


def test_a_name_moves_and_goes_back_and_forgets_nothing(under):
    for run in ("a", "chain/c", "chain/c", "b"):
        name_run(under, "current", under / run)
    assert stands_for("current", under) == under / "b" and named("@current", under) == under / "b"
    assert back(under, "current") == under / "chain/c" and back(under, "current") == under / "a"
    assert [one["run"] for one in names(under)["current"]["history"]] == ["a", "chain/c", "b"]
    with pytest.raises(ProjectError, match="stood for nothing before"):
        back(under, "current")
    name_run(under, "best", under / "a")
    assert names_of(under / "a", under) == ["current", "best"] and names_of(under / "b", under) == []


def test_going_back_passes_over_what_was_deleted(under):
    for run in ("a", "chain/c", "b"):
        name_run(under, "current", under / run)
    (under / "chain/c/manifest.json").unlink()
    assert back(under, "current") == under / "a"


def test_runs_elsewhere_are_known_by_their_whole_path(under, tmp_path_factory):
    other = tmp_path_factory.mktemp("other")
    name_run(under, "far", other)
    assert stands_for("far", under) == other


def test_names_that_are_none(under):
    name_run(under, "current", under / "a")
    with pytest.raises(ProjectError, match="Did you mean: current"):
        stands_for("curent", under)
    with pytest.raises(ProjectError, match="cannot be a name"):
        name_run(under, "../a", under / "a")
    assert named("runs/a", under) == "runs/a"
    (under / "names.json").write_text("{")
    with pytest.raises(ProjectError, match="cannot be read"):
        names(under)
    (under / "names.json").write_text(json.dumps({"format": 9, "names": {}}))
    with pytest.raises(ProjectError, match="has format 9"):
        names(under)
