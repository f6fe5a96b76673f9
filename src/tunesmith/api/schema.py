"""The project file as JSON Schema, so that editors complete and check it.

With the YAML extension of an editor:  # yaml-language-server: $schema=tunesmith.schema.json
"""

import dataclasses
from typing import Any, get_args, get_type_hints

from tunesmith.api.config import SPECS, Project
from tunesmith.core import source
from tunesmith.core.fill import describe, section_of
from tunesmith.core.shelf import Shelf, shelf


def project_schema() -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of a project file, with the items now on the shelves."""
    project = _section(Project, "")
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Tunesmith project",
        **project,
        "properties": {**project["properties"], **_of_chains(project)},
    }


def _of_chains(project: dict[str, Any]) -> dict[str, Any]:
    """What a file for `tunesmith chain` has besides: stages, each a project without model and out, and the table at the end."""
    from tunesmith.ladder.stages import CompareSettings

    own = {name: {"$ref": f"#/properties/{name}"} for name in project["properties"] if name not in ("model", "out")}
    start = {"type": "string", "description": "The stage it starts from, or base."}
    stage = {"type": "object", "additionalProperties": False, "properties": {"from": start, **own}}
    told = "Stages for tunesmith chain, each from the last one's model."
    compare = _section(CompareSettings, "compare")
    return {"stages": {"type": "object", "description": told, "additionalProperties": stage}, "compare": compare}


def _section(cls: Any, where: str) -> dict[str, Any]:
    hints = get_type_hints(cls)
    docs = {field.name: field.doc for field in describe(cls)}
    properties: dict[str, Any] = {}
    for field in dataclasses.fields(cls):
        dotted = f"{where}.{field.name}" if where else field.name
        section = section_of(hints[field.name])
        if dotted in SPECS:
            one = _spec(shelf(SPECS[dotted]))
            schema = {"type": "array", "items": one} if dotted in ("metrics", "data.steps") else one
        elif section is not None:
            schema = _section(section, dotted)
            bare = getattr(section, "bare", "")
            if bare:
                schema = {"anyOf": [_properties(schema)[bare], schema]}
            if type(None) in get_args(hints[field.name]):
                schema = {"anyOf": [schema, {"type": "null"}]}
        elif hints[field.name] is Any:
            schema = {
                "anyOf": [{"type": ["string", "null"]}, {"type": "array", "items": {"type": "string"}}]
            }  # data.path
        else:
            schema = _type(hints[field.name])
        properties[field.name] = {"description": docs.get(field.name, ""), **schema}
        if field.default is not dataclasses.MISSING:
            properties[field.name]["default"] = field.default
    if not where:  # shorthands: the setting of one section only may stand at the top
        sections = [name for name, schema in properties.items() if _properties(schema)]
        inner = [(name, key) for name in sections for key in _properties(properties[name])]
        for name, key in inner:
            alone = [k for _, k in inner].count(key) == 1
            if key not in properties and (alone or Project.short.get(key) == name):
                properties[key] = _properties(properties[name])[key]
    return {"type": "object", "additionalProperties": False, "properties": properties}


def _properties(schema: dict[str, Any]) -> dict[str, Any]:
    for option in [schema, *schema.get("anyOf", ())]:
        if option.get("type") == "object" and "additionalProperties" in option and "properties" in option:
            return dict(option["properties"])
    return {}


def _spec(one: Shelf) -> dict[str, Any]:
    """A name, or a name with settings. The settings' types are those of the source, where they are plain."""
    options: list[dict[str, Any]] = [{"enum": one.names()}]
    for name, item in one.items().items():
        settings = {field.name: {"description": field.doc, **_plain_type(field)} for field in item.settings()}
        inside = {"type": ["object", "null"], "additionalProperties": False, "properties": settings}
        options.append({
            "type": "object", "additionalProperties": False, "required": [name], "properties": {name: inside},
            "description": item.doc,
        })  # fmt: skip
    return {"anyOf": options}


def _plain_type(field: source.Field) -> dict[str, Any]:
    simple = {"int": "integer", "float": "number", "str": "string", "bool": "boolean", "None": "null"}
    words = [word.strip() for word in field.type.split("|")]
    schema: dict[str, Any] = {"type": [simple[word] for word in words]} if all(word in simple for word in words) else {}
    default = field.value()
    return schema if default is source.MISSING else {**schema, "default": default}


def _type(hint: Any) -> dict[str, Any]:
    from pydantic import TypeAdapter

    return dict(TypeAdapter(hint).json_schema())
