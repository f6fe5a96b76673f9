"""The command line as a process: exit codes, streams, Ctrl-C, a reader that goes away."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

TUNESMITH = [sys.executable, "-m", "tunesmith"]
SLOW = """
import sys, time
import tunesmith.api.list as module
from tunesmith.cli import main
def list(what=None, *, project=None):
    print("ready", flush=True)
    time.sleep(60)
module.list = list
sys.exit(main(["list"]))
"""


def test_ctrl_c_exits_130_without_traceback():
    child = subprocess.Popen([sys.executable, "-c", SLOW], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert child.stdout is not None and child.stdout.readline() == "ready\n"
    time.sleep(0.1)
    child.send_signal(signal.SIGINT)
    _out, err = child.communicate(timeout=20)
    assert child.returncode == 130
    assert err.strip() == "Stopped."


def test_a_bug_is_a_traceback_and_exit_1(tmp_path: Path):
    code = "import sys, tunesmith.api.list as m\nfrom tunesmith.cli import main\nm.list = lambda *a, **k: 1 / 0\nsys.exit(main(['list']))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 1 and "ZeroDivisionError" in done.stderr and done.stdout == ""


def test_errors_go_to_stderr_results_to_stdout(tmp_path: Path):
    done = subprocess.run([*TUNESMITH, "list", "metrics"], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "") and "exact_match" in done.stdout
    done = subprocess.run([*TUNESMITH, "list", "x"], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "") and "There is no shelf" in done.stderr


def test_a_reader_that_goes_away_is_no_error(tmp_path: Path):
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {sys.executable} -m tunesmith explain settings | head -1; echo ${{PIPESTATUS[0]}} >&2"],
        capture_output=True, text=True, check=False, cwd=tmp_path,
    )  # fmt: skip
    assert "Traceback" not in done.stderr and "Error" not in done.stderr


def test_a_terminal_without_korean_letters_does_not_end_a_run(tmp_path: Path):
    (tmp_path / "metrics").mkdir()
    item = '"""mine: 나의 지표."""\nfrom dataclasses import dataclass\n@dataclass(frozen=True)\nclass Mine:\n    a: int = 1\n'
    (tmp_path / "metrics" / "mine.py").write_text(item)
    (tmp_path / "tunesmith.yaml").write_text("use: [metrics/mine.py]\n")
    env = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    done = subprocess.run(
        [*TUNESMITH, "list", "metrics"], capture_output=True, text=True, check=False, cwd=tmp_path, env=env
    )
    assert done.returncode == 0 and "mine" in done.stdout


@pytest.mark.parametrize(
    "words", [["--help"], ["list"], ["--complete", "train", "ad"], ["new", "x.yaml"]], ids=" ".join
)
def test_looking_around_loads_neither_torch_nor_pydantic(tmp_path: Path, words: list[str]):
    code = (
        "import sys\nfrom tunesmith.cli import main\n"
        f"assert main({words!r}) == 0\n"
        "print(sorted({name.partition('.')[0] for name in sys.modules}), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for heavy in (
        "torch",
        "transformers",
        "pandas",
        "scipy",
        "numpy",
        "typer",
        "rich",
        *(["pydantic"] if words[0] != "new" else []),
    ):
        assert f"'{heavy}'" not in done.stderr, heavy
