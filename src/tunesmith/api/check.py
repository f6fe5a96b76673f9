"""tunesmith check: is the project right, before anything is done?"""

from pathlib import Path
from typing import Any

from tunesmith.core.result import Result


def check(config: str | dict[str, Any] | None = None, *, schema: bool = False, **keys: Any) -> Result:
    """Check a project: every setting, every name on it, the files it points to. Nothing is run and nothing written.

    config   the project file, or one with stages; tunesmith.yaml here without it
    schema   print a JSON Schema of the project file instead, for editors

    Your own files (`use:`) are read, not run; those of a chain are loaded, to see what a stage makes for the next. Of a base that is on this machine the card is shown: parameters, format, licence, context,
    memory to run and to tune, and the score of an untuned evaluation in runs/ (`tunesmith explain mini` shows the card alone).

    Example: tunesmith check tunesmith.yaml
    """
    from tunesmith.api.config import _read, resolve
    from tunesmith.api.model_card import card_of, told
    from tunesmith.api.schema import project_schema
    from tunesmith.core.files import to_json
    from tunesmith.core.shelf import used

    if not schema and "stages" in _read(config)[0]:
        from tunesmith.api.stages import checked

        return checked(config, keys)
    project, filled, root = resolve(config, **keys)
    if schema:
        wanted = project_schema()
        return Result(wanted, text=to_json(wanted, indent=2))
    data = data_files(project.data.path, root, "data.path")
    for name, value in (("data.dev", project.data.dev), ("data.test", project.data.test)):
        if isinstance(value, str):
            data_files(value, root, name)
    base = base_model(project.model, root)
    lora = filled["adapter"].get("lora", {})
    card = card_of(project.model, Path(root), rank=lora.get("rank"))
    own = {file.path: file.hash for file in used()}
    lines = [
        f"model     {project.model} ({base})",
        f"data      {', '.join(data) if data else project.data.name or 'none yet'}",
        f"method    {_spec_text(filled['method'])}",
        f"adapter   {_spec_text(filled['adapter'])}",
        f"metrics   {', '.join(_spec_text(spec) for spec in filled['metrics']) or 'none'}",
    ]
    lines += (
        [f"steps     {', '.join(_spec_text(spec) for spec in filled['data']['steps'])}"] if project.data.steps else []
    )
    lines += [f"use       {', '.join(own)}"] if own else []
    if card:
        lines += ["", "The base:", *(f"  {line}" for line in told(card))]
    lines += ["", "All settings and names are right."]
    return Result(project=filled, root=str(root), data=data, base=base, card=card, use=own, text="\n".join(lines))


def data_files(path: Any, root: Any, name: str) -> list[str]:
    """The files a path setting means, as written; one that is not there is a DataError with the nearest names."""

    from tunesmith.core.errors import DataError
    from tunesmith.core.names import nearest

    if path is None:
        return []
    given = [path] if isinstance(path, str | Path) else path
    if not isinstance(given, list | tuple) or not all(isinstance(item, str | Path) for item in given):
        return ["(in memory)"]
    found = []
    for item in given:
        full = Path(root) / Path(item).expanduser()
        if any(letter in str(item) for letter in "*?["):
            base = Path(full.anchor)
            if not any(base.glob(str(full.relative_to(full.anchor)))):
                raise DataError(f"{name}: nothing is called {item} in {root}.", fix="The pattern matches no file.")
        elif not full.exists():
            folder = full.parent
            beside = sorted(p.name for p in folder.iterdir()) if folder.is_dir() else []
            close = nearest(full.name, beside)
            fix = f"Did you mean: {', '.join(close)}" if close else "Paths are relative to the project file."
            raise DataError(f"{name}: there is no {item} in {root}.", fix=fix)
        found.append(str(item))
    return found


def base_model(name: str, root: Any) -> str:
    """What a model's name means: "embedded", "folder", or "Hugging Face hub". A path that is not there is a ModelError."""
    import re

    from tunesmith.core.errors import ModelError
    from tunesmith.core.names import nearest
    from tunesmith.model.embedded import ALL

    if name in ALL:
        return "embedded"
    folder = Path(root) / Path(name).expanduser()
    if folder.is_dir():
        return "folder"
    looks_like_a_path = (
        name.startswith((".", "/", "~")) or name.count("/") > 1 or folder.parent.is_dir() and "/" in name
    )
    if looks_like_a_path or not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", name):
        beside = [p.name for p in folder.parent.iterdir() if p.is_dir()] if folder.parent.is_dir() else []
        close = nearest(folder.name, beside)
        raise ModelError(
            f"model: there is no folder {name} in {root}.",
            wanted=f"{', '.join(ALL)}, a folder with a model, or a name on the Hugging Face hub.",
            fix=f"Did you mean: {', '.join(close)}" if close else "",
        )
    if close := nearest(name, ALL):
        raise ModelError(
            f'model: there is no folder "{name}" in {root}.',
            wanted=f"{', '.join(ALL)}, a folder with a model, or a name on the Hugging Face hub.",
            fix=f"Did you mean: {', '.join(close)}",
        )
    return "Hugging Face hub"


def _spec_text(spec: dict[str, dict[str, Any]]) -> str:
    ((name, settings),) = spec.items()
    inside = ", ".join(f"{key}={_short(value)}" for key, value in settings.items())
    return f"{name} ({inside})" if inside else name


def _short(value: Any) -> str:
    from tunesmith.core.files import to_json

    return to_json(value)
