"""Plain values (from a project file, the command line or Python) into frozen dataclasses, strictly.

>>> fill(Settings, {"epohcs": 3}, "train")
SettingError: There is no setting "train.epohcs". Did you mean: train.epochs
>>> fill(Settings, {"epochs": "three"}, "train")
SettingError: train.epochs is "three". It must be a number or null.

A class may say `bare: ClassVar[str] = "path"`: then `data: faq.jsonl` means `data: {path: faq.jsonl}`.
"""

import dataclasses
import inspect
import types
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from tunesmith.core import source
from tunesmith.core.errors import SettingError, UserError
from tunesmith.core.files import to_json
from tunesmith.core.names import nearest

T = TypeVar("T")


BARE = ""  # under this key a section's dict may hold its bare value


class Typed(str):
    """Text typed on a command line: what it means depends on the setting it is for (`7` may be a number or a name)."""


def fill(cls: type[T], raw: Any, where: str = "") -> T:
    """Build a dataclass (and those nested in it) from plain values. `where` is the dotted name told in errors.

    Unknown keys, wrong types, impossible values and missing required settings are SettingErrors.
    """
    if isinstance(raw, cls):
        return raw
    raw = as_section(cls, raw, where)
    hints = _hints(cast(Any, cls))
    known = [field for field in dataclasses.fields(cast(Any, cls)) if field.init]
    names = [field.name for field in known]
    for key in raw:
        if key not in names:
            raise unknown_setting(str(key), names, where)
    for field in known:
        required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        if required and field.name not in raw:
            raise SettingError(
                f"{_dotted(where, field.name)} is missing.", wanted=f"It must be {words(hints[field.name])}."
            )
    values = {key: conform(value, hints[key], _dotted(where, key)) for key, value in raw.items()}
    return construct(cls, values, where)


def construct(cls: type[T], values: Mapping[str, Any], where: str = "") -> T:
    """Call a class with checked values; a ValueError of its own checks becomes a SettingError."""
    try:
        return cls(**values)
    except UserError:
        raise
    except ValueError as error:
        raise SettingError(f"{where}: {error}" if where else str(error)) from error


def as_section(cls: type, raw: Any, where: str = "") -> dict[str, Any]:
    """A section's raw value as a dict: None is empty, a bare value goes to the class's `bare` setting."""
    if raw is None:
        return {}
    if isinstance(raw, Mapping):
        if BARE not in raw:
            return dict(raw)
        section = as_section(cls, raw[BARE], where)
        for key, value in raw.items():
            if key in section:
                raise SettingError(
                    f'"{where}" and "{_dotted(where, key)}" are both given: they are the same.', fix="Leave one out."
                )
            if key != BARE:
                section[key] = value
        return section
    if isinstance(raw, Typed) and isinstance(value := settle(raw), dict):
        return value
    bare = getattr(cls, "bare", "")
    if bare:
        return {bare: raw}
    names = [field.name for field in dataclasses.fields(cls)]
    raise SettingError(
        f"{where or cls.__name__} is {show(raw)}.",
        wanted=f"It must hold settings: {', '.join(names[:8])}{', ...' if len(names) > 8 else ''}.",
    )


def conform(value: Any, hint: Any, where: str) -> Any:
    """The value as the type asks, or a SettingError. Strict: "3" is no number, true is no 1; 3 is a float."""
    if isinstance(value, Typed):
        return _conform_typed(value, hint, where)
    section = section_of(hint)
    if section is not None:
        return None if value is None and _allows(hint, type(None)) else fill(section, value, where)
    if hint is Any:
        return settle(value)
    if get_origin(hint) is dict and isinstance(value, Mapping):
        kind = (get_args(hint) or (Any, Any))[1]
        return {str(key): conform(item, kind, _dotted(where, str(key))) for key, item in value.items()}
    return _checked(settle(value), hint, where)


def section_of(hint: Any) -> type | None:
    """The dataclass a setting is made of (`TrainSettings`, `TrainSettings | None`), or None."""
    for member in _members(hint):
        if isinstance(member, type) and dataclasses.is_dataclass(member):
            return member
    return None


def settle(value: Any) -> Any:
    """Typed text, also inside dicts, read as YAML where nothing says what it should be."""
    if isinstance(value, Typed):
        from tunesmith.core.project import parse_value

        return parse_value(str(value))
    if isinstance(value, Mapping):
        return {key: settle(item) for key, item in value.items()}
    return value


def unknown_setting(key: str, names: Iterable[str], where: str = "", *, also: Iterable[str] = ()) -> SettingError:
    """The error for a key that is no setting. `also` are dotted names of other places to look in."""
    names = list(names)
    close = [_dotted(where, name) for name in nearest(key, names)]
    for dotted in also:
        if nearest(key, [dotted.rpartition(".")[2]]):
            close.append(dotted)
    if close:
        fix = f"Did you mean: {', '.join(dict.fromkeys(close))}"
    elif names:
        fix = f"There are: {', '.join(names)}"
    else:
        fix = f"{where} has no settings." if where else ""
    return SettingError(f'There is no setting "{_dotted(where, key)}".', fix=fix)


def words(hint: Any) -> str:
    """A type as a person says it: `float | None` is "a number or null"."""
    simple = {
        int: "a whole number", float: "a number", str: "text", bool: "true or false", type(None): "null", Path: "a path",
        list: "a list", dict: "names with values",
    }  # fmt: skip
    if hint in simple:
        return simple[hint]
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Literal:
        return f"one of {', '.join(str(choice) for choice in arguments)}" if len(arguments) > 1 else f'"{arguments[0]}"'
    if origin in (Union, types.UnionType):
        return " or ".join(words(member) for member in arguments)
    if origin is tuple and Ellipsis not in arguments:
        return f"a list of {len(arguments)} ({', '.join(words(member) for member in arguments)})"
    if origin in (list, tuple):
        return f"a list ({words(arguments[0])} each)"
    if origin is dict:
        return f"names with {words(arguments[1])} each"
    if hasattr(hint, "__metadata__"):  # Annotated[int, Gt(0)]
        return f"{words(hint.__origin__)} ({', '.join(str(fact) for fact in hint.__metadata__)})"
    return getattr(hint, "__name__", str(hint))


def choices(hint: Any) -> list[str]:
    """The fixed words a setting takes: those of its Literals, true/false of a bool."""
    found: list[str] = []
    for member in _members(hint):
        if get_origin(member) is Literal:
            found += [str(choice) for choice in get_args(member)]
        elif member is bool:
            found += ["true", "false"]
    return found


def describe(cls: type) -> list[source.Field]:
    """The settings of a dataclass: name, type, default, the sentence under it, line. Read from its source file."""
    return source.fields(Path(inspect.getfile(cls)), cls.__name__)


def show(value: Any) -> str:
    """A value as in JSON, shortened, for errors."""
    try:
        text = to_json(value)
    except TypeError:
        text = f"a {type(value).__name__}"
    return text if len(text) <= 80 else text[:77] + "..."


def _conform_typed(value: Typed, hint: Any, where: str) -> Any:
    text = str(value)
    members = _members(hint)
    takes_text = str in members
    only_text = all(m in (str, type(None)) or get_origin(m) is Literal for m in members)
    if takes_text and only_text:
        return None if text in ("null", "none") and type(None) in members else text
    try:
        return conform(settle(value), hint, where)
    except SettingError:
        if takes_text:
            return text
        raise


def _checked(value: Any, hint: Any, where: str) -> Any:
    if type(value) in _members(hint) and type(value) in (str, int, float, bool, type(None)):
        return value  # most settings, without importing pydantic

    from pydantic import ValidationError

    try:
        # JSON mode is strict about types and yet takes a list for a tuple
        return _adapter(hint).validate_json(to_json(value), strict=True)
    except ValidationError:
        fix = ""
    except TypeError:  # no JSON: some Python object
        fix = ""
    fixed = choices(hint)
    if isinstance(value, str) and fixed and nearest(value, fixed):
        fix = f"Did you mean: {', '.join(nearest(value, fixed))}"
    elif not isinstance(value, (list, tuple, dict)) and get_origin(hint) in (list, tuple):
        fix = f"Write a list: [{value}]"
    raise SettingError(f"{where} is {show(value)}.", wanted=f"It must be {words(hint)}.", fix=fix)


@lru_cache(maxsize=1024)
def _adapter(hint: Any) -> Any:
    from pydantic import TypeAdapter

    return TypeAdapter(hint)


@lru_cache(maxsize=256)
def _hints(cls: type) -> dict[str, Any]:
    return get_type_hints(cls, include_extras=True)


def _members(hint: Any) -> tuple[Any, ...]:
    return get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)


def _allows(hint: Any, kind: type) -> bool:
    return kind in _members(hint)


def _dotted(where: str, key: str) -> str:
    return f"{where}.{key}" if where else key
