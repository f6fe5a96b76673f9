"""One command line: which verb, with which values; help where it is asked for.

>>> run(["list", "metrics"])
'metrics ...'

What a verb takes is read from its source (`core.source`); only the chosen verb is imported.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_type_hints

from tunesmith.core import source
from tunesmith.core.errors import SettingError, UserError
from tunesmith.core.fill import Typed, conform, unknown_setting
from tunesmith.core.names import nearest, unknown
from tunesmith.core.project import KEY, parse_keys

API = Path(__file__).resolve().parent.parent / "api"


def run(words: Sequence[str]) -> str:
    """Do what a command line says; returns what is to be printed."""
    from tunesmith import __version__

    words = list(words)
    if not words or words[0] in ("-h", "--help", "help") and len(words) == 1:
        return main_help()
    if words[0] == "help":
        words = [words[1], "--help"]
    if words[0] in ("-V", "--version"):
        return f"tunesmith {__version__}"
    if words[0] in ("--completion", "--complete"):
        from tunesmith.cli import complete

        if words[0] == "--completion":
            return complete.script(words[1] if len(words) > 1 else "")
        return "\n".join(complete.complete(words[1:]))
    verb, rest = words[0], words[1:]
    if verb not in verbs():
        raise _no_verb(verb)
    function = source.function(API / f"{verb}.py", verb)
    before_end = rest[: rest.index("--")] if "--" in rest else rest
    if "--help" in before_end or "-h" in before_end:
        return verb_help(function)
    arguments, keys, as_json = parse(function, rest)
    result = call(verb, arguments, keys)
    if as_json:
        from tunesmith.core.files import to_json

        return to_json(result, indent=2)
    return str(result.text)


def verbs() -> dict[str, str]:
    """The verbs and the first lines of their help: the files of api/ whose function of their name returns a Result."""
    found = {path.stem: source.verb_line(path) for path in sorted(API.glob("*.py"))}
    return {name: line for name, line in found.items() if line is not None}


def parse(function: source.Function, words: Sequence[str]) -> tuple[list[str], dict[str, Any], bool]:
    """Words after the verb as positional words, named values, and whether --json was among them.

    >>> parse(train, ["faq.yaml", "lr=1e-4", "--resume", "runs/a"])
    (['faq.yaml'], {'lr': '1e-4', 'resume': 'runs/a'}, False)
    """
    flags = {field.name: field for field in function.keyword}
    named = [field.name for field in function.positional] + list(flags)
    places: list[str] = []
    given: dict[str, Any] = {}
    settings: list[str] = []
    as_json = False
    queue = list(words)
    while queue:
        word = queue.pop(0)
        if word == "--":
            places += queue
            break
        if word == "--json":
            as_json = True
        elif word.startswith("--") or (word.startswith("-") and len(word) == 2 and word[1].isalpha()):
            name, value = _flag(function, flags, word, queue)
            if name in given:
                raise SettingError(f"--{name.replace('_', '-')} is given twice.", fix="Leave one out.")
            given[name] = value
        elif KEY.match(word):
            name = word.partition("=")[0]
            if name in named:
                if name in given:
                    raise SettingError(f'"{name}" is given twice.', fix="Leave one out.")
                given[name] = Typed(word.partition("=")[2])
            elif function.keys:
                settings.append(word)
            else:
                raise _no_key(function, name, named)
        else:
            places.append(word)
    room = len(function.positional)
    if len(places) > room and not function.more:
        takes = " ".join(field.name.upper() for field in function.positional) or "no words"
        raise SettingError(
            f'"{places[room]}" is one word too many.',
            wanted=f"tunesmith {function.name} takes {takes}{' and name=value' if function.keys else ''}.",
            fix="Put a text with spaces in quotes." if len(places) - room > 1 else "",
        )
    for field in function.positional[: len(places)]:
        if field.name in given:
            raise SettingError(f'"{field.name}" is given twice.', fix="Leave one out.")
    for field in function.positional[len(places) :]:
        if not field.default and field.name not in given:
            raise SettingError(
                f"tunesmith {function.name} needs {field.name.upper()}.",
                fix=f"For example: {_example(function) or usage(function)}",
            )
    return places, {**parse_keys(settings), **given}, as_json


def call(verb: str, places: Sequence[str], keys: dict[str, Any]) -> Any:
    """Import a verb and call it, its values converted to what its annotations ask for."""
    from importlib import import_module

    function = getattr(import_module(f"tunesmith.api.{verb}"), verb)
    hints = get_type_hints(function)
    described = source.function(API / f"{verb}.py", verb)
    names = [field.name for field in described.positional]
    positional = [
        _converted(
            Typed(word),
            hints.get(names[i] if i < len(names) else described.more, str),
            names[i] if i < len(names) else "",
        )
        for i, word in enumerate(places)
    ]
    own = {*names, *(field.name for field in described.keyword)}
    named = {
        name: _converted(value, hints.get(name, Any), name) if name in own else value for name, value in keys.items()
    }
    return function(*positional, **named)


def usage(function: source.Function) -> str:
    """The one line that says how a verb is written."""
    parts = [f"tunesmith {function.name}"]
    parts += [f.name.upper() if not f.default else f"[{f.name.upper()}]" for f in function.positional]
    parts += [f"[{function.more.upper()} ...]"] if function.more else []
    parts += ["[name=value ...]"] if function.keys else []
    parts += [f"[{_flag_text(field)}]" for field in function.keyword]
    return " ".join([*parts, "[--json]"])


def main_help() -> str:
    """What `tunesmith --help` prints."""
    known = verbs()
    width = max(len(name) for name in known) + 2
    lines = [
        "Tunesmith: from a prompt that fails to a model that can be trusted.",
        "",
        "  tunesmith VERB [project.yaml] [name=value ...] [--json]",
        "",
        "Verbs:",
        *(f"  {name:<{width}}{line}" for name, line in known.items()),
        "",
        "Without a file, tunesmith.yaml of this folder is read when there is one.",
        "  tunesmith VERB --help          what a verb does and takes",
        "  tunesmith explain NAME         what a setting, method, adapter or metric means",
        "  tunesmith --completion bash    completion for bash, zsh or fish",
        "  tunesmith --version",
    ]
    return "\n".join(lines)


def verb_help(function: source.Function) -> str:
    """What `tunesmith VERB --help` prints: the docstring and the usage."""
    lines = [function.doc, "", "Usage:", f"  {usage(function)}"]
    options = [(f"  {_flag_text(field)}", field) for field in function.keyword]
    if options:
        width = max(len(text) for text, _ in options) + 2
        lines += ["", "Options:"]
        lines += [f"{text:<{width}}{_kind(field)}".rstrip() for text, field in options]
    if function.keys == "keys":
        lines += ["", "Any setting of the project can be given as name=value:  tunesmith explain settings"]
    return "\n".join(lines)


def _flag(function: source.Function, flags: dict[str, source.Field], word: str, queue: list[str]) -> tuple[str, Any]:
    text, has_value, value = word.lstrip("-").partition("=")
    name = text.replace("-", "_")
    switched_off = name.removeprefix("no_")
    if name not in flags and name.startswith("no_") and switched_off in flags and flags[switched_off].type == "bool":
        return switched_off, False
    if name not in flags:
        known = [f"--{flag.replace('_', '-')}" for flag in [*flags, "json", "help"]]
        close = [flag for flag in known if nearest(name, [flag.lstrip("-")])]
        fix = f"Did you mean: {', '.join(close)}" if close else f"There are: {', '.join(known)}"
        if function.keys and not close:
            fix += f"\nSettings are written without dashes: {text}={value or '...'}"
        raise SettingError(f"tunesmith {function.name} has no {word.partition('=')[0]}.", fix=fix)
    if has_value:
        return name, Typed(value)
    if flags[name].type == "bool" or (_bare(flags[name]) and not (queue and queue[0].isdigit())):
        return name, True
    if not queue or queue[0].startswith("--"):
        raise SettingError(f"{word} needs a value.", fix=f"Write {_flag_text(flags[name])}")
    return name, Typed(queue.pop(0))


def _flag_text(field: source.Field) -> str:
    dashed = field.name.replace("_", "-")
    if field.type == "bool":
        return f"--no-{dashed}" if field.default == "True" else f"--{dashed}"
    return f"--{dashed} [{field.name.upper()}]" if _bare(field) else f"--{dashed} {field.name.upper()}"


def _bare(field: source.Field) -> bool:
    """Whether a flag may also stand alone: its type is `int | bool`."""
    return field.type == "int | bool"


def _kind(field: source.Field) -> str:
    """What a flag takes, when it takes something: "whole number, otherwise 3"."""
    if field.type == "bool":
        return ""
    words = {"str": "text", "int": "whole number", "float": "number"}
    kind = (
        " or ".join(words.get(part, part) for part in field.type.split(" | ") if part not in ("None", "bool"))
        or "value"
    )
    kind = re.sub(r"Literal\[(.*)\]", lambda found: found[1].replace("'", "").replace(", ", " | "), kind)
    return kind if field.default in ("", "None") else f"{kind}, otherwise {field.default}"


def _converted(value: Any, hint: Any, name: str) -> Any:
    if isinstance(value, Typed) and hint is Any:
        return str(value)
    return conform(value, hint, name)


def _example(function: source.Function) -> str:
    for line in function.doc.splitlines():
        text = line.strip().removeprefix("Example:").strip()
        if text.startswith("tunesmith "):
            return text
    return ""


def _no_verb(word: str) -> UserError:
    if Path(word).suffix in (".yaml", ".yml"):
        return SettingError(f'"{word}" is no verb.', fix=f"Say what to do with it: tunesmith train {word}")
    if word.startswith("-"):
        return SettingError(f"tunesmith has no {word}.", fix="See: tunesmith --help")
    return unknown("verb", word, verbs())


def _no_key(function: source.Function, name: str, named: list[str]) -> SettingError:
    return (
        unknown_setting(name, named)
        if named
        else SettingError(f"tunesmith {function.name} takes no settings, but {name}=.")
    )
