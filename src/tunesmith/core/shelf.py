"""The shelves: folders of small files where the product grows. A folder listing is the registry.

>>> shelf("metrics").names()
['accuracy', 'bleu', 'exact_match', ...]
>>> shelf("adapters").make({"lora": {"rank": 16}})
Lora(rank=16, ...)

An item is a file that defines the class of its own name in CamelCase (exact_match.py: ExactMatch), a frozen dataclass
whose fields are its settings. Where items come from, first to last:

    use       files of the user's own, named in the project: `use: [metrics/mine.py]`. The parent folder names the shelf.
              One with the name of a built-in item takes its place. They must lie in the project's folder.
    built in  src/tunesmith/metrics and so on
    installed packages with an entry point in the group tunesmith.metrics, tunesmith.steps, tunesmith.adapters or
              tunesmith.objectives: `name = "package.module:Class"`. These never take the place of a built-in item.

Looking (names, path, settings) reads files and runs none; only `load` and `make` import.
"""

import json
import os
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, is_dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, cast

from tunesmith.core import source
from tunesmith.core.errors import ProjectError, SettingError
from tunesmith.core.files import hash_file
from tunesmith.core.fill import BARE, Typed, fill, settle, show, unknown_setting
from tunesmith.core.names import unknown

_PACKAGE = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Kind:
    """One of the shelves: its folder in the package, and how its items are called in errors."""

    folder: str
    item: str


KINDS = {
    "metrics": Kind("metrics", "metric"),
    "steps": Kind("data/steps", "data step"),
    "adapters": Kind("adapters", "adapter"),
    "objectives": Kind("objectives", "method"),
}

# Where a worker process finds the user's files: it inherits the environment, and unpickling imports from it.
USE = "TUNESMITH_USE"


@dataclass(frozen=True)
class Item:
    """One item, found without running it. `origin` is "yours", "built in" or the name of the package it came with."""

    shelf: str
    name: str
    path: Path
    class_name: str
    origin: str
    module: str

    @property
    def doc(self) -> str:
        """The first line of its file, without its own name before a colon."""
        return source.first_line(self.path).removeprefix(f"{self.name}: ")

    @property
    def line(self) -> int:
        """The line where its class starts."""
        return source.line_of(self.path, self.class_name)

    def settings(self) -> list[source.Field]:
        """Its settings as the source says them."""
        return source.fields(self.path, self.class_name)


@dataclass(frozen=True)
class Used:
    """A file of the user's own on a shelf. `path` is relative to the project's folder; `hash` is of its bytes."""

    shelf: str
    name: str
    path: str
    hash: str


class Shelf:
    """The items of one kind."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.kind = KINDS[name]

    def items(self) -> dict[str, Item]:
        """All items by name, in alphabetical order."""
        built_in = _built_in(self.name)
        found = {**_installed(self.name), **built_in, **_yours(self.name)}
        return dict(sorted(found.items()))

    def names(self) -> list[str]:
        """Names of all items, in alphabetical order."""
        return [*self.items()]

    def item(self, name: str) -> Item:
        """One item by name; an unknown one is a SettingError that names the nearest."""
        # the listing reads every file; most names are answered by one
        found = _yours(self.name).get(name) or _built_in_item(self.name, name) or self.items().get(name)
        if found is None:
            raise unknown(self.kind.item, name, self.names())
        return found

    def path(self, name: str) -> Path:
        """The file of an item."""
        return self.item(name).path

    def load(self, name: str) -> type:
        """Import an item's class."""
        item = self.item(name)
        loaded: Any = getattr(import_module(item.module), item.class_name)
        if not is_dataclass(loaded):
            raise ProjectError(
                f"{item.class_name} in {item.path} is no dataclass.",
                wanted="Items are frozen dataclasses: their fields are their settings.",
                fix="Put @dataclass(frozen=True) above the class.",
            )
        return cast(type, loaded)

    def spec(self, spec: Any, where: str = "") -> tuple[str, dict[str, Any]]:
        """A spec as name and settings, both checked against the source of the item, which is not run.

        >>> shelf("adapters").spec("lora"), shelf("adapters").spec({"lora": {"rank": 16}})
        (('lora', {}), ('lora', {'rank': 16}))
        """
        spec = settle(spec) if isinstance(spec, Typed) else spec
        if isinstance(spec, str):
            name, raw = spec, cast(Any, {})
        elif isinstance(spec, Mapping) and len(spec) == 1:
            ((name, raw),) = spec.items()
        else:
            raise SettingError(
                f"{where or self.kind.item} is {show(spec)}.",
                wanted=f"It must be the name of a {self.kind.item}, or a name with settings:  name: {{setting: value}}",
                fix=f"There are: {', '.join(self.names())}",
            )
        name = str(name)
        item = self.item(name)
        raw = {} if raw is None else settle(raw) if isinstance(raw, Typed) else raw
        here = f"{where}.{name}" if where else name
        if not isinstance(raw, Mapping):
            raise SettingError(f"{here} is {show(raw)}.", wanted="It must hold settings, as  {setting: value}.")
        known = [field.name for field in item.settings()]
        for key in raw:
            if key not in known:
                raise unknown_setting(str(key), known, here)
        for field in item.settings():
            if not field.default and field.name not in raw:
                raise SettingError(f"{here}.{field.name} is missing.", wanted=field.doc)
        return name, dict(raw)

    def make(self, spec: Any, where: str = "") -> Any:
        """An item with its settings, from a spec ("lora" or {"lora": {"rank": 16}}); an instance is returned as it is.

        Unknown names, unknown settings, wrong types and impossible values are SettingErrors.
        """
        if is_dataclass(spec) and not isinstance(spec, type):
            return spec
        name, raw = self.spec(spec, where)
        return fill(self.load(name), raw, f"{where}.{name}" if where else name)

    def filled(self, spec: Any, where: str = "") -> dict[str, dict[str, Any]]:
        """A spec with the defaults written in: {"lora": {"rank": 8, ...}}. Defaults that are no literals stay out."""
        name, raw = self.spec(spec, where)
        defaults = {field.name: field.value() for field in self.item(name).settings()}
        values = {key: value for key, value in defaults.items() if value is not source.MISSING}
        return {name: {**values, **{key: settle(value) for key, value in raw.items()}}}

    def merge(self, below: Any, over: Any) -> Any:
        """Two specs: `over` wins. Settings alone, or settings of the same item, are added to those below.

        >>> shelf("adapters").merge({"lora": {"rank": 8}}, {"dropout": 0.1})
        {'lora': {'rank': 8, 'dropout': 0.1}}
        """
        over = settle(over) if isinstance(over, Typed) else over
        if over is None or not isinstance(over, Mapping):
            return over
        if BARE in over:  # adapter=lora adapter.rank=16
            rest = {key: value for key, value in over.items() if key != BARE}
            return self.merge(self.merge(below, over[BARE]), rest)
        below = {below: {}} if isinstance(below, str) else below
        if not isinstance(below, Mapping) or len(below) != 1:
            return dict(over)
        ((name, raw),) = below.items()
        if len(over) == 1:
            ((new, new_raw),) = over.items()
            if new == name:
                return {name: {**(raw or {}), **(new_raw or {})}}
            if isinstance(new_raw, Mapping) or new in self.items():
                return dict(over)
        return {name: {**(raw or {}), **over}}


def shelf(name: str) -> Shelf:
    """A shelf by name: metrics, steps, adapters or objectives."""
    if name not in KINDS:
        raise unknown("shelf", name, KINDS)
    return Shelf(name)


def shelves() -> list[Shelf]:
    """All shelves."""
    return [Shelf(name) for name in KINDS]


def use(paths: Iterable[str | Path], root: str | Path) -> list[Used]:
    """Put the user's files on the shelves, in place of those of an earlier call. They are read, not run.

    Paths are relative to `root`, the project's folder, and must lie in it; the folder a file lies in names the shelf
    (metrics/mine.py). Anything else is a ProjectError.
    """
    root = Path(root).resolve()
    found: dict[str, dict[str, str]] = {}
    for given in paths:
        path = (root / given).resolve()
        if not path.is_relative_to(root):
            raise ProjectError(
                f"use: {given} lies outside the project's folder {root}.", fix="Copy it into the project."
            )
        if path.suffix != ".py" or not path.is_file():
            beside = sorted(str(p.relative_to(root)) for name in KINDS for p in (root / name).glob("*.py"))
            fix = f"There are: {', '.join(beside)}" if beside else ""
            raise ProjectError(f"use: there is no Python file {given} in {root}.", fix=fix)
        kind = path.parent.name
        if kind not in KINDS:
            raise ProjectError(
                f'use: {given} lies in a folder called "{kind}".',
                wanted=f"The folder names the shelf: {', '.join(KINDS)}.",
                fix=f"Move it, for example to metrics/{path.name}",
            )
        if not path.stem.isidentifier():
            raise ProjectError(f"use: {given} has a name that is no Python name.", wanted="Letters, digits and _.")
        name = path.stem
        if not source.class_for(path):
            wanted = "".join(word.capitalize() for word in name.split("_"))
            raise ProjectError(f"use: {given} defines no class {wanted}.", wanted="The class is called like the file.")
        source.fields(path, source.class_for(path))  # a file that is no Python is told now, with its line
        key = f"{kind}.{name}"
        if key in found:
            raise ProjectError(f"use: {found[key]['path']} and {given} are both {key}.", fix="Leave one out.")
        found[key] = {"path": str(path), "root": str(root), "hash": hash_file(path)}
    before = _table()
    loaded = [name.removeprefix(_module("")) for name in sys.modules if name.startswith(_module(""))]
    for key in loaded:
        if "." in key and (key not in found or found[key] != before.get(key)):
            del sys.modules[_module(key)]  # the file has changed, or another project's has its name
    if found:
        os.environ[USE] = json.dumps(found, sort_keys=True)
    else:
        os.environ.pop(USE, None)
    return used()


def used() -> list[Used]:
    """The user's files on the shelves now: what a manifest notes."""
    found = []
    for key, entry in _table().items():
        kind, name = key.split(".")
        found.append(Used(kind, name, str(Path(entry["path"]).relative_to(entry["root"])), entry["hash"]))
    return found


def _table() -> dict[str, dict[str, str]]:
    return dict(json.loads(os.environ.get(USE, "{}")))


def _module(key: str) -> str:
    return f"tunesmith.core.user.{key}"


def _yours(kind: str) -> dict[str, Item]:
    found = {}
    for key, entry in _table().items():
        shelf_name, name = key.split(".")
        if shelf_name == kind:
            path = Path(entry["path"])
            found[name] = Item(kind, name, path, source.class_for(path), "yours", _module(key))
    return found


def _built_in_item(kind: str, name: str) -> Item | None:
    path = _PACKAGE / KINDS[kind].folder / f"{name}.py"
    if not name.isidentifier() or name.startswith("_") or not path.is_file():
        return None
    class_name = source.class_for(path)
    module = f"tunesmith.{KINDS[kind].folder.replace('/', '.')}.{name}"
    return Item(kind, name, path, class_name, "built in", module) if class_name else None


@cache
def _built_in(kind: str) -> dict[str, Item]:
    names = sorted(path.stem for path in (_PACKAGE / KINDS[kind].folder).glob("*.py"))
    return {name: item for name in names if (item := _built_in_item(kind, name)) is not None}


def _installed(kind: str) -> dict[str, Item]:
    from importlib.metadata import entry_points

    found: dict[str, Item] = {}
    for point in entry_points(group=f"tunesmith.{kind}"):
        package = point.dist.name if point.dist is not None else point.module.partition(".")[0]
        if point.name in found:
            raise ProjectError(
                f'The packages {found[point.name].origin} and {package} both bring a {KINDS[kind].item} "{point.name}".',
                fix="Uninstall one of them.",
            )
        path = source.file_of(point.module)
        if path is None or not point.attr:
            raise ProjectError(
                f'The package {package} says that its {KINDS[kind].item} "{point.name}" is {point.value}, which is not there.',
                wanted="An entry point package.module:Class.",
                fix=f"Update or uninstall {package}.",
            )
        if _built_in_item(kind, point.name) is not None:
            continue  # an installed package must not change what a word of the project file means; `list` tells
        found[point.name] = Item(kind, point.name, path, point.attr, package, point.module)
    return found
