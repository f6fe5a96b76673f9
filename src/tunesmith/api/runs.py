"""tunesmith runs: the runs there are, where each comes from, what changed on the way, and keeping order among them."""

from pathlib import Path
from typing import Any, Literal

from tunesmith.core.result import Result

SEEDS = frozenset(("seed", "data.seed", "generate.seed"))
FIXED = ("tokens", "trained parameters")  # what was set, not what came of it


def runs(
    run: str | None = None,
    *others: str,
    under: str = "runs",
    tree: bool = False,
    name: str | None = None,
    checkpoint: int | None = None,
    back: str | None = None,
    delete: bool = False,
    descendants: bool = False,
    yes: bool = False,
    lang: Literal["en", "ko"] | None = None,
) -> Result:
    """List the runs; show one with its lineage, or several side by side; name one, go back, delete.

    run          one run's folder, its name under `under`, or @NAME; all without it
    others       more of them: side by side, setting by setting where they differ; of runs that differ in seed alone, how much each
                 figure moves from seed to seed
    under        the folder that holds the runs
    tree         which run was made from which
    name         let this name stand for the run: --name current; then @current is that run, wherever a run may be given
    checkpoint   with --name: the run as it was at this step
    back         let this name stand for what it stood for before
    delete       what deleting the run would do; with --yes it is done
    descendants  with --delete: also the runs that were made from it
    yes          with --delete: do it
    lang         en or ko; English without it (one run: its own)

    Example: tunesmith runs runs/train-1 --name current
    """
    from tunesmith.core.errors import ProjectError
    from tunesmith.report.labels import speaker

    given = [word for word, on in (("--tree", tree), ("--name", name), ("--back", back), ("--delete", delete)) if on]
    if len(given) > 1:
        raise ProjectError(f"{' and '.join(given)} are two things to do.", fix="One at a time.")
    if (descendants or yes) and not delete:
        raise ProjectError("--yes and --descendants belong to --delete.", fix="tunesmith runs RUN --delete --yes")
    if checkpoint is not None and name is None:
        raise ProjectError(
            "--checkpoint belongs to --name.", fix=f"tunesmith runs RUN --checkpoint {checkpoint} --name current"
        )
    if (name or delete) and (run is None or others):
        raise ProjectError(
            f"{given[0]} needs one run.", fix=f"tunesmith runs RUN {given[0]}" + (f" {name}" if name else "")
        )
    if back:
        if run is not None:
            raise ProjectError("--back takes a name, not a run.", fix=f"tunesmith runs --back {back}")
        return _back(back, Path(under))
    if name is not None and run is not None:
        return _name(run_path(run, under), name, checkpoint, Path(under))
    if delete and run is not None:
        return _delete(run_path(run, under), Path(under), descendants=descendants, yes=yes)
    if tree:
        return _tree([run_path(one, under) for one in (run, *others) if one], Path(under))
    if run is not None and others:
        return _side_by_side([run_path(one, under) for one in (run, *others)], Path(under))
    if run is not None:
        return _one(run_path(run, under), Path(under), lang)
    from tunesmith.report.read import glance
    from tunesmith.report.terminal import table

    say = speaker(lang or "en")
    found = [glance(path) for path in run_folders(Path(under))]
    if not found:
        return Result({"runs": [], "names": _names(Path(under))}, text=say("runs_none", folder=under))
    found.sort(key=lambda facts: str(facts["created"] or ""))
    head = [
        say(key) for key in ("name", "created", "model", "method", "adapter", "score", "interval", "rows", "parent")
    ]
    rows = [head, *(_row(facts, Path(under)) for facts in found)]
    named = _names(Path(under))
    below = "".join(f"\n@{word} = {path}" for word, path in named.items())
    return Result({"runs": found, "names": named}, text=table(rows, right=(5, 7)) + ("\n" + below if below else ""))


def _names(under: Path) -> dict[str, str]:
    from tunesmith.core.registry import names, stands_for

    return {word: str(stands_for(word, under)) for word in names(under)}


def _one(folder: Path, under: Path, lang: Literal["en", "ko"] | None) -> Result:
    """One run: its scores, its lineage, and the three states of its training with what changed between them."""
    from tunesmith.api.states import states_of, told
    from tunesmith.core.registry import names_of
    from tunesmith.report.labels import speaker
    from tunesmith.report.page import choose_language, own_language
    from tunesmith.report.read import glance
    from tunesmith.report.terminal import summary

    facts = glance(folder)
    above, below = lineage(folder), children_of(folder, under)
    chain = " -> ".join(
        [*(Path(path).name for path in reversed(above)), folder.name, *(f"[{path.name}]" for path in below[:3])]
    )
    say = speaker(choose_language(lang, own_language(folder)))
    found = states_of(folder)
    text = f"{folder}\n\n{summary(folder, lang=lang)}\n\n{say('lineage')}\n  {chain}"
    if found:
        text += "\n\n" + told(found)
    called = names_of(folder, under)
    if called:
        text += "\n\n" + ", ".join(f"@{word}" for word in called)
    more = {"lineage": above, "children": [str(path) for path in below], "states": found, "names": called}
    return Result({**facts, **more}, text=text)


def _tree(chosen: list[Path], under: Path) -> Result:
    """Every run under the one it was made from; `chosen` alone with what was made from them."""
    from tunesmith.core.registry import names_of
    from tunesmith.report.read import glance

    found = run_folders(under)
    whole = {path.resolve(): path for path in found}
    above = {path: parent_of(path) for path in found}
    tops = chosen or [
        path for path, parent in above.items() if parent is None or parent.resolve() not in whole or _in_circle(path)
    ]
    lines: list[str] = []
    seen: set[Path] = set()

    def branch(path: Path, bars: str, last: bool, top: bool) -> dict[str, Any]:
        facts = glance(path)
        score = facts["score"]
        told = ", ".join(filter(None, [facts["method"], facts["adapter"], facts["status"]]))
        told += f", {score['metric']} {score['value']:.4g}" if score else ""
        called = "".join(f"  @{word}" for word in names_of(path, under))
        base = f"  from {facts['model']}" if top else ""
        mark = "" if top else bars + ("└─ " if last else "├─ ")
        label = str(path.relative_to(under)) if path.is_relative_to(under) else str(path)
        lines.append(f"{mark}{label}  ({told}){base}{called}")
        seen.add(path.resolve())
        below = [
            one
            for one in found
            if (parent := above[one]) is not None and parent.resolve() == path.resolve() and one.resolve() not in seen
        ]
        inner = "" if top else bars + ("   " if last else "│  ")
        return {
            "run": str(path),
            **{key: facts[key] for key in ("method", "adapter", "model", "status", "score")},
            "children": [branch(one, inner, place == len(below) - 1, False) for place, one in enumerate(below)],
        }

    trees = [branch(path, "", True, True) for path in tops if path.resolve() not in seen]
    return Result({"trees": trees}, text="\n".join(lines) or f"No runs under {under}.")


def _in_circle(folder: Path) -> bool:
    """Whether a run's ancestors come back to it; the first of such a circle stands at the top of a tree."""
    seen: set[Path] = set()
    path: Path | None = folder
    while path is not None and path.resolve() not in seen:
        seen.add(path.resolve())
        path = parent_of(path)
    return path is not None and folder.resolve() == min(seen)


def over_seeds(folder: Path) -> dict[str, Any]:
    """The runs beside a run that differ from it in nothing but their seed: {"runs", "seeds", "spread", "agreement"}, itself among them.

    {} when there is no other.
    """
    from tunesmith.report.read import as_dict, read_yaml

    def settings(path: Path) -> dict[str, Any]:
        flat = _flat(as_dict(read_yaml(path / "project.yaml", [])))
        return {key: value for key, value in flat.items() if key != "out" and key not in SEEDS}

    own = settings(folder)
    beside = sorted(path.parent for path in folder.resolve().parent.glob("*/manifest.json"))
    alike = [path for path in beside if own and settings(path) == own]
    if len(alike) < 2:
        return {}
    seeds, figures, scores = _beside(alike)
    over = _over_seeds(seeds, figures, scores)
    if not over:
        return {}
    return {
        "runs": [path.name for path in alike],
        "seeds": seeds["seed"],
        "spread": over,
        "agreement": _agreement(alike),
    }


def _agreement(folders: list[Path]) -> dict[str, float]:
    """For each figure that is 0 or 1 on a row: the share of rows on which two of the runs agree, mean over all pairs of runs.

    Of reward models it is how consistent they are: the share of pairs on which two of them prefer the same answer.
    """
    from itertools import combinations

    from tunesmith.report.read import as_dict, lines

    shares: dict[str, list[float]] = {}
    seen: list[dict[str, dict[str, float]]] = []
    for folder in folders:
        found: dict[str, dict[str, float]] = {}
        for path in sorted(folder.glob("evals/*.jsonl")):
            for row in lines(path, []):
                for metric, value in as_dict(row.get("metrics")).items():
                    found.setdefault(f"{path.stem} {metric}", {})[str(row.get("id"))] = value
        seen.append({name: rows for name, rows in found.items() if all(value in (0, 1) for value in rows.values())})
    for one, other in combinations(seen, 2):
        for name in one.keys() & other.keys():
            both = one[name].keys() & other[name].keys()
            if both:
                same = sum(one[name][row] == other[name][row] for row in both)
                shares.setdefault(name, []).append(same / len(both))
    return {name: sum(shares[name]) / len(shares[name]) for name in sorted(shares)}


def _side_by_side(folders: list[Path], under: Path) -> Result:
    """Several runs: settings where they differ, then figures and scores."""
    from tunesmith.report.read import glance
    from tunesmith.report.terminal import table

    settings, figures, scores = _beside(folders)
    labels = [str(folder.relative_to(under)) if folder.is_relative_to(under) else str(folder) for folder in folders]
    rows = [["", *labels], ["made from", *(Path(str(glance(folder)["parent"] or "-")).name for folder in folders)]]
    rows += [[key, *map(_word, values)] for key, values in settings.items()]
    rows += [
        [key, *map(_word, values)] for key, values in figures.items() if any(value is not None for value in values)
    ]
    rows += [[key, *map(_score, values)] for key, values in scores.items()]
    same = "" if settings else "\nAll settings are equal."
    over = _over_seeds(settings, figures, scores)
    text = table(rows) + same + "\nWhether a difference in scores is more than chance: tunesmith compare A B"
    if over:
        seeds = ", ".join(map(str, settings["seed"]))
        text += f"\n\nFrom seed to seed ({seeds}), all else equal:\n" + _spread_table(over)
    facts = {"runs": [str(folder) for folder in folders], "settings": settings, "figures": figures, "scores": scores}
    return Result({**facts, "spread": over}, text=text)


def _beside(folders: list[Path]) -> tuple[dict[str, list[Any]], dict[str, list[Any]], dict[str, list[Any]]]:
    """A list with one entry a run of each setting that is not everywhere the same, each figure, and each score."""
    from tunesmith.report.read import as_dict, read_json, read_run

    runs_read = [read_run(folder) for folder in folders]
    flat = [_flat(run.project) for run in runs_read]
    keys = [
        key for key in dict.fromkeys(key for one in flat for key in one) if len({str(one.get(key)) for one in flat}) > 1
    ]
    settings = {key: [one.get(key) for one in flat] for key in keys if key != "out"}
    figures: dict[str, list[Any]] = {}
    for word in ("steps", "best_dev_loss", "last_loss", "seconds", "tokens"):
        figures[word] = [as_dict(run.manifest.get("outcome")).get(word) for run in runs_read]
    counts = [as_dict(read_json(folder / "parameters.json", [])) for folder in folders]
    figures["trained parameters"] = [one.get("trainable") for one in counts]
    scores: dict[str, list[Any]] = {}
    for place, run in enumerate(runs_read):
        for evaluation in run.evaluations:
            for metric, value in as_dict(evaluation.summary.get("metrics")).items():
                row = scores.setdefault(f"{evaluation.name} {metric}", [None] * len(folders))
                row[place] = {key: value.get(key) for key in ("value", "low", "high", "n")}
    return settings, figures, scores


def _over_seeds(
    settings: dict[str, list[Any]], figures: dict[str, list[Any]], scores: dict[str, list[Any]]
) -> dict[str, dict[str, Any]]:
    """How much each figure and score moves from seed to seed, of runs that differ in nothing else; {} of others."""
    import dataclasses
    import math

    from tunesmith.stats.spread import spread

    if "seed" not in settings or not set(settings) <= SEEDS:
        return {}
    values = {**figures, **{key: [one and one["value"] for one in row] for key, row in scores.items()}}
    found = {}
    for key, row in values.items():
        numbers = [float(value) for value in row if isinstance(value, int | float)]
        if len(numbers) == len(row) and key not in FIXED:
            one = dataclasses.asdict(spread(numbers))
            found[key] = {word: value if math.isfinite(value) else None for word, value in one.items()}
    return found


def _spread_table(over: dict[str, dict[str, Any]]) -> str:
    from tunesmith.report.terminal import table

    head = ["", "mean", "95 % interval", "sd", "95 % interval of sd", "least", "most"]
    rows = [
        [
            key, _word(one["mean"]), f"{_word(one['low'])}..{_word(one['high'])}", _word(one["sd"]),
            f"{_word(one['sd_low'])}..{_word(one['sd_high'])}", _word(one["least"]), _word(one["most"]),
        ]
        for key, one in over.items()
    ]  # fmt: skip
    return table([head, *rows], right=(1, 2, 3, 4, 5, 6))


def _flat(value: Any, at: str = "") -> dict[str, Any]:
    if isinstance(value, dict) and value:
        found: dict[str, Any] = {}
        for key, item in value.items():
            found |= _flat(item, f"{at}.{key}" if at else str(key))
        return found
    return {at: value}


def _word(value: Any) -> str:
    return "-" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)


def _score(value: dict[str, Any] | None) -> str:
    if value is None or value["value"] is None:
        return "-"
    span = "" if value["low"] is None or value["high"] is None else f" [{value['low']:.3f}, {value['high']:.3f}]"
    return f"{value['value']:.3f}{span} n={value['n']}"


def _name(folder: Path, name: str, checkpoint: int | None, under: Path) -> Result:
    from tunesmith.core.registry import name_run, names, stands_for

    before = str(stands_for(name, under)) if name in names(under) else None
    if checkpoint is not None:
        from tunesmith.api.states import at_checkpoint

        folder = at_checkpoint(folder, checkpoint)
    elif not any((folder / part).is_dir() for part in ("model", "adapter", "features")):
        from tunesmith.core.errors import ProjectError

        raise ProjectError(f"{folder} has no finished model.", fix=f"Finish it: tunesmith train --resume {folder}")
    name_run(under, name, folder)
    told = f"@{name} is now {folder}" + (f"; it was {before}" if before and before != str(folder) else "") + "."
    return Result({"name": name, "run": str(folder), "before": before}, text=told)


def _back(name: str, under: Path) -> Result:
    from tunesmith.core.registry import back, stands_for

    before = str(stands_for(name, under))
    now = str(back(under, name))
    return Result({"name": name, "run": now, "before": before}, text=f"@{name} is {now} again; it was {before}.")


def _delete(folder: Path, under: Path, *, descendants: bool, yes: bool) -> Result:
    from tunesmith.api.removal import plan_removal, remove
    from tunesmith.core.errors import ProjectError
    from tunesmith.report.formats import size

    removal = plan_removal(folder, under, descendants=descendants)
    listed = [str(path) for path in removal.runs]
    facts = {"runs": listed, "bytes": removal.bytes, "refused": removal.refused}
    if yes and removal.refused:
        raise ProjectError(f"{folder} is not deleted: {'; '.join(removal.refused)}.")
    if yes:
        remove(removal, under)
        return Result({**facts, "deleted": True}, text="Deleted: " + ", ".join(listed) + f" ({size(removal.bytes)}).")
    lines = [f"Would delete {len(listed)} run{'s' if len(listed) > 1 else ''}, {size(removal.bytes)}:"]
    lines += [f"  {path}" for path in listed]
    if removal.refused:
        lines += ["But it would be refused:", *(f"  {reason}" for reason in removal.refused)]
    else:
        more = " --descendants" if descendants else ""
        lines.append(f"Nothing is deleted yet. Do it: tunesmith runs {folder} --delete{more} --yes")
    return Result({**facts, "deleted": False}, text="\n".join(lines))


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
    """A run by its folder, its name under runs/, or @NAME; ProjectError with the nearest names when there is none."""
    from tunesmith.core.errors import ProjectError
    from tunesmith.core.names import nearest
    from tunesmith.core.registry import named
    from tunesmith.report.page import is_run

    run = str(named(run, under))
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
    return children_of(folder, folder.parent)


def children_of(folder: Path, under: Path) -> list[Path]:
    """The runs beside this one, or anywhere below `under`, that were made from it."""
    own = folder.resolve()
    near = {path.resolve(): path for place in (under, folder.parent) for path in run_folders(place)}
    return [
        path for path in sorted(near.values()) if (parent := parent_of(path)) is not None and parent.resolve() == own
    ]
