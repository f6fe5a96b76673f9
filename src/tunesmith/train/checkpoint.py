"""Checkpoints: everything a run needs to go on bit by bit, as safetensors and JSON, whole or not there.

    save(run / "checkpoints", step=120, tensors=..., progress={...}, keep=2)
    number, progress = latest(run / "checkpoints")
    for name, tensor in each(run / "checkpoints", number): ...

A checkpoint is a folder step-000120 that appears by a rename. Random numbers need no saving: what a step draws is fixed
by (seed, step).
"""

import errno
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from tunesmith.core.errors import SpaceError, TrainingError
from tunesmith.core.files import explain_os_error, write_json
from tunesmith.report.formats import size
from tunesmith.train.spread import read, write

FORMAT = 1


def folder_of(folder: Path, step: int) -> Path:
    """checkpoints/step-000120"""
    return folder / f"step-{step:06d}"


def steps_in(folder: Path) -> list[int]:
    """The steps that have a whole checkpoint, ascending."""
    return sorted(int(p.name.removeprefix("step-")) for p in folder.glob("step-*") if (p / "progress.json").exists())


def save(
    folder: Path, *, step: int, tensors: dict[str, Any], progress: dict[str, Any], keep: int, best: int | None
) -> Path:
    """Write the checkpoint of `step`, then remove old ones: the last `keep` stay, and the `best` one."""
    target = folder_of(folder, step)
    part = folder / f".{target.name}.part"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir()
        write(part / "state.safetensors", tensors)
        write_json(part / "progress.json", {"format": FORMAT, "step": step, **progress})
        if target.exists():  # saved a moment ago, now with a newer progress: at no time is there none of this step
            old = _aside(target)
            shutil.rmtree(old, ignore_errors=True)
            target.rename(old)
        part.rename(target)
        shutil.rmtree(_aside(target), ignore_errors=True)
    except OSError as error:
        shutil.rmtree(part, ignore_errors=True)
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise SpaceError(
                f"the disk is full: {target} could not be written", fix="Free some space, then --resume."
            ) from error
        raise explain_os_error(error, target) or error from error
    drop_old(folder, keep=keep, best=best)
    return target


def _aside(target: Path) -> Path:
    """Where a checkpoint waits while a newer one of the same step takes its place."""
    return target.parent / f".{target.name}.old"


def drop_old(folder: Path, *, keep: int, best: int | None) -> None:
    """Remove all but the last `keep` checkpoints and the best one."""
    steps = steps_in(folder)
    for old in steps[: max(0, len(steps) - max(1, keep))]:
        if old != best:
            shutil.rmtree(folder_of(folder, old))


def progress_of(folder: Path, step: int) -> dict[str, Any]:
    """What was written beside the tensors of `step`."""
    path = folder_of(folder, step)
    try:
        saved: dict[str, Any] = json.loads((path / "progress.json").read_text())
        return saved
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from error


def each(folder: Path, step: int, start: tuple[str, ...] = ("",)) -> Iterator[tuple[str, torch.Tensor]]:
    """(name, tensor) of the checkpoint of `step`, one in memory at a time: all, or those whose names start with one of `start`."""
    path = folder_of(folder, step)
    try:
        yield from read(path / "state.safetensors", start)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> TrainingError:
    return TrainingError(
        f"the checkpoint {path} cannot be read: {error}", fix="Remove that folder; --resume then takes the one before."
    )


def latest(folder: Path) -> tuple[int, dict[str, Any]] | None:
    """(step, progress) of the last whole checkpoint, or None when there is none."""
    for old in folder.glob(".step-*.old"):  # killed between the two renames of `save`
        target = folder / old.name.removeprefix(".").removesuffix(".old")
        if not target.exists():
            old.rename(target)
    steps = steps_in(folder)
    return (steps[-1], progress_of(folder, steps[-1])) if steps else None


def forecast(folder: Path, *, checkpoint_bytes: int, result_bytes: int, keep: int) -> dict[str, int]:
    """Disk the run will need against what is free, in bytes. Raises SpaceError before anything is lost.

    Held at once: the last `keep`, the best, the one being written, and the result.
    """
    folder.mkdir(parents=True, exist_ok=True)
    needed = checkpoint_bytes * (max(1, keep) + 2) + result_bytes
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise SpaceError(
            f"The disk is too small: checkpoints and result need {size(needed)} in {folder}, {size(free)} are free",
            fix="Free some space, choose another folder (out=...), or keep fewer (train.keep=1).",
        )
    return {"checkpoint_bytes": checkpoint_bytes, "needed_bytes": needed, "free_bytes": free}
