"""tunesmith report: a run folder as one page for people."""

from typing import Literal

from tunesmith.core.result import Result


def report(run: str | None = None, *, lang: Literal["en", "ko"] | None = None) -> Result:
    """Write report.html of a run, or of a comparison, and say what it found.

    run    a run folder, or a folder with report.json; the newest run under runs/ without it
    lang   en or ko; the run's own language without it

    The page is one file: no script, nothing from the network. It can be mailed and printed.

    Example: tunesmith report runs/train-1 lang=ko
    """
    from pathlib import Path

    from tunesmith.api.runs import newest, run_path
    from tunesmith.report.labels import speaker
    from tunesmith.report.page import choose_language, own_language, write_report
    from tunesmith.report.terminal import summary

    folder = run_path(run) if run else newest(Path("runs"))
    page = write_report(folder, lang=lang)
    say = speaker(choose_language(lang, own_language(folder)))
    text = f"{summary(folder, lang=lang)}\n\n{say('written', path=page)}"
    return Result({"run": str(folder), "report": str(page), "bytes": page.stat().st_size}, text=text)
