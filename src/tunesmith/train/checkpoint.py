"""Checkpoints: everything a run needs to go on bit by bit, as safetensors and JSON, whole or not there.

    save(run / "checkpoints", step=120, tensors=..., progress={...}, keep=2)
    number, tensors, progress = load_latest(run / "checkpoints")

A checkpoint is a folder step-000120 that appears by a rename. Random numbers need no saving: what a step draws is fixed
by (seed, step).
"""

import errno
import json
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from tunesmith.core.errors import SpaceError, TrainingError
from tunesmith.core.files import explain_os_error, write_json
from tunesmith.report.formats import size
from tunesmith.train.spread import write

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


def load(folder: Path, step: int) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """(tensors, progress) of the checkpoint of `step`."""
    path = folder_of(folder, step)
    try:
        progress = json.loads((path / "progress.json").read_text())
        return load_file(path / "state.safetensors"), progress
    except (OSError, ValueError, SafetensorError) as error:
        raise TrainingError(
            f"the checkpoint {path} cannot be read: {error}",
            fix="Remove that folder; --resume then takes the one before.",
        ) from error


def load_latest(folder: Path) -> tuple[int, dict[str, torch.Tensor], dict[str, Any]] | None:
    """The last whole checkpoint, or None when there is none."""
    for old in folder.glob(".step-*.old"):  # killed between the two renames of `save`
        target = folder / old.name.removeprefix(".").removesuffix(".old")
        if not target.exists():
            old.rename(target)
    steps = steps_in(folder)
    if not steps:
        return None
    tensors, progress = load(folder, steps[-1])
    return steps[-1], tensors, progress


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
