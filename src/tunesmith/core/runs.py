"""The run folder: the only thing stages share. Each reads files an earlier one wrote and writes its own.

    run = RunFolder.create("runs/train-1", project=filled, verb="train", seed=0)
    run.write_json("plan.json", {...}); run.journal("events.jsonl").append({...})
    run = RunFolder.open("runs/train-1"); run.manifest()["seed"]

manifest.json holds the format number, versions, hardware, the command, hashes of project, data, base, code and the user's files, the seed, the
parent run, hyperparameters, and each reading of the test split. Keys and tokens of the environment never get in.
"""

import hashlib
import os
import platform
import re
import shlex
import sys
import time
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from tunesmith import __version__
from tunesmith.core.errors import ProjectError
from tunesmith.core.files import Journal, NoJournal, explain_os_error, hash_json, write_json, write_whole
from tunesmith.core.memory import usable
from tunesmith.core.names import nearest

FORMAT = 1


class RunFolder:
    """A folder with a manifest. Make one with `create` or `open`.

    writes  False in all but one of several processes that work on one run: they read it and write nothing
    """

    def __init__(self, path: str | Path, *, writes: bool = True) -> None:
        self.path, self.writes = Path(path), writes

    @classmethod
    def create(
        cls,
        path: str | Path,
        *,
        project: dict[str, Any],
        verb: str,
        parent: str | Path | None = None,
        seed: int | None = None,
        **more: Any,
    ) -> "RunFolder":
        """Start a run: write project.yaml (fully filled in) and manifest.json. A folder with a run in it is a ProjectError.

        `seed` defaults to the project's; `more` goes into the manifest as it is.
        """
        run = cls(path)
        try:
            is_file, taken = run.path.is_file(), run.file("manifest.json").exists()
            if not is_file:
                run.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise explain_os_error(error, run.path) or error from None
        if is_file:
            raise ProjectError(f"{run.path} is a file.", wanted="A folder for the run.", fix="Choose another: out=...")
        if taken:
            raise ProjectError(
                f"{run.path} already holds a run.",
                fix="Choose another folder (out=...), go on with that run (--resume), or delete it.",
            )
        from tunesmith.core.project import to_yaml
        from tunesmith.core.shelf import used

        project = _without_keys(project)
        run.write_text("project.yaml", to_yaml(project))
        run.write_json("manifest.json", {
            "format": FORMAT,
            "verb": verb,
            "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "command": _without_keys(shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])),
            "parent": None if parent is None else str(parent),
            "seed": project.get("seed") if seed is None else seed,
            "project_hash": hash_json(project),
            "code_hash": code_hash(),
            "use": {file.path: file.hash for file in used()},
            "data_hashes": {},
            "versions": versions(),
            "hardware": hardware(),
            "hyperparameters": {},
            "test_reads": [],
            **_without_keys(more),
        })  # fmt: skip
        return run

    @classmethod
    def open(cls, path: str | Path, *, writes: bool = True) -> "RunFolder":
        """An existing run. A folder without a manifest, or one of a newer format, is a ProjectError."""
        run = cls(path, writes=writes)
        if not run.file("manifest.json").is_file():
            found = (
                f"{path} is not a run folder: it has no manifest.json." if run.path.exists() else f"There is no {path}."
            )
            siblings = [p.parent.name for p in run.path.parent.glob("*/manifest.json")]
            close = nearest(run.path.name, siblings) or sorted(siblings)[-3:]
            fix = f"Runs beside it: {', '.join(close)}" if close else "Make one with: tunesmith train"
            raise ProjectError(found, wanted="The folder of a run, such as runs/train-1.", fix=fix)
        number = run.manifest().get("format")
        if number != FORMAT:
            raise ProjectError(
                f"{path} has format {number}.", wanted=f"This version reads {FORMAT}.", fix="Update tunesmith."
            )
        return run

    def file(self, name: str) -> Path:
        """The path of a file in the run, which need not exist."""
        return self.path / name

    def write_text(self, name: str, text: str) -> Path:
        """Write a file whole."""
        return write_whole(self.file(name), text) if self.writes else self.file(name)

    def write_json(self, name: str, value: Any) -> Path:
        """Write a JSON file whole."""
        return write_json(self.file(name), value) if self.writes else self.file(name)

    def read_json(self, name: str) -> Any:
        """A JSON file of the run. One that is not there is a ProjectError naming the stage's file."""
        import json

        path = self.file(name)
        if not path.is_file():
            raise ProjectError(f"{self.path} has no {name}.", wanted="It is written by an earlier stage of the run.")
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ProjectError(f"{path} is not JSON: {error}") from None

    def journal(self, name: str) -> Journal:
        """A file of the run that grows by lines."""
        return Journal(self.file(name)) if self.writes else NoJournal(self.file(name))

    def manifest(self) -> dict[str, Any]:
        """What is known about the run."""
        return dict(self.read_json("manifest.json"))

    def update_manifest(self, **fields: Any) -> dict[str, Any]:
        """Set fields of the manifest (whole fields: a dict is replaced, not merged) and return it."""
        manifest = {**self.manifest(), **_without_keys(fields)}
        self.write_json("manifest.json", manifest)
        return manifest

    def count_test_read(self, *, by: str) -> int:
        """Note that the test split was read, by which verb; returns how often it has been."""
        reads = [*self.manifest()["test_reads"], {"by": by, "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}]
        self.update_manifest(test_reads=reads)
        return len(reads)

    def __repr__(self) -> str:
        return f"RunFolder({str(self.path)!r})"


def versions() -> dict[str, str | None]:
    """Versions of what decides a run's figures, read without importing it; None = not installed."""
    found: dict[str, str | None] = {"tunesmith": __version__, "python": platform.python_version()}
    for name in ("torch", "transformers", "tokenizers", "numpy"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    return found


def hardware() -> dict[str, Any]:
    """The machine: system, processor, cores and bytes of memory this process may use. GPUs are added by who uses them."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "cores": cores,
        "memory": usable(),
    }


@cache
def code_hash() -> str:
    """sha256 over the package's files of Python and C: which code a run was made with, also between releases."""
    root = Path(__file__).resolve().parent.parent
    digest = hashlib.sha256()
    for path in sorted(path for ending in ("py", "c", "h") for path in root.rglob(f"*.{ending}")):
        digest.update(str(path.relative_to(root)).encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            for line in file:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except FileNotFoundError:
        pass  # not Linux
    return platform.processor()


def _without_keys(value: Any) -> Any:
    """Replace the values of secret environment variables by their names, wherever they stand."""
    secrets = {
        text: name
        for name, text in os.environ.items()
        if len(text) >= 12 and re.search(r"(KEY|TOKEN|SECRET|PASSWORD|CREDENTIALS?)$", name)
    }
    if not secrets:
        return value

    def clean(item: Any) -> Any:
        if isinstance(item, str):
            for text, name in secrets.items():
                item = item.replace(text, f"[${name}]")
            return item
        if isinstance(item, dict):
            return {key: clean(inner) for key, inner in item.items()}
        if isinstance(item, (list, tuple)):
            return [clean(inner) for inner in item]
        return item

    return clean(value)
