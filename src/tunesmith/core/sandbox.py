"""Python that somebody else wrote, run where it can do no harm: one process per program, locked in by the kernel (see jail.py).

>>> run_python("def double(x): return 2 * x", ["assert double(2) == 4", "assert double(3) == 7"]).passed
(True, False)
>>> run_python("print(int(input()) + 1)", stdin="4", script=True).output
'5\\n'
>>> run_python("import os; os.listdir('/')").reason
'refused: PermissionError: [Errno 1] Operation not permitted'

No file is opened, no process or thread is started, no network is reached; the standard library that was imported beforehand is there, other
packages are not. Tests run in the program's process, so a program that is written to deceive them can (an object that equals
everything, a report of its own); what it prints is compared outside. Linux on x86-64 or 64-bit ARM; elsewhere nothing is run.
"""

import contextlib
import json
import os
import secrets
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from tunesmith.core.errors import SettingError

JAIL = Path(__file__).with_name("jail.py")
MEMORY = 512 << 20
OUTPUT = 1 << 20  # bytes that a program may print
STARTING = 20.0  # seconds that Python may take to start on a busy machine


@dataclass(frozen=True)
class Ran:
    """What came of a program.

    passed  of each test, whether it ran without an error; empty where the program did not get that far
    reason  "" when the program ended and all tests passed; else a kind and what was said, "fails a test: AssertionError"
    output  what it printed, UTF-8
    """

    passed: tuple[bool, ...]
    reason: str
    output: str


def run_python(
    code: str,
    tests: Sequence[str] = (),
    *,
    stdin: str = "",
    script: bool = False,
    seconds: float = 5.0,
    memory: int = MEMORY,
) -> Ran:
    """Run `code`, then each of `tests` in its namespace.

    script   the code is a program (`__name__` is "__main__", and ending itself with code 0 is no failure)
    seconds  of the wall clock and of the processor, from the moment the program may start
    memory   bytes of address space

    Raises SettingError where this machine cannot lock a process in: then nothing was run.
    """
    if failed := locks():
        raise SettingError(
            f"Code cannot be run here: this machine does not lock a process in ({failed}).",
            wanted="Linux on x86-64 or 64-bit ARM whose kernel allows seccomp filters.",
            fix="Leave the metric out here, or score the answers on such a machine.",
        )
    told, output, late = _jailed(code, tests, stdin, script, seconds, memory)
    if late:
        return Ran((), f"too slow: over {seconds:g} s", output)
    if told is None:
        return Ran((), "ends before its end", output)
    return Ran(tuple(told["passed"]), _reason(told), output)


@cache
def locks() -> str:
    """ "" where a program can be locked in, else why not: a program that does nothing is tried, once a process."""
    told, _, _ = _jailed("", [], "", False, 5.0, MEMORY, asked=True)
    return "" if told and "unlocked" not in told else str((told or {}).get("unlocked", "Python does not start"))


def _jailed(
    code: str, tests: Sequence[str], stdin: str, script: bool, seconds: float, memory: int, *, asked: bool = False
) -> tuple[dict[str, Any] | None, str, bool]:
    """(the report, None where there is none that holds; what was printed; whether its time ran out).

    asked  a report that nothing was locked counts too
    """
    secret = secrets.token_hex(16)
    job = {
        "code": code, "tests": list(tests), "script": script, "seconds": seconds, "memory": memory, "output": OUTPUT,
        "secret": secret,
    }  # fmt: skip
    with contextlib.ExitStack() as stack:
        given, report, said_in, said_out = (stack.enter_context(tempfile.TemporaryFile()) for _ in range(4))
        for file, text in ((given, json.dumps(job)), (said_in, stdin)):
            file.write(text.encode("utf-8", "replace"))
            file.seek(0)
        late = _run((given.fileno(), report.fileno()), said_in, said_out, seconds)
        for file in (report, said_out):
            file.seek(0)
        found, output = _read(report.read()), said_out.read(OUTPUT).decode("utf-8", "replace")
    holds = found.get("secret") == secret and _whole(found, len(tests))
    return found if holds or (asked and "unlocked" in found) else None, output, late


def _whole(told: Mapping[str, Any], num_tests: int) -> bool:
    """Whether a report says what one must say: the program may have written it."""
    passed, failed, error = told.get("passed"), told.get("failed"), told.get("error")
    if not (isinstance(passed, list) and isinstance(failed, list) and isinstance(error, str)):
        return False
    right = all(isinstance(one, bool) for one in passed) and all(isinstance(one, str) and one for one in failed)
    return right and (bool(error) or len(passed) == num_tests) and len(failed) == passed.count(False)


def _run(passed: tuple[int, int], stdin: Any, stdout: Any, seconds: float) -> bool:
    """One program in the jail, to its end; whether its time ran out."""
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", "-B", "-X", "utf8", str(JAIL), *map(str, passed)],
        stdin=stdin,
        stdout=stdout,
        stderr=subprocess.DEVNULL,
        pass_fds=passed,
        env={name: os.environ[name] for name in ("LD_LIBRARY_PATH",) if name in os.environ},
        cwd="/",
        start_new_session=True,
    )
    try:
        process.wait(seconds + STARTING)
    except subprocess.TimeoutExpired:
        return True
    finally:
        process.kill()
        process.wait()
    return process.returncode in (-signal.SIGALRM, -signal.SIGXCPU, -signal.SIGKILL)


def _reason(told: dict[str, Any]) -> str:
    said = told["error"] or next(iter(told["failed"]), "")
    if not said:
        return ""
    if "Operation not permitted" in said or said.startswith("RuntimeError: can't start new thread"):
        return f"refused: {said}"
    if said.startswith("MemoryError"):
        return "too much memory"
    if "File too large" in said:
        return f"prints too much: over {OUTPUT:,} bytes"
    return f"{'does not run' if told['error'] else 'fails a test'}: {said}"


def _read(report: bytes) -> dict[str, Any]:
    try:
        told = json.loads(report)
    except (ValueError, RecursionError):
        return {}
    return told if isinstance(told, dict) else {}
