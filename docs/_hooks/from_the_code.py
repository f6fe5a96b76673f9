"""Fills pages with what the code says, so that nobody keeps a list by hand. mkdocs calls the two hooks at the end.

In a page, alone on a line:   <!-- verbs -->   <!-- settings -->   <!-- shelves -->
"""

import dataclasses
import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, get_type_hints

from tunesmith.api.config import Project
from tunesmith.core import source
from tunesmith.core.fill import describe, section_of, words
from tunesmith.core.shelf import shelves

ROOT = Path(__file__).resolve().parents[2]
API = ROOT / "src" / "tunesmith" / "api"


def verbs() -> str:
    """A table of all verbs, then each with its call and its docstring; then what only Python has."""
    names = [file.stem for file in sorted(API.glob("*.py")) if source.defines_function(file, file.stem)]
    functions = {name: source.function(API / f"{name}.py", name) for name in names}
    spoken = {name: each for name, each in functions.items() if source.verb_line(API / f"{name}.py") is not None}
    rows = [f"| [`{name}`](#{name}) | {_first(each.doc)} |" for name, each in spoken.items()]
    parts = ["| verb | does |", "|---|---|", *rows, ""]
    for each in spoken.values():
        parts += _told(each, "##")
    parts += ["## Only in Python", ""]
    for name, each in functions.items():
        if name not in spoken:
            parts += _told(each, "###")
    return "\n".join(parts)


def _told(function: source.Function, level: str) -> list[str]:
    parts = [f"{level} {function.name}", "", _first(function.doc), "", "```text", _call(function), "```", ""]
    rest = function.doc.partition("\n")[2].strip("\n")
    return [*parts, "```text", rest, "```", ""] if rest else parts


def settings() -> str:
    """The top level of a project file, then each of its sections."""
    hints = get_type_hints(Project)
    parts = ["## The top level", "", *_table(describe(Project), hints)]
    for field in dataclasses.fields(Project):
        section = section_of(hints[field.name])
        if section is not None:
            told = _table(describe(section), get_type_hints(section))
            parts += ["", f"## {field.name}", "", (section.__doc__ or "").strip(), "", *told]
    return "\n".join(parts)


def items() -> str:
    """Every item of every shelf with its settings."""
    parts: list[str] = []
    for shelf in shelves():
        parts += ["", f"## {shelf.name}", ""]
        for item in shelf.items().values():
            parts += [f"### {item.name}", "", item.doc, ""]
            if item.settings():
                parts += [*_table(item.settings()), ""]
    return "\n".join(parts)


def measured() -> str:
    """The figures of benchmarks/results as tables; a benchmark without results says so."""
    sys.path.insert(0, str(ROOT))
    try:
        from benchmarks.tables import TABLES, table
    finally:
        sys.path.remove(str(ROOT))
    return "\n".join(f"## {name}\n\n{table(name)}\n" for name in TABLES)


PLACES: dict[str, Callable[[], str]] = {"verbs": verbs, "settings": settings, "shelves": items, "measured": measured}


def fill_in(text: str) -> str:
    """A page with its places filled."""
    for name, make in PLACES.items():
        place = f"<!-- {name} -->"
        if place in text:
            text = text.replace(place, make())
    return text


def _first(doc: str) -> str:
    return doc.strip().split("\n")[0].replace("|", "\\|")


def _call(function: source.Function) -> str:
    parts = [_parameter(field) for field in function.positional]
    if function.more:
        parts.append(f"*{function.more}")
    elif function.keyword:
        parts.append("*")
    parts += [_parameter(field) for field in function.keyword]
    if function.keys:
        parts.append(f"**{function.keys}")
    line = f"tunesmith.{function.name}({', '.join(parts)})"
    return (
        line if len(line) <= 80 else f"tunesmith.{function.name}(\n" + "".join(f"    {part},\n" for part in parts) + ")"
    )


def _parameter(field: source.Field) -> str:
    text = f"{field.name}: {field.type}" if field.type else field.name
    return f"{text} = {field.default}" if field.default else text


def _table(fields: list[source.Field], hints: Mapping[str, Any] | None = None) -> list[str]:
    rows = []
    for field in fields:
        hint = (hints or {}).get(field.name, field.type)
        section = not isinstance(hint, str) and section_of(hint) is not None
        if section:
            kind, default = "a section", f"[below](#{field.name})"
        else:
            kind = _code(field.type) if isinstance(hint, str) else _cell(words(hint)).replace("Any", "see there")
            default = _code(_as_yaml(field))
        rows.append(f"| `{field.name}` | {kind} | {default} | {_cell(field.doc)} |")
    return ["| setting | what it takes | default | what it does |", "|---|---|---|---|", *rows]


def _as_yaml(field: source.Field) -> str:
    """The default as one would write it in a project file."""
    value = field.value()
    if value is source.MISSING:
        return field.default.replace("field(default_factory=dict)", "{}")
    return value if isinstance(value, str) and value else json.dumps(value, ensure_ascii=False)


def _code(text: str) -> str:
    return f"`{_cell(text)}`" if text else "required"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("{{", "&#123;&#123;")


def on_config(config: Any) -> Any:
    """Put every page of decisions/ into the menu: a new one needs no change elsewhere."""
    pages = sorted(page.name for page in (ROOT / "docs" / "decisions").glob("[0-9]*.md"))
    for entry in config["nav"]:
        if "Decisions" in entry:
            entry["Decisions"] = ["decisions/index.md", *(f"decisions/{name}" for name in pages)]
    return config


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Fill a page before mkdocs renders it."""
    return fill_in(markdown)
