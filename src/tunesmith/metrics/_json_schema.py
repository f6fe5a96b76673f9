"""JSON Schema, the part people write by hand: what is wrong with a value, in words.

>>> broken({"age": "3"}, {"type": "object", "properties": {"age": {"type": "integer"}}})
['age: "3" is no integer']

Knows type, enum, const, properties, required, additionalProperties, patternProperties, propertyNames, min/maxProperties, items,
prefixItems, contains, uniqueItems, min/maxItems, min/maxLength, pattern, minimum, maximum, exclusive ones, multipleOf, allOf, anyOf,
oneOf, not, if/then/else and $ref inside the schema (draft 2020-12). Any other keyword is an error, never ignored.
"""

import json
import math
import re
from collections.abc import Iterator, Mapping
from fractions import Fraction
from typing import Any

from tunesmith.core.errors import SettingError
from tunesmith.metrics._json import same

NOTES = {
    "$schema",
    "$id",
    "$comment",
    "$defs",
    "definitions",
    "title",
    "description",
    "default",
    "examples",
    "deprecated",
}
KEYWORDS = {
    "type", "enum", "const", "properties", "required", "additionalProperties", "patternProperties", "propertyNames",
    "minProperties", "maxProperties", "items", "prefixItems", "contains", "uniqueItems", "minItems", "maxItems", "minLength",
    "maxLength", "pattern", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "allOf", "anyOf", "oneOf",
    "not", "if", "then", "else", "$ref",
}  # fmt: skip
TYPES = {
    "object": lambda v: isinstance(v, dict),
    "array": lambda v: isinstance(v, list),
    "string": lambda v: isinstance(v, str),
    "number": lambda v: _is_number(v),
    "integer": lambda v: _is_number(v) and (isinstance(v, int) or v.is_integer()),
    "boolean": lambda v: isinstance(v, bool),
    "null": lambda v: v is None,
}
ONE = ("additionalProperties", "propertyNames", "items", "contains", "not", "if", "then", "else")
SEVERAL = ("allOf", "anyOf", "oneOf", "prefixItems")
NAMED = ("properties", "patternProperties", "$defs", "definitions")


def check_schema(schema: Any, root: Any = None, where: str = "schema") -> None:
    """Refuse a schema with keywords, types, patterns or references that are not known: a SettingError naming the place."""
    root = schema if root is None else root
    if isinstance(schema, bool):
        return
    if not isinstance(schema, Mapping):
        raise SettingError(f"{where} is {schema!r:.60}.", wanted="A JSON Schema is an object, true or false.")
    if unknown := sorted(set(schema) - KEYWORDS - NOTES):
        raise SettingError(
            f"{where} uses {', '.join(unknown)}, which this checker does not know.",
            wanted=f"Known: {', '.join(sorted(KEYWORDS))}.",
        )
    kinds = schema.get("type", [])
    for kind in [kinds] if isinstance(kinds, str) else kinds:
        if kind not in TYPES:
            raise SettingError(f"{where}.type is {kind!r}.", wanted=f"One of {', '.join(TYPES)}.")
    for pattern in [*([schema["pattern"]] if "pattern" in schema else []), *schema.get("patternProperties", {})]:
        try:
            re.compile(pattern)
        except re.error as error:
            raise SettingError(f"{where} has a pattern that is no regular expression: {pattern} ({error})") from None
    if "$ref" in schema:
        _target(root, schema["$ref"])
    for key in ONE:
        if key in schema:
            check_schema(schema[key], root, f"{where}.{key}")
    for key in SEVERAL:
        for number, inner in enumerate(schema.get(key, [])):
            check_schema(inner, root, f"{where}.{key}[{number}]")
    for key in NAMED:
        for name, inner in schema.get(key, {}).items():
            check_schema(inner, root, f"{where}.{key}.{name}")


def broken(value: Any, schema: Any) -> list[str]:
    """What is wrong with a value, each with its place; [] when the schema holds. Check the schema itself first."""
    return list(_broken(value, schema, schema, ""))


def _broken(value: Any, schema: Any, root: Any, at: str) -> Iterator[str]:
    where = f"{at}: " if at else ""
    if schema is True:
        return
    if schema is False:
        yield f"{where}nothing is allowed here"
        return
    if "$ref" in schema:
        yield from _broken(value, _target(root, schema["$ref"]), root, at)
    if "type" in schema:
        kinds = [schema["type"]] if isinstance(schema["type"], str) else schema["type"]
        if not any(TYPES[kind](value) for kind in kinds):
            yield f"{where}{_short(value)} is no {' or '.join(kinds)}"
    if "enum" in schema and not any(same(value, choice) for choice in schema["enum"]):
        yield f"{where}{_short(value)} is none of {_short(schema['enum'])}"
    if "const" in schema and not same(value, schema["const"]):
        yield f"{where}{_short(value)} is not {_short(schema['const'])}"
    if isinstance(value, dict):
        yield from _broken_object(value, schema, root, at)
    elif isinstance(value, list):
        yield from _broken_array(value, schema, root, at)
    elif isinstance(value, str):
        yield from _outside(len(value), schema, "Length", f"{where}{_short(value)}", "characters")
        if "pattern" in schema and not re.search(schema["pattern"], value):
            yield f"{where}{_short(value)} does not match {schema['pattern']}"
    elif _is_number(value):
        yield from _broken_number(value, schema, where)
    for inner in schema.get("allOf", []):
        yield from _broken(value, inner, root, at)
    if "anyOf" in schema and not any(_holds(value, inner, root) for inner in schema["anyOf"]):
        yield f"{where}{_short(value)} fits none of anyOf"
    if "oneOf" in schema and (fits := sum(_holds(value, inner, root) for inner in schema["oneOf"])) != 1:
        yield f"{where}{_short(value)} fits {fits} of oneOf, not one"
    if "not" in schema and _holds(value, schema["not"], root):
        yield f"{where}{_short(value)} is what it must not be"
    if "if" in schema:
        yield from _broken(value, schema.get("then" if _holds(value, schema["if"], root) else "else", True), root, at)


def _broken_object(value: dict[str, Any], schema: Mapping[str, Any], root: Any, at: str) -> Iterator[str]:
    where = f"{at}: " if at else ""
    named, patterns = schema.get("properties", {}), schema.get("patternProperties", {})
    for key in schema.get("required", []):
        if key not in value:
            yield f'{where}"{key}" is missing'
    yield from _outside(len(value), schema, "Properties", f"{where}the object", "properties")
    for key, inner in value.items():
        place = f"{at}.{key}" if at else key
        matching = [pattern for pattern in patterns if re.search(pattern, key)]
        for rule in [*([named[key]] if key in named else []), *(patterns[pattern] for pattern in matching)]:
            yield from _broken(inner, rule, root, place)
        if key not in named and not matching and "additionalProperties" in schema:
            if schema["additionalProperties"] is False:
                yield f'{where}"{key}" is not allowed'
            else:
                yield from _broken(inner, schema["additionalProperties"], root, place)
        if "propertyNames" in schema:
            yield from _broken(key, schema["propertyNames"], root, place)


def _broken_array(value: list[Any], schema: Mapping[str, Any], root: Any, at: str) -> Iterator[str]:
    where = f"{at}: " if at else ""
    yield from _outside(len(value), schema, "Items", f"{where}the array", "items")
    first = schema.get("prefixItems", [])
    for number, inner in enumerate(value):
        rule = first[number] if number < len(first) else schema.get("items", True)
        yield from _broken(inner, rule, root, f"{at}[{number}]")
    if schema.get("uniqueItems") and any(same(a, b) for i, a in enumerate(value) for b in value[:i]):
        yield f"{where}an item stands twice"
    if "contains" in schema and not any(_holds(inner, schema["contains"], root) for inner in value):
        yield f"{where}no item is what it must contain"


def _broken_number(value: float, schema: Mapping[str, Any], where: str) -> Iterator[str]:
    rules = (
        ("minimum", "under", lambda limit: value < limit),
        ("maximum", "over", lambda limit: value > limit),
        ("exclusiveMinimum", "not over", lambda limit: value <= limit),
        ("exclusiveMaximum", "not under", lambda limit: value >= limit),
    )
    for key, word, is_broken in rules:
        if key in schema and is_broken(schema[key]):
            yield f"{where}{_short(value)} is {word} {schema[key]}"
    if "multipleOf" in schema and not _is_multiple(value, schema["multipleOf"]):
        yield f"{where}{_short(value)} is no multiple of {schema['multipleOf']}"


def _outside(count: int, schema: Mapping[str, Any], what: str, subject: str, unit: str) -> Iterator[str]:
    if count < schema.get(f"min{what}", 0):
        yield f"{subject} has {count} {unit}, fewer than {schema[f'min{what}']}"
    if count > schema.get(f"max{what}", math.inf):
        yield f"{subject} has {count} {unit}, more than {schema[f'max{what}']}"


def _target(root: Any, ref: str) -> Any:
    if ref.startswith("#"):
        found = root
        for key in ref[1:].split("/")[1:]:
            key = key.replace("~1", "/").replace("~0", "~")
            found = found.get(key) if isinstance(found, Mapping) else None
        if found is not None:
            return found
    raise SettingError(f'The schema refers to "{ref}".', wanted="A place inside the same schema: #/$defs/NAME.")


def _holds(value: Any, schema: Any, root: Any) -> bool:
    return next(_broken(value, schema, root, ""), None) is None


def _is_multiple(value: float, unit: float) -> bool:
    if isinstance(value, int):  # exact: an integer of 310 digits is no float
        return Fraction(value) % Fraction(str(unit)) == 0
    times = value / unit
    return math.isfinite(times) and math.isclose(times, round(times), rel_tol=0, abs_tol=1e-9 * max(1.0, abs(times)))


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "..."
