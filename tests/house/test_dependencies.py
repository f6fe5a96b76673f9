"""pyproject.toml asks for what the code imports: nothing is missing on a bare machine, nothing is installed for nobody."""

import ast
import re
import sys
import tomllib
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
# Distributions whose module has another name.
MODULES = {"pyyaml": "yaml", "scikit-learn": "sklearn", "rouge-score": "rouge_score", "import-linter": "importlinter"}
# Imported by a library of ours when it sees them: torch writes for tensorboard, and so on.
THROUGH_OTHERS = {"pandas", "openpyxl", "tensorboard"}
IN_EXAMPLES = {"ray"}  # starts the processes from outside: examples/ray/train.py
# Parts of a dependency that are imported by their own name and come with it.
COMES_WITH = {"huggingface_hub": "transformers", "markupsafe": "jinja2", "nltk": "rouge_score"}


def module_of(requirement: str) -> str:
    name = re.split(r"[<>=!~\[; ]", requirement)[0].lower()
    return MODULES.get(name, name.replace("-", "_"))


@cache
def imported() -> frozenset[str]:
    """Top-level names of everything that src imports, also inside functions and as `import_module("...")` or `library("...")`."""
    names: set[str] = set()
    for file in (ROOT / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
                names.add(node.module.split(".")[0])
            elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
                called = getattr(node.func, "id", getattr(node.func, "attr", ""))
                if called in ("import_module", "library", "_needs") and isinstance(node.args[0].value, str):
                    names.add(node.args[0].value.split(".")[0])
    return frozenset(names - set(sys.stdlib_module_names) - {"tunesmith"})


CORE = {module_of(each) for each in PROJECT["dependencies"]}
EXTRAS = {
    module_of(each) for name, extra in PROJECT["optional-dependencies"].items() if name != "dev" for each in extra
}


def test_everything_that_is_imported_is_declared():
    assert {COMES_WITH.get(name, name) for name in imported()} - CORE - EXTRAS == set()


@pytest.mark.parametrize("module", sorted(CORE))
def test_every_core_dependency_is_used(module):
    assert module in imported()


@pytest.mark.parametrize("module", sorted(EXTRAS - THROUGH_OTHERS - IN_EXAMPLES))
def test_every_extra_is_used(module):
    assert module in imported()
