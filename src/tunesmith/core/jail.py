"""The inside of the sandbox: run as a program by core/sandbox.py, never imported. Reads a job, locks itself in, runs it, reports.

    python -I -S -B jail.py JOB REPORT        the numbers of two open files: a job as JSON is read, a report as JSON is written

After `lock` the kernel answers EPERM to every system call but the few in ALLOWED: memory, clocks, reading and writing what is open
already (stdin, stdout and the report), and the end. So a program opens no file, reads no folder, starts no process or thread,
signals nobody and reaches no network, whatever it does to Python. What of the standard library may be wanted is imported before;
the limits of time, memory and output are the kernel's too. A machine that cannot lock runs nothing.
"""

import atexit
import contextlib
import ctypes
import importlib
import json
import os
import platform
import resource
import signal
import struct
import sys
import types

MODULES = (
    "abc", "array", "ast", "base64", "bisect", "calendar", "cmath", "collections", "collections.abc", "contextlib", "copy",
    "dataclasses", "datetime", "decimal", "difflib", "encodings.ascii", "encodings.cp949", "encodings.euc_kr",
    "encodings.latin_1", "encodings.utf_16", "enum", "fractions", "functools", "hashlib", "heapq", "html", "io", "itertools",
    "json", "locale", "math", "numbers", "operator", "pprint", "queue", "random", "re", "secrets", "statistics", "string",
    "struct", "sys", "textwrap", "time", "types", "typing", "unicodedata", "warnings", "zlib", "_strptime",
)  # fmt: skip
NEWER = ("_pylong",)  # Python 3.12 and later divide large numbers with it
# linux/audit.h: the numbers of the machines; asm/unistd.h: those of the system calls that a locked-in program may make
MACHINES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
ALLOWED = {
    "read": (0, 63), "write": (1, 64), "close": (3, 57), "fstat": (5, 80), "lseek": (8, 62), "mmap": (9, 222),
    "mprotect": (10, 226), "munmap": (11, 215), "brk": (12, 214), "mremap": (25, 216),
    "rt_sigaction": (13, 134), "rt_sigprocmask": (14, 135), "rt_sigreturn": (15, 139), "sigaltstack": (131, 132),
    "sched_yield": (24, 124), "nanosleep": (35, 101), "clock_nanosleep": (230, 115), "clock_gettime": (228, 113),
    "getpid": (39, 172), "gettid": (186, 178), "futex": (202, 98), "getrandom": (318, 278), "restart_syscall": (219, 128),
    "exit": (60, 93), "exit_group": (231, 94),
}  # fmt: skip
LOAD, EQUAL, RETURN = 0x20, 0x15, 0x06  # linux/bpf_common.h: load a word, jump if equal, return
ALLOW, REFUSE, KILL = 0x7FFF0000, 0x00050001, 0x80000000  # linux/seccomp.h: go on, EPERM, end the process
NO_NEW_PRIVILEGES, SECCOMP, FILTER = 38, 22, 2  # linux/prctl.h


class _Program(ctypes.Structure):
    """struct sock_fprog: how many instructions, and where they are."""

    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_void_p))


def lock() -> None:
    """Let the kernel refuse everything that is not in ALLOWED, for good. OSError where it cannot."""
    machine = platform.machine()
    if sys.platform != "linux" or machine not in MACHINES:
        raise OSError(f"{sys.platform} on {machine}")
    steps = [(LOAD, 0, 0, 4), (EQUAL, 1, 0, MACHINES[machine]), (RETURN, 0, 0, KILL), (LOAD, 0, 0, 0)]
    for numbers in ALLOWED.values():
        steps += [(EQUAL, 0, 1, numbers[list(MACHINES).index(machine)]), (RETURN, 0, 0, ALLOW)]
    steps.append((RETURN, 0, 0, REFUSE))
    code = b"".join(struct.pack("HBBI", *step) for step in steps)
    held = ctypes.create_string_buffer(code, len(code))
    program = _Program(len(steps), ctypes.cast(held, ctypes.c_void_p))
    control = ctypes.CDLL(None, use_errno=True).prctl
    word = ctypes.c_ulong
    for call in (
        (NO_NEW_PRIVILEGES, word(1), word(0), word(0), word(0)),
        (SECCOMP, word(FILTER), ctypes.byref(program), word(0), word(0)),
    ):
        if control(*call):
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def limit(seconds: float, memory: int, output: int) -> None:
    """Limits of time in seconds, of the address space and of each written file in bytes; nothing is dumped."""
    for kind, wanted in (
        (resource.RLIMIT_CPU, int(seconds) + 1),
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_FSIZE, output),
        (resource.RLIMIT_CORE, 0),
    ):
        hard = resource.getrlimit(kind)[1]
        value = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(kind, (value, value))
    # its end kills; a program that ignores it meets the limit above, and the parent
    signal.setitimer(signal.ITIMER_REAL, seconds)


def run(job: dict) -> dict:
    """A program and its tests, in one namespace: {"passed": [bool], "error": what stopped the program, "failed": [why]}."""
    module = types.ModuleType("__main__" if job["script"] else "answer")
    sys.modules[module.__name__], space = module, module.__dict__  # dataclasses look their module up
    told: dict = {"passed": [], "failed": [], "error": ""}
    try:
        exec(compile(job["code"], "answer", "exec"), space)  # noqa: S102 - locked in by now
        if job["script"]:
            atexit._run_exitfuncs()
    except SystemExit as end:
        told["error"] = "" if job["script"] and not end.code else _said(end)
    except BaseException as error:  # noqa: BLE001 - whatever the program raises is its result
        told["error"] = _said(error)
    for test in () if told["error"] else job["tests"]:
        try:
            exec(compile(test, "test", "exec"), space)  # noqa: S102
        except BaseException as error:  # noqa: BLE001
            told["passed"].append(False)
            told["failed"].append(_said(error))
        else:
            told["passed"].append(True)
    return told


def _said(error: BaseException) -> str:
    try:
        text = str(error)
    except BaseException:  # noqa: BLE001 - a class of the program's own
        text = ""
    return f"{type(error).__name__ or 'error'}: {text}"[:300].removesuffix(": ")


def prepare(job: dict) -> None:
    """Import what may be wanted, set the limits, lock. What goes wrong here is the machine's fault, not the program's."""
    for name in MODULES:
        importlib.import_module(name)
    for name in NEWER:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    # fstat may be a call that is not allowed, and fast readers ask it for the size of stdin
    known = {number: os.fstat(number) for number in (0, 1, 2)}
    os.fstat = lambda fd: known[fd]
    sys.argv = ["answer.py"]
    limit(job["seconds"], job["memory"], job["output"])
    lock()


def main() -> None:
    job_file, report_file = map(int, sys.argv[1:])
    with open(job_file, "rb") as file:
        job = json.loads(file.read())
    try:
        prepare(job)
    except Exception as error:  # noqa: BLE001 - told whole
        os.write(report_file, json.dumps({"unlocked": _said(error)}).encode())
        os._exit(1)
    told = run(job)
    for stream in {id(one): one for one in (sys.stdout, sys.__stdout__) if one is not None}.values():
        try:
            stream.flush()
        except BaseException as error:  # noqa: BLE001 - closed by the program, or over the limit
            told["error"] = told["error"] or _said(error)
    os.write(report_file, json.dumps({**told, "secret": job["secret"]}).encode())
    os._exit(0)


if __name__ == "__main__":
    main()
