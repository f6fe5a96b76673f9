"""Shared by the tests of the house: what a piece of code loads in a fresh interpreter."""

import json
import subprocess
import sys
from collections.abc import Callable

import pytest

# Slow to load (torch 1.5 s, peft 6 s, pandas and scipy.stats half a second each): only when they are used.
HEAVY = frozenset(
    {"torch", "transformers", "peft", "pandas", "pyarrow", "datasets", "scipy", "sklearn", "matplotlib", "bm25s"}
)


@pytest.fixture(scope="session")
def heavy() -> frozenset[str]:
    return HEAVY


@pytest.fixture(scope="session")
def loaded_by() -> Callable[[str], set[str]]:
    """loaded_by('import json') -> names of the top-level packages in memory after the code ran on its own."""

    def loaded(code: str) -> set[str]:
        tail = "\nimport sys, json\nprint('LOADED ' + json.dumps(sorted({n.split('.')[0] for n in sys.modules})))"
        done = subprocess.run([sys.executable, "-c", code + tail], check=False, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        lines = [line for line in done.stdout.splitlines() if line.startswith("LOADED ")]
        return set(json.loads(lines[-1].removeprefix("LOADED ")))

    return loaded
