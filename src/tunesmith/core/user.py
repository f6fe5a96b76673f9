"""Gives the user's own files a stable module name: metrics/mine.py is tunesmith.core.user.metrics.mine.

So their classes can be pickled: a worker process imports that name and finds the file by the environment variable that
`shelf.use` sets and every child process inherits.
"""

import json
import os
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_file_location
from pathlib import Path
from types import ModuleType

from tunesmith.core.shelf import USE

__path__: list[str] = []  # makes this module a package, so that names below it can be imported


class _Finder:
    """Finds tunesmith.core.user.SHELF (an empty package) and tunesmith.core.user.SHELF.NAME (the user's file)."""

    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        inside = name.removeprefix(f"{__name__}.")
        if inside == name:
            return None
        if "." not in inside:
            return ModuleSpec(name, None, is_package=True)
        entry = json.loads(os.environ.get(USE, "{}")).get(inside)
        if entry is None:
            return None
        return spec_from_file_location(name, entry["path"], loader=_Loader(entry["path"]))  # type: ignore[arg-type]


class _Loader:
    """Compiles the file each time: Python's own cache (__pycache__) takes a file changed within a second for the old one."""

    def __init__(self, path: str) -> None:
        self.path = path

    def create_module(self, spec: ModuleSpec) -> None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        code = compile(Path(self.path).read_bytes(), self.path, "exec", dont_inherit=True)
        exec(code, module.__dict__)  # noqa: S102 (running the user's own file is what it is for)


sys.meta_path.append(_Finder)  # type: ignore[arg-type]
