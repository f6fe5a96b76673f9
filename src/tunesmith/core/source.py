"""Reading Python files without running them: what they define, with which settings, documented how.

>>> first_line(Path("metrics/exact_match.py"))
'Exact match: the answer is the reference, letter by letter.'
>>> [(field.name, field.type, field.default) for field in fields(Path("adapters/lora.py"), "Lora")]
[('rank', 'int', '8'), ...]
"""

import ast
import re
import sys
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from tunesmith.core.errors import ProjectError

MISSING = object()
_HANGUL = re.compile("[가-힣]")


@dataclass(frozen=True)
class Field:
    """A setting as its source says it: name, type and default as text ("" = none: it is required), doc, line.

    `doc` is the English part of the text under it, `korean` the Korean part ("" = there is none).
    """

    name: str
    type: str
    default: str
    doc: str
    line: int
    korean: str = ""

    def value(self) -> Any:
        """The default as a value, or MISSING where there is none or it is not a plain literal."""
        try:
            return ast.literal_eval(self.default)
        except (ValueError, SyntaxError):
            return MISSING


@dataclass(frozen=True)
class Function:
    """A function as its source says it. `more` and `keys` are the names after * and **, or ""."""

    name: str
    doc: str
    line: int
    positional: tuple[Field, ...]
    keyword: tuple[Field, ...]
    more: str
    keys: str
    returns: str


def defines_function(path: Path, name: str) -> bool:
    """Does the file define a top-level function of that name? By its text: a listing must stay fast."""
    return not name.startswith("_") and re.search(rf"^def {re.escape(name)}\(", _text(path), re.MULTILINE) is not None


def verb_line(path: Path) -> str | None:
    """The first docstring line of the function that is named like its file and returns a Result; None = there is none."""
    wanted = rf'^def {re.escape(path.stem)}\(.*?\)\s*->\s*"?Result"?:\s*\n\s+[rR]?"""\s*(.*?)\s*(?:\n|""")'
    found = re.search(wanted, _text(path), re.MULTILINE | re.DOTALL)
    return None if path.stem.startswith("_") or found is None else found[1]


def class_for(path: Path) -> str:
    """The top-level class named like the file (exact_match.py: ExactMatch; case does not count), or ""."""
    wanted = path.stem.replace("_", "").lower()
    for name in re.findall(r"^class (\w+)", _text(path), re.MULTILINE):
        if name.lower() == wanted:
            return str(name)
    return ""


def first_line(path: Path) -> str:
    """The first line of the file's docstring, or ""."""
    found = re.match(r'\s*(?:#[^\n]*\n\s*)*[rR]?(?:"""|\'\'\')\s*([^\n]*?)\s*(?:"""|\'\'\'|\n|$)', _text(path))
    return found[1] if found else ""


def module_doc(path: Path) -> str:
    """The file's docstring."""
    return ast.get_docstring(_tree(path)) or ""


def fields(path: Path, name: str) -> list[Field]:
    """The annotated attributes of a class, in order, each with the sentence under it."""
    node = _class(path, name)
    found = []
    for statement, after in zip(node.body, [*node.body[1:], None]):
        if not isinstance(statement, ast.AnnAssign) or not isinstance(statement.target, ast.Name):
            continue
        kind = ast.unparse(statement.annotation)
        if "ClassVar" in kind or statement.target.id.startswith("_"):
            continue
        doc = korean = ""
        if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant) and isinstance(after.value.value, str):
            paragraphs = [" ".join(text.split()) for text in after.value.value.split("\n\n")]
            doc = " ".join(text for text in paragraphs if not _HANGUL.search(text))
            korean = " ".join(text for text in paragraphs if _HANGUL.search(text))
        default = "" if statement.value is None else ast.unparse(statement.value)
        found.append(Field(statement.target.id, kind, default, doc, statement.lineno, korean))
    return found


def class_facts(path: Path, name: str) -> dict[str, Any]:
    """What a class says of itself in ClassVars that are plain: {"shape": "chat", "figures": {...}}.

    Plain are literals, and names that stand for them in the file or in one it imports from: `{**PAIR_FIGURES, "kl": "..."}`."""
    found = {}
    for statement in _class(path, name).body:
        if (
            not isinstance(statement, ast.AnnAssign)
            or not isinstance(statement.target, ast.Name)
            or not statement.value
        ):
            continue
        if "ClassVar" in ast.unparse(statement.annotation):
            try:
                found[statement.target.id] = _value(path, statement.value)
            except (ValueError, TypeError, LookupError):
                continue
    return found


def property_docs(path: Path, name: str) -> dict[str, str]:
    """The properties of a class, each with the first line of its docstring."""
    return {
        node.name: (ast.get_docstring(node) or "").partition("\n")[0]
        for node in _class(path, name).body
        if isinstance(node, ast.FunctionDef) and any(ast.unparse(mark) == "property" for mark in node.decorator_list)
    }


def _value(path: Path, node: ast.expr) -> Any:
    """What an expression in a file means, if it is plain; else a ValueError, TypeError or LookupError."""
    if isinstance(node, ast.Dict):
        found: dict[Any, Any] = {}
        for key, value in zip(node.keys, node.values):
            found |= _value(path, value) if key is None else {_value(path, key): _value(path, value)}
        return found
    if isinstance(node, ast.Name):
        return _named(path, node.id)
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        return _member(path, node.value.id, node.attr)
    if isinstance(node, ast.Subscript):
        return _value(path, node.value)[_value(path, node.slice)]
    return ast.literal_eval(node)


def _named(path: Path, name: str) -> Any:
    """A name at the top of a file: assigned there, or imported."""
    for node in _tree(path).body:
        if not isinstance(node, ast.Assign | ast.AnnAssign) or node.value is None:
            continue
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        if any(isinstance(target, ast.Name) and target.id == name for target in targets):
            return _value(path, node.value)
    place, inside = _imported(path, name)
    return _named(place, inside)


def _member(path: Path, owner: str, name: str) -> Any:
    """`owner.name`, where owner is a class of the file, a class it imports or a module."""
    if any(isinstance(node, ast.ClassDef) and node.name == owner for node in _tree(path).body):
        return class_facts(path, owner)[name]
    place, inside = _imported(path, owner)
    return class_facts(place, inside)[name] if inside else _named(place, name)


def _imported(path: Path, name: str) -> tuple[Path, str]:
    """(the file a name comes from, its name there; "" = the name is the whole module)."""
    for node in _tree(path).body:
        if not isinstance(node, ast.Import | ast.ImportFrom):
            continue
        for alias in node.names:
            if (alias.asname or alias.name) != name:
                continue
            if isinstance(node, ast.Import):
                places = [(alias.name, "")]
            else:
                places = [(f"{node.module}.{alias.name}", ""), (str(node.module), alias.name)]
            for module, inside in places:
                found = file_of(module)
                if found is not None and found.suffix == ".py" and found.is_file():
                    return found, inside
    raise LookupError(f"{path} says no {name} that can be read")


def file_of(module: str) -> Path | None:
    """A module's file, without importing its packages (find_spec imports the parents)."""
    places: list[str] | None = None
    spec = None
    name = ""
    for part in module.split("."):
        name = f"{name}.{part}" if name else part
        spec = next((s for finder in sys.meta_path if (s := finder.find_spec(name, places)) is not None), None)
        if spec is None:
            return None
        places = list(spec.submodule_search_locations or [])
    return Path(spec.origin) if spec is not None and spec.origin else None


def class_doc(path: Path, name: str) -> str:
    """A class's docstring."""
    return ast.get_docstring(_class(path, name)) or ""


def line_of(path: Path, name: str) -> int:
    """The line on which a class or function of that name starts."""
    for node in _tree(path).body:
        if isinstance(node, (ast.ClassDef, ast.FunctionDef)) and node.name == name:
            return node.lineno
    raise LookupError(f"{path} defines no {name}")


def function(path: Path, name: str) -> Function:
    """A top-level function's parameters and docstring."""
    for node in _tree(path).body:
        if isinstance(node, ast.FunctionDef) and node.name == name:
            break
    else:
        raise LookupError(f"{path} defines no function {name}")
    arguments = node.args
    plain = [*arguments.posonlyargs, *arguments.args]
    defaults: list[ast.expr | None] = [None] * (len(plain) - len(arguments.defaults)) + list(arguments.defaults)
    return Function(
        name,
        ast.get_docstring(node) or "",
        node.lineno,
        tuple(_parameter(a, d) for a, d in zip(plain, defaults)),
        tuple(_parameter(a, d) for a, d in zip(arguments.kwonlyargs, arguments.kw_defaults)),
        arguments.vararg.arg if arguments.vararg else "",
        arguments.kwarg.arg if arguments.kwarg else "",
        ast.unparse(node.returns) if node.returns else "",
    )


def _parameter(argument: ast.arg, default: ast.expr | None) -> Field:
    kind = ast.unparse(argument.annotation) if argument.annotation else ""
    return Field(argument.arg, kind, "" if default is None else ast.unparse(default), "", argument.lineno)


def _class(path: Path, name: str) -> ast.ClassDef:
    for node in _tree(path).body:
        if isinstance(node, ast.ClassDef) and node.name == name:
            return node
    raise LookupError(f"{path} defines no class {name}")


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise ProjectError(f"{path} is not UTF-8.", fix="Save it as UTF-8.") from None


def _tree(path: Path) -> ast.Module:
    return _parse(path, path.stat().st_mtime_ns)


@lru_cache(maxsize=256)
def _parse(path: Path, _changed: int) -> ast.Module:
    try:
        return ast.parse(_text(path), filename=str(path))
    except SyntaxError as error:
        raise ProjectError(f"{path}:{error.lineno} is not Python: {error.msg}.") from None
