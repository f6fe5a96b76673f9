"""JSON out of a model's answer, strictly.

>>> read_json('{"intent": "refund"}')
{'intent': 'refund'}
>>> read_json('Sure: {"intent": "refund"}.', inside_text=True)
{'intent': 'refund'}
>>> at({"a": {"b": [1, 2]}}, "a.b.1")
2
"""

import json
from typing import Any


class NotJson(ValueError):
    """A text holds no JSON value, or no such field."""


def read_json(text: str, *, inside_text: bool = False) -> Any:
    """The JSON value that `text` is; with `inside_text` the first object or array found in it. NotJson when there is none.

    NaN, Infinity and repeated keys are no JSON here: another parser would read them differently or refuse them.
    """
    decoder = json.JSONDecoder(parse_constant=_no_constant, object_pairs_hook=_unique)
    try:
        return decoder.decode(text.strip())
    except NotJson:
        if not inside_text:
            raise
    except (ValueError, RecursionError) as error:
        if not inside_text:
            raise NotJson(f"not JSON: {error}") from None
    for start, character in enumerate(text):
        if character in "{[":
            try:
                return decoder.raw_decode(text, start)[0]
            except (ValueError, RecursionError):
                continue
    raise NotJson("no JSON in the text")


def at(value: Any, path: str | tuple[str, ...]) -> Any:
    """The value under a dotted path ("" = the whole), or under a tuple of keys. NotJson when there is no such field."""
    keys = path if isinstance(path, tuple) else tuple(path.split(".")) if path else ()
    for key in keys:
        if isinstance(value, dict) and key in value:
            value = value[key]
        elif isinstance(value, list) and key.isdigit() and int(key) < len(value):
            value = value[int(key)]
        else:
            raise NotJson(f'no field "{".".join(keys)}"')
    return value


def as_label(value: Any) -> str:
    """A value as one word to compare: text as it is, everything else as JSON with sorted keys."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, sort_keys=True)


def same(a: Any, b: Any) -> bool:
    """JSON equality: 1 and 1.0 are one number, true is no number, keys have no order."""
    if isinstance(a, bool) or isinstance(b, bool):
        return a is b
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(same, a, b))
    return bool(a == b)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise NotJson("a key stands twice")
    return found


def _no_constant(name: str) -> Any:
    raise NotJson(f"{name} is no JSON")
