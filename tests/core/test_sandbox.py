"""The sandbox: programs do their work and nothing else; what a kernel refuses here is really tried."""

import os
import time

import pytest

from tunesmith.core import sandbox
from tunesmith.core.errors import SettingError
from tunesmith.core.sandbox import run_python


def test_tests_run_one_by_one():
    ran = run_python("def double(x): return 2 * x", ["assert double(2) == 4", "assert double(3) == 7", "double(1)"])
    assert ran.passed == (True, False, True)
    assert ran.reason == "fails a test: AssertionError"


def test_a_script_reads_and_prints():
    ran = run_python(
        "if __name__ == '__main__':\n    print(int(input()) + 1, '가')\n    raise SystemExit", stdin="4", script=True
    )
    assert (ran.reason, ran.output) == ("", "5 가\n")


def test_the_standard_library_is_there():
    code = "import math, statistics, collections, datetime, json, re, heapq\nassert statistics.mean([1, 3]) == 2\n"
    code += "assert datetime.datetime.strptime('2026-01-02', '%Y-%m-%d').day == 2\nassert '가'.encode('cp949') == b'\\xb0\\xa1'"
    assert run_python(code).reason == ""


@pytest.mark.parametrize(
    "code",
    [
        "open('/etc/hostname')",
        "open('/tmp/made-by-a-program', 'w')",
        "import os; os.listdir('/')",
        "import os; os.stat('/')",
        "import os; os.fork()",
        "import os; os.execv('/bin/true', ['true'])",
        "import os; os.kill(os.getppid(), 9)",
        "import os; os.system('true') and 1 / 0",
        "import _thread; _thread.start_new_thread(print, ())",
        "import os; os.mkdir('/tmp/made-by-a-program')",
    ],
)
def test_refused(code):
    ran = run_python(code, ["pass"])
    assert ran.passed == () and ran.reason, ran
    assert not os.path.exists("/tmp/made-by-a-program")


def test_calls_past_python_are_refused_too():
    code = (
        "import ctypes\nlibc = ctypes.CDLL(None, use_errno=True)\n"
        "found = [libc.socket(2, 1, 0), libc.fork(), libc.open(b'/etc/hostname', 0), libc.unlink(b'/tmp/x')]\n"
        "assert found == [-1] * 4, found\nassert ctypes.get_errno() == 1, ctypes.get_errno()"
    )
    assert run_python(code).reason == ""


@pytest.mark.parametrize("code", ["while True: pass", "import time; time.sleep(60)"])
def test_too_slow(code):
    started = time.monotonic()
    assert run_python(code, seconds=0.5).reason == "too slow: over 0.5 s"
    assert time.monotonic() - started < 15


def test_too_much():
    assert run_python("held = bytearray(1 << 30)").reason == "too much memory"
    ran = run_python("while True: print('x' * 10000)", script=True)
    assert ran.reason.startswith("prints too much") and len(ran.output) <= sandbox.OUTPUT


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("import os; os._exit(0)", "ends before its end"),
        ("import sys; sys.exit(0)", "does not run: SystemExit: 0"),
        ("raise KeyboardInterrupt", "does not run: KeyboardInterrupt"),
        ("x =", "does not run: SyntaxError"),
        ("import numpy", "does not run: ModuleNotFoundError"),
        ("def f(n): return f(n + 1)\nf(0)", "does not run: RecursionError"),
        ("class E(Exception):\n    def __str__(self): raise ValueError\nraise E", "does not run: E"),
        ("import sys; sys.stdout.close()", "does not run: ValueError"),
    ],
)
def test_ends_badly(code, reason):
    ran = run_python(code, ["pass"])
    assert ran.reason.startswith(reason), ran.reason


def test_an_early_end_is_no_pass():
    forged = 'import os\nos.write(1, b\'{"passed": [true], "failed": [], "error": ""}\')\nos._exit(0)'
    ran = run_python(forged, ["assert False"])
    assert ran.passed == () and ran.reason == "ends before its end"


def test_nothing_runs_where_nothing_locks(monkeypatch, tmp_path):
    unlocked = tmp_path / "jail.py"
    text = sandbox.JAIL.read_text()
    assert "MACHINES = {" in text
    unlocked.write_text(text.replace("MACHINES = {", "MACHINES = {} and {"))
    monkeypatch.setattr(sandbox, "JAIL", unlocked)
    with pytest.raises(SettingError, match="does not lock"):
        run_python("print(1)", script=True)
