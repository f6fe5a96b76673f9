"""tunesmith.VERB: every file of api/ is a function here, lazily, also where a room has the verb's name."""

import ast
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import tunesmith
from tunesmith.core.source import defines_function

API = Path(tunesmith.__file__).parent / "api"
FUNCTIONS = sorted(path.stem for path in API.glob("*.py") if defines_function(path, path.stem))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_function_of_api_is_offered(name: str):
    offered = getattr(tunesmith, name)
    assert callable(offered) and name in dir(tunesmith)
    assert inspect.signature(offered) == inspect.signature(getattr(sys.modules[f"tunesmith.api.{name}"], name))


def test_type_checkers_see_the_same():
    tree = ast.parse(Path(tunesmith.__file__).read_text(encoding="utf-8"))
    (block,) = [node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"]
    lines = [ast.unparse(line) for line in block.body]
    assert lines == [f"from tunesmith.api.{name} import {name} as {name}" for name in FUNCTIONS], (
        "in tunesmith/__init__.py"
    )


def test_what_is_not_there_is_no_attribute():
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = tunesmith.nothing
    assert not hasattr(tunesmith, "config") or inspect.ismodule(tunesmith.config)


@pytest.mark.parametrize(
    "code",
    [
        "import tunesmith\nassert tunesmith.train.__wrapped__.__name__ == 'train'",
        "import tunesmith.train.settings\nassert tunesmith.train.__wrapped__.__name__ == 'train'\ntunesmith.train.settings.TrainSettings",
        "import tunesmith\ntunesmith.train\nimport tunesmith.train.settings as s\ns.TrainSettings",
        "from tunesmith import train\nfrom tunesmith.train.settings import TrainSettings\nassert callable(train)",
    ],
)
def test_a_room_with_a_verbs_name_is_both(code: str):
    call = "\ntry:\n    tunesmith.train('no-such.yaml')\nexcept tunesmith.core.errors.ProjectError as error:\n    assert 'no-such' in str(error)\n"
    whole = f"{code}\nimport tunesmith, tunesmith.core.errors, sys\nassert 'torch' not in sys.modules{call}"
    done = subprocess.run([sys.executable, "-c", whole], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
