"""tunesmith data: what is in a data set, and what a model would be trained on."""

from typing import Any

from tunesmith.core.result import Result

FIRST = 3  # rows printed without --show
MOST_CHARACTERS = 300


def data(source: str | None = None, *, show: int | bool = 0, html: str | None = None, **keys: Any) -> Result:
    """Read data, recognise its shape, count, split and describe it; show what is trained on.

    source   a data file, folder or pattern; or a project file, whose `data:` is read; tunesmith.yaml here without it
    show     so many rows as the model's tokens, what is trained on in colour; alone, 3 of them
    html     write those rows as an HTML page there
    out      keep the prepared rows: out=FOLDER writes FOLDER/data/train.jsonl, dropped.jsonl, card.json, ...

    Example: tunesmith data faq.jsonl data.columns.answer=reply --show 3
    """
    import os
    import sys
    import tempfile
    from pathlib import Path

    from tunesmith.api.build import data_settings
    from tunesmith.api.config import resolve
    from tunesmith.api.rewards import step_helpers
    from tunesmith.core.errors import DataError
    from tunesmith.core.files import write_whole
    from tunesmith.data.card import told
    from tunesmith.data.prepare import prepare
    from tunesmith.data.show import page, shown
    from tunesmith.report.labels import speaker

    show = FIRST if show is True else int(show)
    config: Any = source
    if source is not None and not _is_project(source):
        # A file named here is read by what is said here, not by a project that happens to lie in this folder.
        config, keys = {}, {"data.path": source, **keys}
    project, _, root = resolve(config, **keys)
    settings = project.data
    if settings.path is None and settings.name is None:
        raise DataError("No data is given.", fix="Name a file: tunesmith data questions.jsonl")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(project.out) if project.out else Path(temporary)
        helpers = step_helpers(root, project.device)
        prepared = prepare(folder, seed=settings.seed, root=root, helpers=helpers, **data_settings(settings))
        rows = prepared.train
        first = [rows[i] for i in range(min(len(rows), max(show, FIRST)))]
    card = dict(prepared.card)
    say = speaker(project.lang)
    lines = [told(card, project.lang), ""]
    facts: dict[str, Any] = {
        "rows_in": card["counts"]["rows_in"],
        "rows_out": card["counts"]["rows_out"],
        "rows_dropped": card["counts"]["rows_dropped"],
        **card,
        "first": first,
    }
    if show or html:
        text, name = _text(project, root)
        chosen = first[: show or FIRST]
        coloured = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
        lines += [say("data_tokens_colour", name=name) if coloured else say("data_tokens_marks", name=name), ""]
        lines += [shown(row, text, style="ansi" if coloured else "plain") + "\n" for row in chosen]
        facts["tokenizer"] = name
        facts["shown"] = [shown(row, text) for row in chosen]
        if html:
            write_whole(
                html, page(chosen, text, title=f"{chosen[0]['origin'].rpartition(':')[0]} as {name} is trained on it")
            )
            lines.append(say("data_written", path=html))
    else:
        lines += [say("data_first"), *(_row(row) for row in first)]
    if project.out:
        lines.append(say("data_written", path=folder / "data"))
        facts["out"] = str(folder)
    return Result(facts, text="\n".join(lines).rstrip())


def _is_project(source: Any) -> bool:
    from pathlib import Path

    if not isinstance(source, str | Path):
        return False
    path = Path(source)
    return path.suffix.lower() in (".yaml", ".yml") or (path / "tunesmith.yaml").is_file()


def _text(project: Any, root: Any) -> tuple[Any, str]:
    """The Text of the project's model, and its name; bytes when the package came without the weights of mini."""
    from pathlib import Path

    from tunesmith.model.embedded import folder
    from tunesmith.text.encode import Text
    from tunesmith.text.tokenizer import Tokenizer, byte_tokenizer

    name = project.model
    here = folder(name) if name in ("mini", "pico") else Path(root) / Path(name).expanduser()
    if (here / "tokenizer.json").is_file():
        tokenizer = Tokenizer(here)
    elif name in ("mini", "pico"):
        tokenizer = byte_tokenizer()
        name = "pico (bytes)" if name == "pico" else "bytes, for the files of mini are not here"
    else:
        from tunesmith.model.load import (  # imports torch: only where a tokenizer must be found or converted
            find,
            read_tokenizer,
        )

        tokenizer = read_tokenizer(find(str(here) if here.is_dir() else name))
    return Text(tokenizer, length=project.length, reasoning=project.reasoning), name


def _row(row: dict[str, Any]) -> str:
    facts = "".join(
        f"  [{name} {row[name]}]" if name != "label" else f"  [{row[name]}]"
        for name in ("label", "score", "margin", "group")
        if name in row
    )
    beside = [name for name in ("text", "text2", "prefix", "middle", "suffix") if name in row]
    if beside == ["text"]:
        return f"  {row['origin']}{facts}  {_short(row['text'])}"
    lines = [f"  {row['origin']}{facts}"]
    for message in row.get("messages", ()):
        calls = [
            f"calls {call['function']['name']}({call['function']['arguments']})"
            for call in message.get("tool_calls", ())
        ]
        lines.append(f"    {message['role']}: {_short(' '.join([message['content'], *calls]).strip())}")
    for side in ("chosen", "rejected"):
        lines += [f"    {side}: {_short(message['content'])}" for message in row.get(side, ())]
    lines += [f"    {answer['score']:g}: {_short(answer['content'])}" for answer in row.get("answers", ())]
    if row.get("answer"):
        lines.append(f"    reference: {_short(row['answer'])}")
    lines += [f"    {name}: {_short(row[name])}" for name in beside]
    lines += [f"    {_short(text)}" for text in row.get("texts", ())]
    lines += [f"    not: {_short(text)}" for text in row.get("negatives", ())]
    return "\n".join(lines)


def _short(text: str) -> str:
    folded = " ".join(text.split())
    return folded if len(folded) <= MOST_CHARACTERS else folded[: MOST_CHARACTERS - 3] + "..."
