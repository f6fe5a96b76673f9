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


SECRET = "import sys, os, json\ns = sys._getframe(1).f_locals['job']['secret']\n"


@pytest.mark.parametrize(
    "report",
    [
        'b\'{"unlocked": "x"}\'',
        "b'[' * 200000",
        "json.dumps({'secret': s}).encode()",
        "json.dumps({'secret': s, 'passed': [], 'failed': [], 'error': 5}).encode()",
        "json.dumps({'secret': s, 'passed': [False], 'failed': [], 'error': ''}).encode()",
        "json.dumps({'secret': s, 'passed': [True, True], 'failed': [], 'error': ''}).encode()",
    ],
)
def test_a_report_of_its_own_ends_nothing_but_the_program(report):
    code = (
        SECRET
        + f"for number in range(3, 12):\n    try: os.write(number, {report})\n    except OSError: pass\nos._exit(0)"
    )
    ran = run_python(code, ["assert False"])
    assert (ran.passed, ran.reason) == ((), "ends before its end")


def test_what_programs_do_at_their_end_is_done():
    code = "import atexit, io, sys\natexit.register(print, 'last')\nsys.stdout = io.StringIO()\nprint('kept')\n"
    code += "sys.__stdout__.write(sys.stdout.getvalue())\nsys.stdout = sys.__stdout__"
    assert run_python(code, script=True).output == "kept\nlast\n"
    assert run_python("import os\nprint(os.read(0, os.fstat(0).st_size))", stdin="4", script=True).output == "b'4'\n"
    assert run_python("import sys\nprint(sys.argv)", script=True).output == "['answer.py']\n"


def test_data_classes_with_names_as_types():
    code = "from dataclasses import dataclass\n@dataclass\nclass Node:\n    left: 'Node' = None\n"
    assert run_python(code, ["assert Node(Node()).left.left is None"]).passed == (True,)


def test_large_numbers():
    assert run_python("import math\nassert math.factorial(5000) // math.factorial(2500) > 1").reason == ""


def test_an_error_without_a_name():
    ran = run_python("pass", ["raise type('', (Exception,), {})()"])
    assert ran.passed == (False,) and ran.reason == "fails a test: error"


def test_nothing_runs_where_nothing_locks(monkeypatch, tmp_path):
    unlocked = tmp_path / "jail.py"
    text = sandbox.JAIL.read_text()
    assert "MACHINES = {" in text
    unlocked.write_text(text.replace("MACHINES = {", "MACHINES = {} and {"))
    monkeypatch.setattr(sandbox, "JAIL", unlocked)
    sandbox.locks.cache_clear()
    with pytest.raises(SettingError, match="does not lock"):
        run_python("print(1)", script=True)
    sandbox.locks.cache_clear()
