"""Names for runs, as `current`, with what each stood for before: a file names.json beside the runs.

>>> name_run(Path("runs"), "current", Path("runs/chain/dpo"))
>>> back(Path("runs"), "current")                      # what it was before
PosixPath('runs/chain/sft')
>>> named("@current")                                  # wherever a run may be given
PosixPath('runs/chain/sft')

Nothing is forgotten: going back moves a mark in the list, and naming something new adds to its end.
"""

import json
import re
import time
from pathlib import Path
from typing import Any

from tunesmith.core.errors import ProjectError
from tunesmith.core.files import write_json
from tunesmith.core.names import nearest

FILE = "names.json"
FORMAT = 1
_NAME = re.compile(r"[a-z][a-z0-9_-]*")


def names(under: str | Path = "runs") -> dict[str, dict[str, Any]]:
    """{name: {"at": index, "history": [{"run", "time"}, ...]}}; runs are paths below `under` where they lie there."""
    path = Path(under) / FILE
    if not path.is_file():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return dict(found["names"]) if found["format"] == FORMAT else _unreadable(path, f"has format {found['format']}")
    except (ValueError, KeyError, TypeError) as error:
        return _unreadable(path, f"cannot be read: {error}")


def _unreadable(path: Path, why: str) -> dict[str, Any]:
    raise ProjectError(f"{path} {why}.", fix="Remove it: names are given anew with tunesmith runs RUN --name current")


def name_run(under: str | Path, name: str, run: Path) -> None:
    """Let a name stand for a run from now on."""
    if not _NAME.fullmatch(name):
        raise ProjectError(f'"{name}" cannot be a name.', wanted="Lower-case letters, digits, - and _, as in current.")
    known = names(under)
    entry = known.setdefault(name, {"at": -1, "history": []})
    told = _told(Path(under), run)
    if entry["history"] and entry["history"][entry["at"]]["run"] == told:
        return
    entry["history"].append({"run": told, "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())})
    entry["at"] = len(entry["history"]) - 1
    write_json(Path(under) / FILE, {"format": FORMAT, "names": known})


def back(under: str | Path, name: str) -> Path:
    """Let a name stand for what it stood for before; returns that run. ProjectError when there is none before."""
    known = names(under)
    entry = known.get(name) or _no_name(name, known)
    at = entry["at"] - 1
    while at >= 0 and not (_path(Path(under), entry["history"][at]["run"]) / "manifest.json").is_file():
        at -= 1  # deleted since
    if at < 0:
        there = entry["history"][entry["at"]]["run"]
        raise ProjectError(f"{name} is {there}; it stood for nothing before that is still there.")
    entry["at"] = at
    write_json(Path(under) / FILE, {"format": FORMAT, "names": known})
    return _path(Path(under), entry["history"][at]["run"])


def stands_for(name: str, under: str | Path = "runs") -> Path:
    """The run of a name. ProjectError with the nearest names when there is none."""
    known = names(under)
    entry = known.get(name) or _no_name(name, known)
    return _path(Path(under), entry["history"][entry["at"]]["run"])


def _no_name(name: str, known: dict[str, Any]) -> dict[str, Any]:
    close = nearest(name, known)
    raise ProjectError(
        f"No run is named {name}.",
        wanted=f"Names: {', '.join(known) or 'none yet'}.",
        fix=f"Did you mean: {close[0]}" if close else f"Give it to one: tunesmith runs RUN --name {name}",
    )


def named(run: str | Path, under: str | Path = "runs") -> str | Path:
    """The run that "@current" stands for; anything without the @ as it is."""
    return stands_for(run[1:], under) if isinstance(run, str) and run.startswith("@") else run


def names_of(run: Path, under: str | Path = "runs") -> list[str]:
    """The names that stand for a run now."""
    wanted = run.resolve()
    return [
        name
        for name, entry in names(under).items()
        if _path(Path(under), entry["history"][entry["at"]]["run"]).resolve() == wanted
    ]


def _told(under: Path, run: Path) -> str:
    whole, home = run.resolve(), under.resolve()
    return str(whole.relative_to(home)) if whole.is_relative_to(home) else str(whole)


def _path(under: Path, told: str) -> Path:
    return under / told  # an absolute path stays what it is
