"""The extension door: a metric, step, objective and adapter of a stranger work without a change in src/.

Once as files in the project's folder (`use:`), once as an installed package with entry points.
"""

import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

import tunesmith
from tunesmith.core.errors import ProjectError
from tunesmith.core.runs import RunFolder
from tunesmith.core.shelf import KINDS, USE, shelf
from tunesmith.testing import check_metric, check_step

METRIC = '''"""{name}: how long the answer is, against the reference."""
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tunesmith.metrics import Summary, mean_summary


@dataclass(frozen=True)
class {Class}:
    """1 when the answer is no longer than the reference."""

    spare: int = 0
    """How many letters longer it may be."""

    def score(self, prediction: str, row: Mapping[str, Any]) -> float:
        return float(len(prediction) <= len(row["answer"]) + self.spare)

    def summary(self, values: Sequence[Any]) -> Summary:
        return mean_summary(values)
'''

STEP = '''"""{name}: drops rows about one number."""
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tunesmith.data.steps import Drop, said


@dataclass(frozen=True)
class {Class}:
    """Drops rows whose question names the number."""

    number: int = 7
    """Which number."""

    def apply(self, rows: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any] | Drop]:
        for row in rows:
            yield Drop(row, "unlucky") if f" {{self.number}} " in said(row, "prompt") else row
'''

OBJECTIVE = '''"""{name}: sft with a loss of another size.

Rows are conversations, as for sft.
"""
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from tunesmith.objectives.sft import Sft


@dataclass(frozen=True)
class {Class}:
    """The loss of sft times a factor."""

    shape: ClassVar[str] = "chat"
    per: ClassVar[Mapping[str, str]] = {{"answer": "tokens"}}
    figures: ClassVar[Mapping[str, str]] = Sft.figures

    factor: float = 2.0
    """What the loss is multiplied by."""

    def units(self, row: Mapping[str, Any], text: Any, draw: Any) -> list[Any]:
        return Sft().units(row, text, draw)

    def loss(self, policy: Any, batch: Any, helpers: Any) -> Any:
        found = Sft().loss(policy, batch, helpers)
        return replace(found, terms={{"answer": found.terms["answer"] * self.factor}})
'''

ADAPTER = '''"""{name}: only the norms train."""
from dataclasses import dataclass
from typing import Any, ClassVar


@dataclass(frozen=True)
class {Class}:
    """Trains the weights of the norms, nothing else."""

    lr: ClassVar[float] = 1e-3
    file: ClassVar[str] = "model"

    pattern: str = "norm"
    """What a parameter's name must contain to be trained."""

    def attach(self, net: Any, *, seed: int = 0) -> list[str]:
        for name, parameter in net.named_parameters():
            parameter.requires_grad_(self.pattern in name)
        return []

    def merge(self, net: Any) -> None:
        pass
'''

ITEMS = {
    "metrics": ("brevity", METRIC),
    "steps": ("unlucky", STEP),
    "objectives": ("louder", OBJECTIVE),
    "adapters": ("norms", ADAPTER),
}


def source(kind: str) -> str:
    """The item of a shelf as Python text."""
    name, text = ITEMS[kind]
    return text.format(name=name, Class=name.capitalize())


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project's folder with data, and a project file that uses an item of each shelf."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(USE, "{}")
    rows = [{"question": f"What is {i} plus 1?", "answer": str(i + 1)} for i in range(40)]
    Path("faq.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    Path("tunesmith.yaml").write_text(
        "model: pico\ndata: {path: faq.jsonl, steps: [{unlucky: {number: 3}}]}\nmethod: {louder: {factor: 3}}\n"
        "adapter: norms\nmetrics: [{brevity: {spare: 1}}]\ntrain: {steps: 2, sample: 0}\n"
    )
    return tmp_path


def write_own(folder: Path) -> list[str]:
    paths = []
    for kind, (name, _) in ITEMS.items():
        (folder / kind).mkdir()
        (folder / kind / f"{name}.py").write_text(source(kind))
        paths.append(f"{kind}/{name}.py")
    with open(folder / "tunesmith.yaml", "a") as file:
        file.write(f"use: [{', '.join(paths)}]\n")
    return paths


def write_package(site: Path, package: str = "stranger") -> None:
    """What pip leaves of a package: its modules and a dist-info folder."""
    (site / package).mkdir(parents=True)
    (site / package / "__init__.py").write_text("raise SystemExit('listing must not import me')\n")
    points = []
    for kind, (name, _) in ITEMS.items():
        (site / package / f"{name}.py").write_text(source(kind))
        points.append(f"[tunesmith.{kind}]\n{name} = {package}.{name}:{name.capitalize()}\n")
    info = site / f"{package}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("\n".join(points))


@pytest.fixture
def site(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch):
    folder = tmp_path_factory.mktemp("site")
    monkeypatch.syspath_prepend(str(folder))
    yield folder
    for name in [name for name in sys.modules if name.partition(".")[0] in ("stranger", "other")]:
        del sys.modules[name]


def check_run(folder: Path, uses: list[str]) -> None:
    """Train with all four and look for the trace of each in the run folder."""
    assert tunesmith.check()["use"].keys() == set(uses)
    result = tunesmith.train(quiet=True)
    run = RunFolder.open(result["run"])
    assert run.manifest()["use"].keys() == set(uses)
    dropped = [json.loads(line) for line in run.file("data/dropped.jsonl").read_text().splitlines()]
    assert [row["reason"] for row in dropped] == ["unlucky"]  # the step
    parameters = run.read_json("parameters.json")  # the adapter
    trained = [name for name, counts in parameters["modules"].items() if counts["trainable"]]
    assert trained and all("norm" in name for name in trained)
    assert run.read_json("explanation.json")["method"] == "Louder"  # the objective
    scored = tunesmith.eval(
        result["run"], quiet=True, **{"eval.split": "dev", "eval.rows": 2, "generate.max_tokens": 4}
    )
    assert "brevity" in json.dumps(scored)  # the metric
    assert "brevity" in run.file("evals/dev.json").read_text()
    plain = tunesmith.train({"model": "pico", "data": "faq.jsonl"}, adapter="full", **{"train.steps": 1}, quiet=True)
    assert plain["status"] == "finished"  # another project in the same process does not need them


def test_a_users_files_do_the_whole_road(folder: Path):
    check_run(folder, write_own(folder))
    check_metric(shelf_after("metrics", folder).make("brevity"))
    check_step(shelf_after("steps", folder).make({"unlucky": {"number": 1}}))


def shelf_after(kind: str, folder: Path):
    tunesmith.check(str(folder / "tunesmith.yaml"))
    return shelf(kind)


def test_an_installed_package_does_the_whole_road(folder: Path, site: Path):
    write_package(site)
    listed = tunesmith.list()
    for kind, (name, _) in ITEMS.items():
        assert listed[kind][name]["origin"] == "stranger"
        assert listed[kind][name]["doc"] and "[stranger]" in listed.text
        assert Path(tunesmith.where(f"{kind}/{name}")["found"][0]["file"]) == site / "stranger" / f"{name}.py"
    assert "stranger" not in sys.modules
    (site / "stranger" / "__init__.py").write_text("")
    importlib.invalidate_caches()
    check_run(folder, [])


def test_an_installed_item_can_be_ejected_and_changed(folder: Path, site: Path):
    write_package(site)
    copied = tunesmith.eject("brevity")
    assert copied["use"] == "metrics/brevity.py"
    assert (folder / "metrics" / "brevity.py").read_text() == source("metrics")


def test_a_package_never_takes_a_built_in_name(folder: Path, site: Path):
    write_package(site)
    points = site / "stranger-1.0.dist-info" / "entry_points.txt"
    points.write_text("[tunesmith.metrics]\nexact_match = stranger.brevity:Brevity\n")
    assert shelf("metrics").item("exact_match").origin == "built in"
    assert shelf("metrics").items()["exact_match"].origin == "built in"


def test_two_packages_of_one_name_and_a_broken_one_are_told(folder: Path, site: Path):
    write_package(site)
    write_package(site, "other")
    with pytest.raises(ProjectError, match=r'both bring a metric "brevity"'):
        tunesmith.list()
    (site / "other-1.0.dist-info" / "entry_points.txt").write_text("[tunesmith.metrics]\nlost = other.nowhere:Lost\n")
    with pytest.raises(
        ProjectError, match=r"package other says that its metric \"lost\" is other.nowhere:Lost, which is not there"
    ):
        tunesmith.list("metrics")


@pytest.mark.slow
def test_a_package_installed_by_pip(folder: Path, tmp_path_factory: pytest.TempPathFactory):
    project, site = tmp_path_factory.mktemp("project"), tmp_path_factory.mktemp("target")
    write_package(project)
    (project / "stranger" / "__init__.py").write_text("")
    points = "".join(
        f'[project.entry-points."tunesmith.{kind}"]\n{n} = "stranger.{n}:{n.capitalize()}"\n'
        for kind, (n, _) in ITEMS.items()
    )
    (project / "pyproject.toml").write_text(
        '[build-system]\nrequires = ["hatchling"]\nbuild-backend = "hatchling.build"\n'
        f'[project]\nname = "stranger"\nversion = "1.0"\n{points}'
    )
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--no-build-isolation"]
    done = subprocess.run([*pip, "--target", str(site), str(project)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr

    def cli(*words: str) -> subprocess.CompletedProcess[str]:
        import os

        env = {**os.environ, "PYTHONPATH": str(site), "OMP_NUM_THREADS": "1"}
        return subprocess.run(
            [sys.executable, "-m", "tunesmith", *words], capture_output=True, text=True, check=False, env=env
        )

    listed = cli("list", "--json")
    assert {
        kind: json.loads(listed.stdout)[kind][name]["origin"] for kind, (name, _) in ITEMS.items()
    } == dict.fromkeys(KINDS, "stranger")
    trained = cli("train", "--quiet", "--json")
    assert trained.returncode == 0, trained.stderr
    run = json.loads(trained.stdout)
    assert run["status"] == "finished"
    scored = cli(
        "eval", run["run"], "split=dev", "generate.max_tokens=4", "--json"
    )  # another process than the one that trained
    assert scored.returncode == 0 and "brevity" in scored.stdout, scored.stderr
