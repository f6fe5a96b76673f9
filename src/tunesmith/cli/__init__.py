"""Floor 10: the command line. Words in, one function of api/ called, its Result printed, an exit code out.

    tunesmith train faq.yaml lr=1e-4 --json

Exit codes: 0 done, 1 our bug (traceback), 2 something we can explain, 130 stopped by Ctrl-C.
"""

import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tunesmith.core.errors import UserError


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line (sys.argv when None) and return the exit code."""
    from tunesmith.core.errors import UserError

    words = list(sys.argv[1:] if argv is None else argv)
    as_json = "--json" in (words[: words.index("--")] if "--" in words else words)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # a terminal without Korean letters must not end a run
    try:
        from tunesmith.cli.command import run

        text = run(words)
        if text:
            print(text)
        sys.stdout.flush()
        return 0
    except KeyboardInterrupt:
        print("\nStopped.", file=sys.stderr)
        return 130
    except BrokenPipeError:  # `tunesmith list | head`: who read us has gone, and nothing may be printed at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except Exception as error:
        explained = error if isinstance(error, UserError) else _explained(error)
        if explained is None:
            raise
        if as_json:
            from tunesmith.core.files import to_json

            parts = {"found": explained.found, "wanted": explained.wanted, "fix": explained.fix}
            print(to_json({"error": {"kind": type(explained).__name__, **parts}}))
        print(explained, file=sys.stderr)
        return 2


def _explained(error: Exception) -> "UserError | None":
    """Out of memory and a full disk, wherever they happen: nobody's bug."""
    from tunesmith.core.errors import SpaceError
    from tunesmith.core.files import explain_os_error

    said = str(error)
    no_memory = ("can't allocate memory", "not enough memory", "out of memory")
    if isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and any(w in said.lower() for w in no_memory)
    ):
        return SpaceError(
            f"Out of memory: {said.splitlines()[0] if said else 'nothing left to allocate'}",
            fix="Use less at a time: train.pass_tokens=1024, train.checkpointing=true, a smaller length or model.",
        )
    if isinstance(error, OSError):
        explained = explain_os_error(error)
        return explained if isinstance(explained, SpaceError) else None
    return None
