"""What people install: the wheel holds every file of the package and runs on its own."""

import os
import re
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "src"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (built,) = folder.glob("*.whl")
    return built


def test_the_wheel_holds_every_file_of_the_package_and_nothing_else(wheel: Path):
    tracked = subprocess.run(["git", "ls-files", "src"], cwd=ROOT, check=False, capture_output=True, text=True)
    if tracked.returncode != 0:
        pytest.skip("not a git checkout: the list of files to expect is git's")
    wanted = {str(Path(name).relative_to("src")) for name in tracked.stdout.split("\n") if name}
    wanted = {name for name in wanted if (SOURCE / name).exists()}
    held = set(zipfile.ZipFile(wheel).namelist())
    assert "tunesmith/py.typed" in wanted
    assert wanted - held == set()
    assert {name.split("/")[0] for name in held} == {"tunesmith", f"{wheel.name.split('-py3')[0]}.dist-info"}
    assert not [name for name in held if "__pycache__" in name or "/tests/" in name]


def test_the_wheel_says_who_made_what_is_in_it(wheel: Path):
    names = zipfile.ZipFile(wheel).namelist()
    assert {Path(name).name for name in names if "/licenses/" in name} >= {"LICENSE", "NOTICE"}


def test_the_wheel_fits_the_index_and_the_readers_patience(wheel: Path):
    assert wheel.stat().st_size < 40e6  # the embedded model may take 24 MB of it


def test_the_installed_wheel_runs_without_the_checkout(wheel: Path, tmp_path: Path):
    place = tmp_path / "venv"
    venv.create(place, with_pip=False)
    python = place / "bin" / "python"
    install = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-deps", "--no-index"]
    done = subprocess.run([*install, str(wheel)], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    # The libraries come from this environment: a path entry shows them without our own editable install.
    site = Path(sysconfig.get_path("purelib", vars={"base": str(place), "platbase": str(place)}))
    (site / "libraries.pth").write_text(sysconfig.get_path("purelib") + "\n")
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}

    def run(*command: str) -> str:
        done = subprocess.run(command, cwd=tmp_path, env=env, check=False, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    assert run(str(python), "-c", "import tunesmith; print(tunesmith.__file__)").startswith(str(place))
    assert "train" in run(str(place / "bin" / "tunesmith"), "--help")


def test_the_version_is_said_once_in_each_place():
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    package = (SOURCE / "tunesmith" / "__init__.py").read_text(encoding="utf-8")
    version = re.compile(r'^(?:__)?version(?:__)? = "([^"]+)"', re.MULTILINE)
    assert version.findall(project) == version.findall(package)
