"""tunesmith new: a project file to start from."""

from typing import Any

from tunesmith.core.result import Result

_HEAD = (
    "# A Tunesmith project. A line with ## explains the one below it; a setting behind # stands at its default.",
    "# What a word means:  tunesmith explain NAME        Is it right:  tunesmith check",
)
_HEAD_KO = (
    "# Tunesmith 프로젝트입니다. ## 줄은 바로 아래 설정의 설명이고, # 뒤의 설정은 기본값입니다.",
    "# 낱말의 뜻:  tunesmith explain 이름        맞는지 확인:  tunesmith check",
)


def new(file: str = "tunesmith.yaml", *, force: bool = False, **keys: Any) -> Result:
    """Write a project file in which every setting there is stands with its meaning, as a comment.

    file    where to write it
    force   write over a file that is there

    What is given as name=value is set in it; it is checked as `tunesmith check` does. With lang=ko the comments are Korean.

    Example: tunesmith new data=questions.jsonl metrics=[exact_match]
    """
    from pathlib import Path

    from tunesmith.api.config import resolve
    from tunesmith.core.errors import ProjectError
    from tunesmith.core.files import write_whole

    path = Path(file)
    if path.suffix not in (".yaml", ".yml"):
        raise ProjectError(
            f"{file} is no name for a project file.", wanted="It ends in .yaml.", fix="tunesmith new tunesmith.yaml"
        )
    if path.exists() and not force:
        raise ProjectError(f"{file} exists already.", fix="Choose another name, or write over it: --force")
    resolve({}, **keys)  # refuses what check would refuse
    text = project_text(**keys)
    write_whole(path, text)
    said = f"Wrote {file}. Next: put in your data, then\n\n  tunesmith check {file}\n  tunesmith train {file}"
    return Result(file=str(path), text=said)


def project_text(**keys: Any) -> str:
    """The commented project file. Uncommenting everything changes nothing: what stands there are the defaults."""
    from tunesmith.api.config import Project, catalogue
    from tunesmith.core.fill import settle
    from tunesmith.core.project import place

    given = settle(place(Project, _unfolded(keys)))
    given = {"model": "mini", "data": {"path": "questions.jsonl"}, "method": "sft", "adapter": "lora", **given}
    head = _HEAD_KO if given.get("lang") == "ko" else _HEAD
    lines = [*head, ""]
    inner: dict[str, list[str]] = {}
    for dotted in catalogue():
        section, _, name = dotted.partition(".")
        if name:
            inner.setdefault(section, []).append(name)
    for name, field in catalogue().items():
        if "." in name:
            continue
        lines += _comment(_doc(field, given))
        if name in inner:
            lines += _section(name, inner[name], given)
        else:
            lines += _line(name, field, given, "")
        lines.append("")
    return "\n".join(lines).rstrip() + "\n"


def _section(name: str, settings: list[str], project: dict[str, Any]) -> list[str]:
    from tunesmith.api.config import catalogue

    given = project.get(name, {})
    if (
        not given and catalogue()[name].value() is None
    ):  # nothing unless it is asked for: its settings are told, not set
        lines = [f"# {name}: null"]
        for setting in settings:
            field = catalogue()[f"{name}.{setting}"]
            lines += _comment(f"{setting}: {_flow(field.value())}   {_doc(field, project)}", "  ")
        return lines
    head = f"{name}:" if given else f"# {name}:"
    lines = [head]
    for setting in settings:
        field = catalogue()[f"{name}.{setting}"]
        lines += _comment(_doc(field, project), "  ")
        lines += _line(setting, field, given, "  ")
    return lines


def _doc(field: Any, project: dict[str, Any]) -> str:
    return field.korean if project.get("lang") == "ko" and field.korean else field.doc


def _line(name: str, field: Any, given: dict[str, Any], indent: str) -> list[str]:
    from tunesmith.core.source import MISSING

    if name in given:
        return [f"{indent}{name}: {_flow(given[name])}"]
    value = field.value()
    if value is MISSING:
        value = {}  # the only defaults that are made by a factory are empty
    return [f"{indent}# {name}: {_flow(value)}"]


def _flow(value: Any) -> str:
    """A value as YAML on one line."""
    from tunesmith.core.files import to_json

    if isinstance(value, str) and value.replace("_", "").replace(".", "").replace("/", "").replace("-", "").isalpha():
        return value
    return to_json(value)


def _comment(doc: str, indent: str = "") -> list[str]:
    import re
    import textwrap

    return [f"{indent}## {line}" for line in textwrap.wrap(doc, 60 if re.search("[가-힣]", doc) else 110)]


def _unfolded(keys: dict[str, Any]) -> dict[str, Any]:
    from tunesmith.core.project import merge

    unfolded: dict[str, Any] = {}
    for key, value in keys.items():
        first, *rest = key.split(".")
        for part in reversed(rest):
            value = {part: value}
        unfolded = merge(unfolded, {first: value})
    return unfolded
