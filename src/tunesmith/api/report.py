"""tunesmith report: a run folder as one page for people."""

from pathlib import Path
from typing import Any, Literal

from tunesmith.core.result import Result

SHOWN = 3  # rows shown with the tokens that were trained on
MOST_TOKENS = 400  # of one of them


def report(run: str | None = None, *, lang: Literal["en", "ko"] | None = None) -> Result:
    """Write report.html of a run, or of a comparison, and say what it found.

    run    a run folder, or a folder with report.json; the newest run under runs/ without it
    lang   en or ko; the run's own language without it

    The page is one file: no script, nothing from the network. It can be mailed and printed.

    Example: tunesmith report runs/train-1 lang=ko
    """
    from tunesmith.api.runs import newest, run_path
    from tunesmith.report.labels import speaker
    from tunesmith.report.page import choose_language, own_language, read_report, write_report
    from tunesmith.report.read import as_dict
    from tunesmith.report.terminal import summary

    folder = run_path(run) if run else newest(Path("runs"))
    beside = as_dict(read_report(folder).get("runs")).values() if (folder / "report.json").is_file() else ()
    for one in (folder, *(folder / str(path) for path in beside)):
        describe_data(one)
        describe_seeds(one)
    page = write_report(folder, lang=lang)
    say = speaker(choose_language(lang, own_language(folder)))
    text = f"{summary(folder, lang=lang)}\n\n{say('written', path=page)}"
    return Result({"run": str(folder), "report": str(page), "bytes": page.stat().st_size}, text=text)


def describe_data(folder: Path) -> None:
    """Write data/lengths.json and data/examples.json of a training run: what the page shows of its tokenised rows.

    Taken from the cache that was trained on, so the lengths and the trained-on tokens are those that were. Files that are
    there, and runs without a cache or a tokenizer, are left as they are.
    """
    from tunesmith.core.files import write_json

    data = folder / "data"
    if not (data / "cache" / "train" / "meta.json").is_file():
        return
    from tunesmith.data.cache import UnitCache
    from tunesmith.report.read import as_dict, lengths_of, read_yaml

    cache = UnitCache.open(data / "cache" / "train")
    if cache is None or not len(cache):
        return
    if not (data / "lengths.json").is_file():
        limit = as_dict(read_yaml(folder / "project.yaml", [])).get("length")
        write_json(data / "lengths.json", lengths_of(cache.lengths, limit=limit if isinstance(limit, int) else None))
    saved = next((folder / name for name in ("adapter", "model") if (folder / name / "tokenizer.json").is_file()), None)
    if saved is None or (data / "examples.json").is_file():
        return
    from tunesmith.text.tokenizer import Tokenizer

    tokenizer = Tokenizer(saved)
    units = (cache[i] for i in range(min(SHOWN, len(cache))))
    write_json(data / "examples.json", [_shown(unit, tokenizer) for unit in units])


def describe_seeds(folder: Path) -> None:
    """Write seeds.json of a training run: how much its figures move over the runs beside it that differ in seed alone."""
    from tunesmith.api.runs import over_seeds
    from tunesmith.core.files import write_json

    place = folder / "seeds.json"
    found = over_seeds(folder) if (folder / "project.yaml").is_file() else {}
    if found:
        write_json(place, found)
    else:
        place.unlink(missing_ok=True)  # of runs that have gone


def _shown(unit: Any, tokenizer: Any) -> dict[str, Any]:
    """A Unit as text, cut where training starts and stops."""
    segments: list[dict[str, Any]] = []
    for example in unit.examples:
        ids, trained = example.ids[:MOST_TOKENS].tolist(), (example.weights[:MOST_TOKENS] > 0).tolist()
        start = 0
        for end in range(1, len(ids) + 1):
            if end == len(ids) or trained[end] != trained[start]:
                text = tokenizer.decode(ids[start:end], skip_special=False)
                segments.append({"role": "", "text": text, "trained_on": trained[start]})
                start = end
        if len(example.ids) > MOST_TOKENS:
            segments.append({"role": "", "text": " ...", "trained_on": False})
        if len(unit.examples) > 1:
            segments.append({"role": "", "text": "\n", "trained_on": False})
    return {"origin": unit.origin, "segments": segments}
