"""Deleting runs: what would go, what stands in the way, and doing it. Never outside the folder of the runs.

A run is in the way of its own deletion when another was made from it, when it is still running, or when a name stands for it.
"""

import json
import shutil
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tunesmith.core.errors import ProjectError
from tunesmith.core.shared import STORE, forget

BUSY_SECONDS = 600  # a journal that grew so lately belongs to a run that is probably going on


@dataclass(frozen=True)
class Removal:
    """Runs to delete, in the order in which they go (descendants first), and why they may not."""

    runs: list[Path]
    bytes: int
    refused: list[str] = field(default_factory=list)


def plan_removal(run: Path, under: Path, *, descendants: bool) -> Removal:
    """What deleting a run means. Raises ProjectError for a folder that is no run below `under`."""
    from tunesmith.api.runs import children_of
    from tunesmith.core.registry import names_of

    whole, home = run.resolve(), under.resolve()
    if run.is_symlink() or not whole.is_relative_to(home) or whole == home:
        raise ProjectError(
            f"{run} does not lie under {under}.", wanted="A run of this folder.", fix="Say which folder holds it: --under FOLDER"
        )  # fmt: skip
    if not (whole / "manifest.json").is_file():
        raise ProjectError(f"{run} is no run: it has no manifest.json.", wanted="The folder of one run.")
    inside = [path.parent for path in whole.rglob("manifest.json") if path.parent != whole]
    below = _below(whole, home, children_of)
    gone = [*reversed(below), whole] if descendants else [whole]
    refused: list[str] = []
    if below and not descendants:
        told = ", ".join(str(path.relative_to(home)) for path in below)
        refused.append(
            f"{len(below)} run{'s were' if len(below) > 1 else ' was'} made from it: {told} (--descendants deletes them too)"
        )
    outside = [path for path in inside if path not in gone]
    if outside:
        refused.append(f"other runs lie inside it: {', '.join(str(path.relative_to(home)) for path in outside)}")
    for path in gone:
        for name in names_of(path, under):
            refused.append(
                f"{path.relative_to(home)} is named {name} (name another first: tunesmith runs RUN --name {name})"
            )
        if seconds := _going_on(path):
            refused.append(f"{path.relative_to(home)} wrote its last step {seconds:.0f} s ago and has not ended")
    return Removal(gone, sum(_size(path) for path in gone), refused)


def remove(removal: Removal, under: Path) -> None:
    """Delete what was planned. Each run is moved aside by one rename first, so that a kill leaves no half run."""
    for path in removal.runs:
        aside = path.with_name(f".{path.name}.deleted-{time.time_ns()}")
        path.rename(aside)
        shutil.rmtree(aside)
        _forget(path)
        forget(path.parent / STORE)


def _below(run: Path, home: Path, children_of: Any) -> list[Path]:
    """All that was made from a run, and from those: nearest first."""
    found: list[Path] = []
    queue = [run]
    while queue:
        for child in children_of(queue.pop(0), home):
            whole = child.resolve()
            if whole not in found and whole != run:
                found.append(whole)
                queue.append(whole)
    return found


def _going_on(run: Path) -> float:
    """Seconds since the last event of a run that has not ended; 0 for any other."""
    from tunesmith.report.read import glance

    journal = run / "events.jsonl"
    if not journal.is_file() or glance(run)["status"] != "running":
        return 0.0
    since = time.time() - journal.stat().st_mtime
    return max(since, 1.0) if since < BUSY_SECONDS else 0.0


def _size(folder: Path) -> int:
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file() or path.is_symlink())


def _forget(run: Path) -> None:
    """A chain's folder forgets a stage that was deleted, so that the same command makes it anew."""
    from tunesmith.core.files import write_json

    place = run.parent / "chain.json"
    if place.is_file():
        record = json.loads(place.read_text(encoding="utf-8"))
        if record.get("stages", {}).pop(run.name, None) is not None:
            write_json(place, record)
