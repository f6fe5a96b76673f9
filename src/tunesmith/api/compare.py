"""tunesmith compare: two evaluations of the same rows, which is better, and whether that can be told."""

from pathlib import Path
from typing import Literal

from tunesmith.core.result import Result


def compare(
    a: str, b: str, *, metric: str | None = None, name: str | None = None, lang: Literal["en", "ko"] = "en"
) -> Result:
    """Compare two runs on the same rows, with a paired test and the verdict in words.

    a, b     run folders, or evaluation files (runs/a/evals/test.json)
    metric   only this metric; default: all that both have, p-values adjusted for their number (Holm)
    name     which evaluation of the runs; default: the one they have in common, the test split's first
    lang     language of the verdict

    Both must have been scored on the same rows; others are refused with the counts.

    Example: tunesmith compare runs/prompt runs/lora
    """
    from tunesmith.core.errors import DataError
    from tunesmith.core.shelf import use
    from tunesmith.evals.compare import compare as compared
    from tunesmith.evals.files import read_evaluation
    from tunesmith.evals.panel import compare_panels

    paths = _pair(a, b, name)
    first, second = (read_evaluation(path) for path in paths)
    names = _names(a, b, paths)
    if "panel_hash" in first.summary and "panel_hash" in second.summary:
        changes = compare_panels(first, second, names=names, lang=lang)
        return Result(
            a=str(paths[0]),
            b=str(paths[1]),
            panel=changes,
            text="\n".join(f"{c['task']}: {c['verdict']}" for c in changes),
        )
    if "panel_hash" in first.summary or "panel_hash" in second.summary:
        raise DataError(
            f"One of {paths[0]} and {paths[1]} is a panel of other tasks.",
            wanted="Two panels, or two evaluations of rows.",
        )
    own = [file for file in first.summary.get("use", []) if Path(first.summary["root"], file).is_file()]
    use(own, first.summary.get("root", "."))  # the user's own metrics, as the evaluation used them
    found = compared(first, second, metrics=[metric] if metric else (), names=names, lang=lang)
    lines = [f"{one.metric}: {one.verdict}" for one in found]
    tests = ", ".join(dict.fromkeys(one.test for one in found))
    if lang == "ko":
        lines.append(
            f"같은 {found[0].n:,}개 행에서 비교함 ({tests})"
            + (", p값은 Holm 방식으로 조정함" if len(found) > 1 else "")
        )
    else:
        lines.append(
            f"On the same {found[0].n:,} rows ({tests})"
            + ("; p-values adjusted after Holm." if len(found) > 1 else ".")
        )
    return Result(
        a=str(paths[0]),
        b=str(paths[1]),
        n=found[0].n,
        comparisons=[one.as_dict() for one in found],
        text="\n".join(lines),
    )


def _pair(a: str, b: str, name: str | None) -> tuple[Path, Path]:
    """The two evaluations meant, without ending."""
    from tunesmith.core.errors import DataError

    first, second = _evaluations(a), _evaluations(b)
    if name is None and isinstance(first, dict) and isinstance(second, dict):
        shared = [each for each in first if each in second]
        if not shared:
            raise DataError(
                f"{a} and {b} have no evaluation of the same name.",
                wanted=f"In {a}: {', '.join(first) or 'none'}. In {b}: {', '.join(second) or 'none'}.",
                fix="Score both first (tunesmith eval RUN), or name the files: runs/a/evals/NAME.json",
            )
        name = "test" if "test" in shared else shared[0]
    return _chosen(a, first, name, b), _chosen(b, second, name, a)


def _evaluations(run: str) -> "dict[str, Path] | Path":
    """The evaluations of a run folder by name (panels last), or the path of one evaluation."""
    from tunesmith.core.errors import DataError

    path = Path(run)
    if not path.is_dir():
        if not path.exists() and not path.with_name(path.name + ".json").exists():
            raise DataError(f"There is no {run}.", wanted="A run folder, or an evaluation: runs/a/evals/test.json")
        return path
    inside = path / "evals" if (path / "evals").is_dir() else path
    found = {file.stem: file.with_suffix("") for file in inside.glob("*.json") if file.with_suffix(".jsonl").is_file()}
    return dict(sorted(found.items(), key=lambda item: (item[0].startswith("panel"), item[0])))


def _chosen(run: str, made: "dict[str, Path] | Path", name: str | None, other: str) -> Path:
    from tunesmith.core.errors import DataError

    if isinstance(made, Path):
        return made.with_suffix("") if made.suffix in (".json", ".jsonl") else made
    if name is None:  # the other is a file: the evaluation of its name, or the only one
        wanted = Path(other).stem
        name = wanted if wanted in made else next(iter(made)) if len(made) == 1 else wanted
    if name not in made:
        raise DataError(
            f"{run} has no evaluation {name}.",
            wanted=f"It has: {', '.join(made) or 'none'}.",
            fix=f"Score it first: tunesmith eval {run}",
        )
    return made[name]


def _names(a: str, b: str, paths: tuple[Path, Path]) -> tuple[str, str]:
    """Short names for the sentence: those of the run folders, or of the files where the folder is the same."""
    runs = [path.parent.parent.name if path.parent.name == "evals" else path.parent.name for path in paths]
    if runs[0] != runs[1] and all(runs):
        return runs[0], runs[1]
    if paths[0].name != paths[1].name:
        return paths[0].name, paths[1].name
    return (a, b) if a != b else ("A", "B")
