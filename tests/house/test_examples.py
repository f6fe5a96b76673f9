"""Every example is listed, and its project file names only what exists."""

from pathlib import Path

import pytest

from tunesmith.api.config import resolve
from tunesmith.core.shelf import use

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
FOLDERS = sorted(path.parent for path in EXAMPLES.glob("*/tunesmith.yaml"))


@pytest.fixture(autouse=True)
def empty_shelves_again():
    yield
    use([], EXAMPLES)


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_an_examples_project_resolves_and_its_data_is_there(folder: Path):
    project, _, root = resolve(folder)
    paths = project.data.path
    assert all((root / path).is_file() for path in (paths if isinstance(paths, list | tuple) else [paths]))
    assert (folder / "README.md").is_file()


def test_every_example_is_in_the_list():
    listed = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    assert [folder.name for folder in FOLDERS if f"({folder.name}/README.md)" not in listed] == []
