"""tunesmith eject: an item of a shelf as your own file."""

from tunesmith.core.result import Result


def eject(name: str, *, folder: str = ".", force: bool = False) -> Result:
    """Copy an item of a shelf into your project, to be changed there.

    name     exact_match, or metrics/accuracy where two shelves have the word
    folder   the project's folder; the copy goes to its metrics/, steps/, adapters/ or objectives/
    force    write over a copy that is there

    The copy is used in place of the built-in item when the project file names it in `use:`; the line is printed.

    Example: tunesmith eject exact_match
    """
    from pathlib import Path

    from tunesmith.api.explain import items_called
    from tunesmith.core.errors import ProjectError
    from tunesmith.core.files import write_whole
    from tunesmith.core.shelf import use

    use((), folder)  # the one to copy is the built-in or installed one, not a copy made before
    items = items_called(name)
    if len(items) > 1:
        raise ProjectError(
            f'"{name}" is on several shelves.',
            fix=f"Say which: {', '.join(f'{item.shelf}/{item.name}' for item in items)}",
        )
    item = items[0]
    relative = f"{item.shelf}/{item.name}.py"
    target = Path(folder) / relative
    if target.exists() and not force:
        raise ProjectError(f"{target} exists already.", fix="Rename it, or write over it: --force")
    write_whole(target, item.path.read_bytes())
    text = f"Copied {item.path}\n    to {target}\n\nTo use it, put into the project file:\n\nuse: [{relative}]"
    return Result(name=item.name, shelf=item.shelf, source=str(item.path), file=str(target), use=relative, text=text)
