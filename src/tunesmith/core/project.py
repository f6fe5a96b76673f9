"""The project file and the keys of the command line, as plain dicts.

>>> read_project("tunesmith.yaml")
{'model': 'mini', 'data': 'questions.jsonl', 'method': 'sft'}
>>> parse_keys(["train.lr=1e-4", "adapter.lora.rank=16"])
{'train': {'lr': '1e-4'}, 'adapter': {'lora': {'rank': '16'}}}

Values of the command line stay text (`Typed`) until `fill` knows which type the setting has. YAML is read as YAML 1.2
says: only true and false are booleans (`no` is a word), 1e-4 is a number, and a repeated key is an error.
"""

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePath
from typing import Any

from tunesmith.core.errors import ProjectError, SettingError
from tunesmith.core.fill import BARE, Typed, as_section, describe, fill, section_of, unknown_setting
from tunesmith.core.names import nearest

__all__ = [
    "Typed",
    "describe",
    "fill",
    "merge",
    "parse_keys",
    "parse_value",
    "parse_yaml",
    "place",
    "read_project",
    "to_yaml",
]

NAMES = ("tunesmith.yaml", "tunesmith.yml")
_NUMBER = r"[-+]?(?:[0-9][0-9_]*\.?[0-9_]*|\.[0-9][0-9_]*)(?:[eE][-+]?[0-9]+)?"
KEY = re.compile(r"[A-Za-z_][\w-]*(\.[\w-]+)*=")


def read_project(path: str | Path) -> dict[str, Any]:
    """A project file as a dict. Not there, not YAML, repeated keys, no mapping: a ProjectError with the line."""
    path = Path(path)
    if path.is_dir():
        path = next((path / name for name in NAMES if (path / name).is_file()), path / NAMES[0])
    if not path.is_file():
        beside = [p.name for p in path.parent.glob("*.y*ml")] if path.parent.is_dir() else []
        close = nearest(path.name, beside) or sorted(beside)[:5]
        fix = f"There is: {', '.join(close)}" if close else "Write one with: tunesmith new"
        raise ProjectError(f"There is no project file {path}.", fix=fix)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ProjectError(f"{path} is not UTF-8 (byte {error.start}).", fix="Save it as UTF-8.") from None
    value = parse_yaml(text, str(path))
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ProjectError(f"{path} holds no settings but {type(value).__name__}.", wanted="Lines like:  model: mini")
    return value


def parse_yaml(text: str, name: str) -> Any:
    """YAML 1.2 text as plain values. `name` stands before the line in errors."""
    import yaml

    try:
        return yaml.load(text, Loader=_loader())
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        lines = text.splitlines()
        at = lines[line - 1].strip() if line <= len(lines) else ""
        fix = ""
        if "{{" in at:
            fix = "Put the template in quotes:  prompt: '{{ question }}'"
        elif at.startswith("\t") or "\t" in at[:8] or "'\\t'" in str(error):
            fix = "YAML wants spaces, not tabs, at the start of a line."
        raise ProjectError(f"{name}:{line}: {error.problem}: {at}", fix=fix) from None
    except yaml.YAMLError as error:
        raise ProjectError(f"{name} is not YAML: {error}") from None


def to_yaml(value: Any) -> str:
    """Plain values as YAML that reads back the same, here (YAML 1.2: 1e5 is a number) and with YAML 1.1 (no is false)."""
    import yaml

    class Dumper(yaml.SafeDumper):
        def ignore_aliases(self, data: Any) -> bool:
            return True  # a value used twice is written twice

    def text_node(dumper: Any, text: str) -> Any:
        # PyYAML folds Unicode line ends in single quotes into blanks
        return dumper.represent_scalar(
            "tag:yaml.org,2002:str", str(text), style='"' if re.search("[\x85\u2028\u2029]", text) else None
        )

    Dumper.yaml_implicit_resolvers = {
        key: list(found) for key, found in yaml.SafeDumper.yaml_implicit_resolvers.items()
    }
    Dumper.add_implicit_resolver("tag:yaml.org,2002:float", re.compile(f"^(?:{_NUMBER})$"), [*"-+.0123456789"])
    Dumper.add_representer(str, text_node)
    Dumper.add_multi_representer(str, text_node)
    Dumper.add_multi_representer(tuple, lambda dumper, items: dumper.represent_list(list(items)))
    Dumper.add_multi_representer(PurePath, lambda dumper, path: dumper.represent_str(os.fspath(path)))
    return str(yaml.dump(value, Dumper=Dumper, sort_keys=False, allow_unicode=True, width=120))


def parse_value(text: str) -> Any:
    """A value typed on the command line, read as YAML; what is no YAML (`{{ question }}`) is the text itself."""
    try:
        return parse_yaml(text, "")
    except ProjectError as error:
        if "repeat" in error.found:
            raise
        return text


def parse_keys(items: Iterable[str]) -> dict[str, Any]:
    """["a.b=1", ...] as nested dicts with Typed text at the leaves. No `=`, or a key given twice: a SettingError."""
    keys: dict[str, Any] = {}
    for item in items:
        if not KEY.match(item):
            raise SettingError(
                f'"{item}" is not understood.', wanted="Settings are written  name=value  (no spaces around =)."
            )
        name, _, text = item.partition("=")
        *path, last = name.split(".")
        within = keys
        for part in path:
            below = within.setdefault(part, {})
            if not isinstance(below, dict):  # data=faq.csv data.prompt=...: the bare value stands under ""
                below = within[part] = {BARE: below}
            within = below
        if isinstance(within.get(last), dict) and BARE not in within[last]:
            within[last][BARE] = Typed(text)
        elif last in within:
            raise SettingError(f'"{name}" is given twice.', fix="Leave one out.")
        else:
            within[last] = Typed(text)
    return keys


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Both, nested; where both have a value, that of `over`."""
    merged = dict(base)
    for key, value in over.items():
        below = merged.get(key)
        merged[key] = merge(below, value) if isinstance(below, Mapping) and isinstance(value, Mapping) else value
    return merged


def place(cls: type, raw: Mapping[str, Any]) -> dict[str, Any]:
    """Put shorthands where they belong: `lr` into `train` (when only one section has an `lr`), `data: x` into `data.path`.

    A class may say which section a word of several means: `short: ClassVar = {"steps": "train"}`. A key that is no setting
    anywhere, or could be of several sections, is a SettingError.
    """
    from typing import get_args, get_type_hints

    hints = get_type_hints(cls)
    sections = {name: section for name, hint in hints.items() if (section := section_of(hint)) is not None}
    fields = {name: [field.name for field in _fields(section)] for name, section in sections.items()}
    top = [field.name for field in _fields(cls)]
    short: Mapping[str, str] = getattr(cls, "short", {})
    placed: dict[str, Any] = {}
    for key, value in raw.items():
        if key in sections and value is None and type(None) in get_args(hints[key]):
            placed[key] = None  # a section that may be left out: `rope: null` is no section of defaults
        elif key in sections:
            placed[key] = merge(placed.get(key) or {}, as_section(sections[key], value, key))
        elif key in top:
            placed[key] = value
    for key, value in raw.items():
        if key in top:
            continue
        homes = [name for name in sections if key in fields[name]]
        if not homes:
            also = [f"{name}.{inner}" for name in sections for inner in fields[name]]
            raise unknown_setting(str(key), top, also=also)
        if key in short:
            homes = [short[key]]
        if len(homes) > 1:
            options = ", ".join(f"{name}.{key}" for name in homes)
            raise SettingError(f'"{key}" could be {options}.', fix="Write the one you mean in full.")
        if placed.get(homes[0]) is None:
            placed[homes[0]] = {}
        section = placed[homes[0]]
        if key in section:
            raise SettingError(
                f'"{key}" and "{homes[0]}.{key}" are both given: they are the same.', fix="Leave one out."
            )
        section[key] = value
    return placed


def _fields(cls: type) -> Any:
    import dataclasses

    return dataclasses.fields(cls)


_LOADER: Any = None


def _loader() -> Any:
    """A SafeLoader of YAML 1.2's core schema that refuses repeated keys. Made on first use: importing yaml costs 20 ms."""
    global _LOADER
    if _LOADER is not None:
        return _LOADER
    import yaml

    class Loader(yaml.SafeLoader):
        pass

    Loader.yaml_implicit_resolvers = {}
    for tag, pattern, first in (
        ("bool", r"(?:true|True|TRUE|false|False|FALSE)", "tTfF"),
        ("int", r"[-+]?[0-9][0-9_]*|0x[0-9a-fA-F]+", "-+0123456789"),
        ("float", rf"{_NUMBER}|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)", "-+.0123456789"),
        ("null", r"(?:~|null|Null|NULL|)", "~nN\0"),
        ("merge", r"(?:<<)", "<"),
    ):
        Loader.add_implicit_resolver(
            f"tag:yaml.org,2002:{tag}", re.compile(f"^(?:{pattern})$"), [*first, *[""] * (tag == "null")]
        )

    def whole_number(loader: Any, node: Any) -> int:
        text = loader.construct_scalar(node).replace("_", "")
        return int(text, 16) if "0x" in text else int(text)

    def mapping(loader: Any, node: Any) -> dict[Any, Any]:
        seen: dict[Any, int] = {}
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue
            key = loader.construct_object(key_node, deep=True)
            line = key_node.start_mark.line + 1
            if isinstance(key, (dict, list)):
                raise yaml.constructor.ConstructorError(None, None, "a key must be a word", key_node.start_mark)
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None,
                    None,
                    f'"{key}" is repeated (first on line {seen[key]}, again on line {line})',
                    key_node.start_mark,
                )
            seen[key] = line
        loader.flatten_mapping(node)
        return dict(yaml.SafeLoader.construct_mapping(loader, node, deep=True))

    Loader.add_constructor("tag:yaml.org,2002:int", whole_number)
    Loader.add_constructor("tag:yaml.org,2002:map", mapping)
    _LOADER = Loader
    return Loader
