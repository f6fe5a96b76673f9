"""tunesmith where: which file says it."""

from tunesmith.core.result import Result


def where(name: str, *, project: str | None = None) -> Result:
    """Print the file and line of an item of a shelf, a setting or a verb.

    name      dpo, metrics/accuracy (where two shelves have the word), train.lr, or a verb
    project   a project file whose `use:` counts too; tunesmith.yaml here without it

    Example: tunesmith where exact_match
    """
    from tunesmith.api.explain import find

    found = [(kind, str(path), line) for kind, path, line in find(name, project)]
    several = len(found) > 1
    text = "\n".join(f"{path}:{line}{f'  ({kind})' if several else ''}" for kind, path, line in found)
    return Result(found=[{"kind": kind, "file": path, "line": line} for kind, path, line in found], text=text)
