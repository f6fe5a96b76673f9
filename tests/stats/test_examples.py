"""The examples in the docstrings are true, and importing the room loads neither scipy nor torch."""

import doctest
import importlib
import subprocess
import sys

import pytest

MODULES = ["intervals", "paired", "many", "words", "summary", "spread"]


@pytest.mark.parametrize("name", MODULES)
def test_docstrings(name):
    outcome = doctest.testmod(importlib.import_module(f"tunesmith.stats.{name}"))
    assert outcome.attempted and not outcome.failed


def test_import_is_light():
    names = ", ".join(f"tunesmith.stats.{name}" for name in MODULES)
    code = f"import sys, {names}; print([m for m in ('torch', 'scipy', 'sklearn') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
