"""The command line starts at once: what `--help` and `list` load is held here, their CPU time is printed (pytest -s)."""

import resource
import subprocess
import sys

import pytest

START = """
from tunesmith.cli import main
assert main({words!r}) == 0
"""


@pytest.mark.parametrize("words", [["--help"], ["list"], ["train", "--help"], ["where", "exact_match"]], ids=" ".join)
def test_looking_around_loads_nothing_slow(words: list[str], loaded_by, heavy):
    assert not loaded_by(START.format(words=words)) & heavy


@pytest.mark.parametrize("words", [["--help"], ["list"]], ids=" ".join)
def test_cpu_time_of_the_start_is_printed(words: list[str]):
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-c", START.format(words=words)]
    assert subprocess.run(command, check=False, capture_output=True).returncode == 0
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(f"\ntunesmith {' '.join(words)}: {used:.2f} s of CPU")
