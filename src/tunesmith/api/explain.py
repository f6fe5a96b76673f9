"""tunesmith explain: what a word means, or a small demonstration of it; and finding the word, for where and eject."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunesmith.core.errors import SettingError
from tunesmith.core.result import Result

if TYPE_CHECKING:
    from tunesmith.core.shelf import Item
    from tunesmith.core.source import Field

_API = Path(__file__).resolve().parent
_DEMOS = _API.parent / "demos"


def explain(name: str | None = None, *, lang: str | None = None, project: str | None = None, **asked: Any) -> Result:
    """Say what a verb, setting, method, adapter, metric or data step is, and what it takes; or show how something works.

    name      lora, train.lr, dpo.beta, compare.judge, temperature, sft, a verb; `settings` for all of the project; without it, what
              there is. Demonstrations compute what they say: formats, attention, position, norm, step. A model's name or folder: its card
    lang      en or ko: only that language; both without it
    project   a project file whose `use:` counts too; tunesmith.yaml here without it
    asked     what a demonstration takes, as  value=123456.789  or  text="a sentence" layer=2 svg=map.svg

    Example: tunesmith explain lora
    """
    from tunesmith.api.config import catalogue, use_project_files
    from tunesmith.api.model_card import card_of, told

    if lang not in (None, "en", "ko"):
        raise SettingError(f'lang is "{lang}".', wanted="It must be en or ko.")
    use_project_files(project)
    if name is None:
        return _overview()
    if name == "settings":
        fields = catalogue()
        text = "\n".join(_setting_line(dotted, field, lang) for dotted, field in fields.items())
        return Result(settings={dotted: _facts(field) for dotted, field in fields.items()}, text=text)
    parts: list[str] = []
    facts: dict[str, object] = {}
    if card := card_of(name, Path.cwd()):
        facts["model"] = card
        parts.append("\n".join([f"{name}: a model", "", *(f"  {line}" for line in told(card))]))
    found = [] if card and "/" in name else find(name, None, look=False, required=not card)
    if asked and not any(kind == "demo" for kind, _, _ in found):
        raise SettingError(
            f"{', '.join(asked)}: only demonstrations take values.", fix=f"There are: {', '.join(demos())}"
        )
    for kind, path, _line in found:
        text, fact = _shown(path, lang, asked) if kind == "demo" else _explained(name, kind, path, lang)
        parts.append(text)
        facts[kind] = fact
    return Result(name=name, found=facts, text="\n\n".join(parts))


def find(
    name: str, project: str | None = None, *, look: bool = True, required: bool = True
) -> list[tuple[str, Path, int]]:
    """Every thing of that name as (kind, file, line); kind is a shelf, "setting NAME", "verb" or "demo". None is a SettingError.

    A setting of an item is "setting SHELF/ITEM.NAME"; `dpo.beta` asks for that of one item, `beta` for those of all.

    `look` puts the project's own files on the shelves first. Not `required`, nothing of that name is no error.
    """
    from tunesmith.api.config import catalogue, chain_catalogue, setting_file, use_project_files
    from tunesmith.core import source
    from tunesmith.core.names import unknown
    from tunesmith.core.shelf import shelves

    if look:
        use_project_files(project)
    found = [(item.shelf, item.path, item.line) for item in items_called(name, required=False)]
    fields = {**catalogue(), **chain_catalogue()}
    dotted = [full for full in fields if name in (full, full.rpartition(".")[2])]
    dotted.sort(key=lambda full: full != name)  # `seed` first, then data.seed
    found += [(f"setting {full}", setting_file(full), fields[full].line) for full in dotted]
    of_items = _settings_of_items()
    found += [
        (f"setting {full}", path, field.line)
        for full, (path, field) in of_items.items()
        if name in (full, full.partition("/")[2], field.name)
    ]
    verb = _API / f"{name}.py"
    if name.isidentifier() and verb.is_file() and source.defines_function(verb, name):
        found.append(("verb", verb, source.function(verb, name).line))
    if name in demos():
        found.append(("demo", _DEMOS / f"{name}.py", source.line_of(_DEMOS / f"{name}.py", "show")))
    if not found and required:
        known = [item for one in shelves() for item in one.names()] + [*fields, *demos()]
        known += [full.rpartition(".")[2] for full in [*fields, *of_items]]
        known += [full.partition("/")[2] for full in of_items]
        known += [path.stem for path in _API.glob("*.py") if source.defines_function(path, path.stem)]
        raise unknown("verb, setting or item of a shelf", name, list(dict.fromkeys(known)))
    return found


def _settings_of_items() -> "dict[str, tuple[Path, Field]]":
    """Every setting of every item, by shelf, item and name: {"objectives/dpo.beta": (its file, the field)}."""
    from tunesmith.core.shelf import shelves

    items = [item for one in shelves() for item in one.items().values()]
    return {f"{item.shelf}/{item.name}.{field.name}": (item.path, field) for item in items for field in item.settings()}


def demos() -> list[str]:
    """The demonstrations there are."""
    return sorted(path.stem for path in _DEMOS.glob("*.py") if not path.stem.startswith("_"))


def items_called(name: str, *, required: bool = True) -> "list[Item]":
    """Items of all shelves with that name; `metrics/accuracy` asks one shelf only. None is a SettingError if required."""
    from tunesmith.core.names import unknown
    from tunesmith.core.shelf import shelf, shelves

    kind, _, last = name.rpartition("/")
    looked = [shelf(kind)] if kind else shelves()
    listed = [one.items() for one in looked]
    found = [items[last] for items in listed if last in items]
    if not found and required:
        raise unknown("item of a shelf", last, [known for items in listed for known in items])
    return found


def _explained(name: str, kind: str, path: Path, lang: str | None) -> tuple[str, dict[str, object]]:
    from tunesmith.core import source
    from tunesmith.core.shelf import shelf

    if kind.startswith("setting "):
        whose, field = _setting(kind.removeprefix("setting "))
        lines = [
            whose,
            "",
            in_language(f"{field.doc}\n\n{field.korean}".strip(), lang),
            "",
            *_type_lines(field),
        ]
        return "\n".join(lines), _facts(field)
    if kind == "verb":
        doc = source.function(path, name).doc
        return f"tunesmith {name}\n\n{in_language(doc, lang)}", {"doc": doc}
    item = shelf(kind).item(name.rpartition("/")[2])
    fields = item.settings()
    doc = source.module_doc(item.path)
    lines = [f"{item.name}: one of the {kind}", "", in_language(doc, lang)]
    told = source.class_facts(item.path, item.class_name)
    lines += _own_facts(told, source.property_docs(item.path, item.class_name), doc)
    if fields:
        lines += ["", "Settings:"]
        lines += [f"  {_setting_line(field.name, field, lang)}" for field in fields]
    return "\n".join(lines), {
        "doc": doc,
        "origin": item.origin,
        "facts": told,
        "settings": {field.name: _facts(field) for field in fields},
    }


def _setting(full: str) -> "tuple[str, Field]":
    """(what a setting belongs to, in words; the field) of a setting's whole name."""
    from tunesmith.api.config import catalogue, chain_catalogue
    from tunesmith.core.shelf import shelf

    if "/" in full:
        place, _, last = full.partition("/")
        return f"{last}: a setting of the {shelf(place).kind.item} {last.partition('.')[0]}", _settings_of_items()[
            full
        ][1]
    if full in catalogue():
        return f"{full}: a setting of the project", catalogue()[full]
    return f"{full}: a setting of a chain", chain_catalogue()[full]


def _own_facts(told: dict[str, Any], more: dict[str, str], doc: str) -> list[str]:
    """What a class says of itself, as lines: the rows it reads, what its figures mean; and where its papers are.

    more  what properties say, where that depends on settings"""
    from tunesmith.data.kinds import KINDS

    lines: list[str] = []
    if shape := told.get("shape"):
        kinds = [shape] if isinstance(shape, str) else list(shape)
        lines.append("Rows:     " + "; ".join(f"{kind}: {KINDS.get(kind, kind)}" for kind in kinds))
    elif "shape" in more:
        lines.append(f"Rows:     {more['shape']}")
    if isinstance(per := told.get("per"), dict):
        lines.append("Averaged: " + ", ".join(f"{term} over {over}" for term, over in per.items()))
    if needs := [*told.get("helpers", ()), *told.get("needs", ())]:
        lines.append("Needs:    " + ", ".join(str(name) for name in needs))
    papers = dict.fromkeys(re.findall(r"arXiv\s+(\d{4}\.\d{4,5})", doc))
    if papers:
        lines.append("Papers:   " + "  ".join(f"https://arxiv.org/abs/{paper}" for paper in papers))
    if isinstance(figures := told.get("figures"), dict):
        lines += ["Figures:", *(f"  {name}: {meaning}" for name, meaning in figures.items())]
    elif "figures" in more:
        lines.append(f"Figures:  {more['figures']}")
    return ["", *lines] if lines else []


def _shown(path: Path, lang: str | None, asked: dict[str, Any]) -> tuple[str, dict[str, object]]:
    """A demonstration's explanation and what it computes from the values asked for."""
    from importlib import import_module
    from typing import get_type_hints

    from tunesmith.core import source
    from tunesmith.core.files import writing
    from tunesmith.core.fill import conform, unknown_setting

    function = import_module(f"tunesmith.demos.{path.stem}").show
    hints = get_type_hints(function)
    takes = [field.name for field in source.function(path, "show").positional if field.name != "lang"]
    place = asked.pop("svg", None)
    for key in asked:
        if key not in takes:
            raise unknown_setting(key, [*takes, "svg"], path.stem)
    given = {key: conform(value, hints[key], f"{path.stem}.{key}") for key, value in asked.items()}
    shown = function(**given, lang=lang or "en")
    lines = [in_language(source.module_doc(path), lang), "", shown.text]
    if place is not None:
        if not shown.svg:
            raise SettingError(f"{path.stem} has no picture.", fix="Leave svg out.")
        with writing(Path(str(place))) as file:
            file.write(shown.svg.encode())
        lines += ["", f"-> {place}"]
    lines += ["", f"Takes: {', '.join(takes)}" + (", svg" if shown.svg else "")]
    return "\n".join(lines), {"doc": source.module_doc(path), **shown.facts}


def in_language(doc: str, lang: str | None) -> str:
    """The paragraphs of a text in one language, with its formulas, which are in none; all of it where it has none in that language.

    >>> in_language("Learn answers.\\n\\n답을 배웁니다.", "ko")
    '답을 배웁니다.'
    """
    if lang is None:
        return doc
    paragraphs = doc.split("\n\n")
    formulas = [text for text in paragraphs if text.startswith("Formula:")]
    own = [t for t in paragraphs if t not in formulas and bool(re.search("[가-힣]", t)) == (lang == "ko")]
    return "\n\n".join(text for text in paragraphs if not own or text in own or text in formulas)


def _setting_line(name: str, field: "Field", lang: str | None) -> str:
    default = f" = {field.default}" if field.default and not field.default.startswith("field(") else ""
    docs = in_language("\n\n".join(text for text in (field.doc, field.korean) if text), lang).split("\n\n")
    return "\n      ".join([f"{name}: {_short(field.type)}{default}", *(text for text in docs if text)])


def _type_lines(field: "Field") -> list[str]:
    lines = [f"Type:     {_short(field.type)}"]
    if field.default and not field.default.startswith("field("):
        lines.append(f"Default:  {field.default}")
    return lines


def _short(kind: str) -> str:
    inside = re.sub(r"Literal\[([^\]]*)\]", lambda found: found[1].replace("'", "").replace(", ", " | "), kind)
    return inside.replace("None", "null")


def _facts(field: "Field") -> dict[str, object]:
    return {"type": field.type, "default": field.default, "doc": field.doc, "korean": field.korean}


def _overview() -> Result:
    from tunesmith.core.shelf import shelves

    known = {one.name: one.names() for one in shelves()}
    lines = ["tunesmith explain NAME, where NAME is one of", ""]
    lines += [f"  {kind + ':':<12}{', '.join(names)}" for kind, names in known.items()]
    lines += [f"  {'shown:':<12}{', '.join(demos())}"]
    lines += ["  settings:   all of them with `tunesmith explain settings`", "  verbs:      see `tunesmith --help`"]
    return Result(known, text="\n".join(lines))
