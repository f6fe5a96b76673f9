"""Training in several processes: who starts them, who writes, and in which order they make what they share.

    tunesmith train FILE --nproc 2                          on one machine
    torchrun --nproc-per-node 2 -m tunesmith train FILE out=runs/big      the same, started by torchrun

The first process writes the run folder; the others read the rows and tokens that it prepared, and compute.
"""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from tunesmith.core.result import Result


def several() -> bool:
    """Whether torchrun, or `launched`, started this process as one of several."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def start_together(project: Any, filled: dict[str, Any], root: Path, nproc: int, *, quiet: bool) -> Result:
    """A new run in several processes: those of --nproc, or those that torchrun started."""
    from tunesmith.api.build import new_run, run_facts
    from tunesmith.api.device import place
    from tunesmith.api.train import run
    from tunesmith.core.errors import ProjectError, SettingError
    from tunesmith.core.files import free_path
    from tunesmith.core.runs import RunFolder
    from tunesmith.step.ranks import barrier, rank, together

    if several() and nproc not in (1, int(os.environ["WORLD_SIZE"])):
        raise SettingError(
            f"nproc is {nproc}, but torchrun started {os.environ['WORLD_SIZE']} processes.", fix="Leave --nproc out."
        )
    if project.data.path == "(in memory)" and nproc > 1:
        raise SettingError("--nproc is given, but the rows were handed over in Python.", fix="Write them to a file.")
    if not several():
        place(project.device, process=nproc - 1)
        path = Path(project.out or free_path("runs", "train"))
        with new_run(path, project=filled, **run_facts(project, root, path)) as folder:
            return launched(folder, nproc, quiet=quiet)
    if project.out is None:
        raise ProjectError("several processes need one folder to meet in.", fix="Name it: out=runs/NAME")
    path = Path(project.out)
    with together(place(project.device)):
        if rank() == 0:
            RunFolder.create(path, project=filled, **run_facts(project, root, path))
        barrier()
        return run(in_turn(project, filled, root, RunFolder.open(path)), quiet=quiet)


def in_turn(project: Any, filled: dict[str, Any], root: Path, folder: Any) -> Any:
    """The parts of a run in each process: the first prepares rows and tokens, then the others read them, then all time steps."""
    from tunesmith.api.build import assemble
    from tunesmith.core.runs import RunFolder
    from tunesmith.step.ranks import barrier, rank, ranks

    if ranks() == 1:
        return assemble(project, filled, root, folder)
    if rank():
        barrier()
        return assemble(project, filled, root, RunFolder.open(folder.path, writes=False))
    return assemble(project, filled, root, folder, ready=barrier)


def launched(folder: Any, nproc: int, *, quiet: bool) -> Result:
    """Start nproc processes on a run folder that exists, wait for them, and return what the first one wrote.

    When one of them is lost the others stop; the run goes on from its last checkpoint with --resume.
    """
    from tunesmith.api.train import told_warnings, warnings_of
    from tunesmith.core.errors import TrainingError
    from tunesmith.report.labels import speaker
    from tunesmith.report.page import choose_language, own_language

    say = speaker(choose_language(None, own_language(folder.path)))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    threads = max(1, len(os.sched_getaffinity(0)) // nproc) if hasattr(os, "sched_getaffinity") else 1
    base = {
        **os.environ,
        "WORLD_SIZE": str(nproc),
        "LOCAL_WORLD_SIZE": str(nproc),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    base.setdefault("OMP_NUM_THREADS", str(threads))
    command = [
        sys.executable,
        "-m",
        "tunesmith",
        "train",
        "--resume",
        str(folder.path),
        *(["--quiet"] if quiet else []),
    ]
    own = [
        subprocess.Popen(command, env={**base, "RANK": str(n), "LOCAL_RANK": str(n)}, stdout=subprocess.DEVNULL)
        for n in range(nproc)
    ]
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        for number in before:  # they save and leave; we wait for that
            signal.signal(number, lambda n, _: _pass_on(own, n))
        codes = _wait(own)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if any(codes):
        raise TrainingError(
            f"{sum(map(bool, codes))} of {nproc} processes ended with an error (exit codes {', '.join(map(str, codes))})",
            fix=f"What they said stands above. Go on, with any number of processes: tunesmith train --resume {folder.path}",
        )
    outcome = folder.manifest().get("outcome")
    if outcome is None:
        text = (
            say("train_stopped_together") + "\n" + say("train_go_on", command=f"tunesmith train --resume {folder.path}")
        )
        return Result(run=str(folder.path), status="stopped", text=text)
    done = say("trained_together", steps=outcome["steps"], processes=nproc, loss=f"{outcome['last_loss']:.4f}")
    text = f"{done}\n{told_warnings(warnings_of(folder), say)}" + say("train_result", path=outcome["result"])
    if outcome.get("pushed"):
        text += "\n" + say("train_pushed", url=outcome["pushed"])
    return Result(outcome, text=text)


def _pass_on(own: list[subprocess.Popen[bytes]], number: int) -> None:
    for process in own:
        if process.poll() is None:
            process.send_signal(number)


def _wait(own: list[subprocess.Popen[bytes]]) -> list[int]:
    """Exit codes; once one process has failed the others get ten seconds to notice."""
    failed_at: float | None = None
    while any(process.poll() is None for process in own):
        if failed_at is None and any(process.returncode for process in own):
            failed_at = time.monotonic()
        if failed_at is not None and time.monotonic() - failed_at > 10:
            for process in own:
                if process.poll() is None:
                    process.kill()
        time.sleep(0.05)
    return [int(process.returncode) for process in own]
