"""tunesmith list: what is on the shelves."""

from tunesmith.core.result import Result


def list(what: str | None = None, *, project: str | None = None) -> Result:
    """Show the metrics, data steps, adapters and methods there are.

    what      one shelf: metrics, steps, adapters or objectives; all without it
    project   a project file whose `use:` is shown too; tunesmith.yaml here without it

    Your own files are read, not run.

    Example: tunesmith list metrics
    """
    from tunesmith.api.config import use_project_files
    from tunesmith.core.shelf import shelf, shelves

    use_project_files(project)
    chosen = shelves() if what is None else [shelf(what)]
    facts: dict[str, dict[str, dict[str, str]]] = {}
    lines = []
    for one in chosen:
        items = one.items()
        facts[one.name] = {name: {"doc": item.doc, "origin": item.origin} for name, item in items.items()}
        lines.append(f"{one.name}{'' if items else ' (none)'}")
        width = max((len(name) for name in items), default=0) + 2
        for name, item in items.items():
            mark = "" if item.origin == "built in" else f"  [{item.origin}]"
            lines.append(f"  {name:<{width}}{item.doc}{mark}")
        lines.append("")
    return Result(facts, text="\n".join(lines).rstrip() + "\n\nMore about one: tunesmith explain NAME")
