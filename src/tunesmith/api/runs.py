"""tunesmith runs: the runs there are, and where each comes from."""

from pathlib import Path
from typing import Any, Literal

from tunesmith.core.result import Result


def runs(run: str | None = None, *, under: str = "runs", lang: Literal["en", "ko"] | None = None) -> Result:
    """List the runs, or show one with its scores and its lineage.

    run     one run's folder, or its name under `under`; all without it
    under   the folder that holds the runs
    lang    en or ko; English without it (one run: its own)

    Example: tunesmith runs runs/train-1
    """
    from tunesmith.report.labels import speaker
    from tunesmith.report.read import glance
    from tunesmith.report.terminal import summary, table

    if run is not None:
        folder = run_path(run, under)
        facts = glance(folder)
        above, below = lineage(folder), children(folder)
        chain = " -> ".join(
            [*(Path(path).name for path in reversed(above)), folder.name, *(f"[{path.name}]" for path in below[:3])]
        )
        from tunesmith.report.page import choose_language, own_language

        say = speaker(choose_language(lang, own_language(folder)))
        text = f"{folder}\n\n{summary(folder, lang=lang)}\n\n{say('lineage')}\n  {chain}"
        return Result({**facts, "lineage": above, "children": [str(path) for path in below]}, text=text)
    say = speaker(lang or "en")
    found = [glance(path) for path in run_folders(Path(under))]
    if not found:
        return Result({"runs": []}, text=say("runs_none", folder=under))
    found.sort(key=lambda facts: str(facts["created"] or ""))
    head = [
        say(key) for key in ("name", "created", "model", "method", "adapter", "score", "interval", "rows", "parent")
    ]
    rows = [head, *(_row(facts, Path(under)) for facts in found)]
    return Result({"runs": found}, text=table(rows, right=(5, 7)))


def _row(facts: dict[str, Any], under: Path) -> list[str]:
    from tunesmith.report.formats import NOTHING, count
    from tunesmith.report.verdict import show_score

    score, share = facts["score"] or {}, (facts["score"] or {}).get("share", False)
    interval = f"{show_score(score.get('low'), share)}..{show_score(score.get('high'), share)}" if score else NOTHING
    shown = f"{show_score(score.get('value'), share)} {score.get('metric')}" if score else facts["status"]
    path = Path(facts["path"])
    name = str(path.relative_to(under)) if path.is_relative_to(under) else str(path)
    return [
        name,
        str(facts["created"] or NOTHING)[:16].replace("T", " "),
        facts["model"] or NOTHING,
        facts["method"] or NOTHING,
        facts["adapter"] or NOTHING,
        shown,
        interval,
        count(score.get("n")),
        Path(facts["parent"]).name if facts["parent"] else NOTHING,
    ]


def run_folders(under: Path) -> list[Path]:
    """Every folder with a manifest.json, at most three levels under `under`, in order of name."""
    if not under.is_dir():
        return []
    found = {path.parent for level in ("*", "*/*", "*/*/*") for path in under.glob(f"{level}/manifest.json")}
    return sorted(found)


def run_path(run: str, under: str = "runs") -> Path:
    """A run by its folder, or by its name under runs/; ProjectError with the nearest names when there is none."""
    from tunesmith.core.errors import ProjectError
    from tunesmith.core.names import nearest
    from tunesmith.report.page import is_run

    for path in (Path(run), Path(under) / run):
        if path.is_dir() and is_run(path):
            return path
    found = {str(path.relative_to(under)): path for path in run_folders(Path(under))}
    close = nearest(run, [*found, *(str(path) for path in found.values())]) or list(found)[-3:]
    exists = Path(run).is_dir()
    raise ProjectError(
        f"{run} is no run folder: it has none of a run's files." if exists else f"There is no run {run}.",
        wanted="A folder with manifest.json or report.json, or a name under runs/.",
        fix=f"There is: {', '.join(close)}" if close else "Make one: tunesmith train",
    )


def newest(under: Path) -> Path:
    """The run that was changed last; ProjectError when there is none."""
    from tunesmith.core.errors import ProjectError

    folders = run_folders(under) + [path.parent for path in under.glob("*/report.json")]
    if not folders:
        raise ProjectError(f"There is no run under {under}.", fix="Make one: tunesmith train, or name its folder.")
    return max(folders, key=lambda path: max(file.stat().st_mtime for file in path.glob("*") if file.is_file()))


def parent_of(folder: Path) -> Path | None:
    """The run a run was made from, as its manifest says: a path, or a name beside it."""
    from tunesmith.report.read import as_dict, read_json

    parent = as_dict(read_json(folder / "manifest.json", [])).get("parent")
    if not parent:
        return None
    beside, named = folder.parent / str(parent), Path(str(parent))
    known = (beside, named) if named.name == str(parent) else (named, beside)  # a bare name is that of a neighbour
    return next((path for path in known if path.is_dir()), named)


def lineage(folder: Path) -> list[str]:
    """The runs a run comes from, nearest first; a circle ends where it closes."""
    found: list[str] = []
    seen = {folder.resolve()}
    while (parent := parent_of(folder)) is not None and parent.resolve() not in seen:
        found.append(str(parent))
        seen.add(parent.resolve())
        folder = parent
    return found


def children(folder: Path) -> list[Path]:
    """The runs beside this one that were made from it."""
    own = folder.resolve()
    return [
        path
        for path in run_folders(folder.parent)
        if (parent := parent_of(path)) is not None and parent.resolve() == own
    ]
