"""tunesmith teach: a teacher's answers, as rows that a smaller model learns from."""

import sys
from typing import Any

from tunesmith.core.result import Result


def teach(
    teacher: str,
    source: str | None = None,
    *,
    out: str = "taught.jsonl",
    n: int = 1,
    max_tokens: int = 256,
    temperature: float = 0.0,
    top_p: float = 1.0,
    seed: int = 0,
    top: int = 0,
    batch: int = 64,
    encoding: str | None = None,
    device: str = "auto",
    **reading: Any,
) -> Result:
    """Let a teacher answer the prompts of a file; its answers become rows to learn from.

    teacher      a run, a model's folder or name
    source       a file of prompts, or of chats: their last answers are put aside and given anew
    out          the file to write (JSONL); what was dropped and why stands in OUT-dropped.jsonl
    n            different answers to each prompt; more than 1 needs a temperature
    max_tokens   most tokens of an answer; one that was cut there is dropped
    temperature, top_p, seed   how answers are drawn; each row says so, and by whom
    top          also store so many of the teacher's likeliest tokens at every place, for method=distill
    batch        answers made at a time
    encoding     of the file (cp949, ...)
    device       auto = a GPU where there is one; cpu, cuda, cuda:1
    reading      how the file is read, as in a project: data.columns.prompt=COLUMN, data.shape, data.bad_rows=drop

    The student then learns them with method=sft, whatever its tokenizer, or with method=distill where `top` was given and it has
    the teacher's own.

    Example: tunesmith teach runs/big questions.jsonl n=4 temperature=0.8
    """
    from pathlib import Path

    from tunesmith.adapters.store import merged, open_run
    from tunesmith.api.device import take
    from tunesmith.core.errors import DataError, SettingError
    from tunesmith.core.files import to_json, writing
    from tunesmith.model.teacher import Teacher, taught
    from tunesmith.objectives.distill import with_top
    from tunesmith.text.encode import Text

    path = Path(out)
    if path.exists():
        raise SettingError(f"{path} is already there.", fix="Choose another file: out=...")
    left_out: list[dict[str, Any]] = []
    rows = _asked(source, encoding, reading, left_out)
    if not all("messages" in row for row in rows):
        raise DataError(f"{source or 'The data'} holds no prompts.", wanted="Prompts, questions, or conversations.")
    model = merged(open_run(teacher, device=take(device)))
    text = Text(model.tokenizer, length=model.context)
    kept, dropped = taught(
        model, text, rows, n=n, max_tokens=max_tokens, temperature=temperature, top_p=top_p, seed=seed, batch=batch,
        name=teacher, shown=_told if sys.stderr.isatty() else None,
    )  # fmt: skip
    dropped = [*left_out, *dropped]
    if not kept:
        raise DataError(
            f"none of the {len(dropped)} answers can be learned from: {_reasons(dropped)}",
            fix="Raise max_tokens if they were cut; else look at the teacher: tunesmith chat",
        )
    lines = with_top(kept, text, Teacher.of(model, model.tokenizer), top) if top else iter(kept)
    with writing(path) as file:
        for row in lines:
            flat = {**{k: v for k, v in row.items() if k not in ("columns", "origin")}, **row["columns"]}
            file.write((to_json(flat) + "\n").encode())
    if dropped:
        with writing(path.with_name(f"{path.stem}-dropped.jsonl")) as file:
            for drop in dropped:
                file.write((to_json(drop) + "\n").encode())
    told = [f"{len(kept):,} answers of {teacher} to {len(rows):,} prompts: {path}"]
    told += [f"{len(dropped):,} dropped: {_reasons(dropped)}"] if dropped else []
    how = "distill" if top else "sft"
    told.append(f"Next:   tunesmith train data={path} method={how} model=...")
    return Result(out=str(path), rows=len(kept), dropped=len(dropped), prompts=len(rows), text="\n".join(told))


def _asked(source: str | None, encoding: str | None, keys: dict[str, Any], left_out: list[dict[str, Any]]) -> list[Any]:
    """The rows to be answered, read as the section `data` of a project would be; rows that cannot be are added to `left_out`."""
    from inspect import signature

    from tunesmith.api.config import _nested
    from tunesmith.core.errors import DataError, SettingError
    from tunesmith.core.fill import as_section, fill, unknown_setting
    from tunesmith.core.project import merge
    from tunesmith.data.read import read
    from tunesmith.data.settings import DataSettings

    nested = _nested(keys)
    for key in nested:
        if key != "data":
            raise unknown_setting(key, ["data"], "", also=[f"data.{name}" for name in signature(read).parameters])
    given = as_section(DataSettings, nested.get("data"), "data")
    said = {name: value for name, value in (("path", source), ("encoding", encoding)) if value is not None}
    settings = fill(DataSettings, merge(said, given), "data")
    known = [name for name in signature(read).parameters if hasattr(settings, name)]
    for name in given:
        if name not in ("path", *known):
            raise SettingError(f"data.{name} is set, but a teacher answers every row.", fix="Leave it out.")
    if settings.path is None and settings.name is None:
        raise DataError("No prompts are given.", fix="Name a file: tunesmith teach RUN questions.jsonl")
    how = {name: getattr(settings, name) for name in known}
    return list(read(settings.path, **how, need_answer=False, kinds=("prompt", "chat"), on_drop=left_out.append))


def _reasons(dropped: list[dict[str, Any]]) -> str:
    from collections import Counter

    counted = Counter(drop["reason"] for drop in dropped).most_common()
    return ", ".join(f"{reason} ({number:,})" for reason, number in counted)


def _told(done: int, total: int) -> None:
    print(f"\r{done:,} of {total:,} answers", end="\n" if done == total else "", file=sys.stderr, flush=True)
