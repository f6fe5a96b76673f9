"""The kinds of canonical rows: what tells them apart, which texts a row holds, and which rows belong on one side of a split.

>>> row = {"messages": [{"role": "user", "content": "왜?"}], "chosen": [...], "rejected": [...]}
>>> kind_of(row)
'preference'
>>> [(piece.part, piece.name) for piece in pieces(row)]
[('prompt', 'prompt'), ('answer', 'chosen'), ('answer', 'rejected')]

What counts, hashes, cleans and shows rows asks here, so that a new kind is written down in this one file.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from tunesmith.data.rows import Row

# The kind -> what such a row is, in words for people.
KINDS: dict[str, str] = {
    "chat": "conversations",
    "text": "raw text",
    "text+label": "texts with labels",
    "preference": "preference pairs (a prompt, a chosen and a rejected answer)",
    "rated": "rated answers (a prompt, an answer, good or not)",
    "scored": "scored answers (a prompt and several answers with their scores)",
    "prompt": "prompts without answers to learn",
    "infill": "texts with a gap (prefix, middle, suffix)",
    "pair": "pairs of texts",
    "group": "groups of texts that mean the same",
}
_BY_KEY = (("chosen", "preference"), ("answers", "scored"), ("middle", "infill"), ("texts", "group"))
# What rows with messages may have besides: most have none of it, and are told by their messages alone.
_BESIDE = frozenset(("chosen", "rejected", "answers", "answer", "label", "middle", "texts"))
_PROMPT_LEVEL = ("preference", "rated", "scored", "prompt")


class Piece(NamedTuple):
    """One text of a row. part: prompt, answer or text. name: what the data card counts it under."""

    part: str
    name: str
    text: str


def kind_of(row: Mapping[str, Any]) -> str:
    """The kind of one canonical row. Messages of which none is trained on are a prompt."""
    alone = "messages" in row and _BESIDE.isdisjoint(row)
    for key, kind in () if alone else _BY_KEY:
        if key in row:
            return kind
    if "messages" in row:
        if isinstance(row.get("label"), bool):
            return "rated"
        if "answer" in row:
            return "prompt"
        for turn in reversed(row["messages"]):
            if turn["role"] == "assistant" and turn.get("train", True):
                return "chat"
        return "prompt"
    if "label" in row:
        return "text+label"
    return "pair" if "text2" in row else "text"


def pieces(row: Mapping[str, Any]) -> list[Piece]:
    """Every text of a row, in the order in which people read it."""
    kind = kind_of(row)
    found: list[Piece] = []
    theirs = "answer" if kind in ("chat", "rated") else "prompt"
    for message in row.get("messages", ()):
        part = theirs if message["role"] == "assistant" else "prompt"
        found.append(Piece(part, part, message["content"]))
    if kind == "chat":
        return found
    for name in ("chosen", "rejected"):
        found += [Piece("answer", name, message["content"]) for message in row.get(name, ())]
    found += [Piece("answer", "answer", answer["content"]) for answer in row.get("answers", ())]
    if isinstance(row.get("answer"), str):
        found.append(Piece("answer", "answer", row["answer"]))
    for name, part in (("prefix", "prompt"), ("middle", "answer"), ("suffix", "prompt")):
        if name in row:
            found.append(Piece(part, name, row[name]))
    found += [Piece("text", name, row[name]) for name in ("text", "text2") if name in row]
    found += [Piece("text", name[:-1], text) for name in ("texts", "negatives") for text in row.get(name, ())]
    return found


def mapped(row: Row, change: Callable[[str], str]) -> Row:
    """The row with every text changed; roles, labels, scores and columns stay."""

    def messages(turns: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
        return [{**turn, "content": change(turn["content"])} for turn in turns]

    made = dict(row)
    for name in ("messages", "chosen", "rejected", "answers"):
        if name in row:
            made[name] = messages(row[name])
    for name in ("text", "text2", "prefix", "middle", "suffix", "answer"):
        if isinstance(row.get(name), str):
            made[name] = change(row[name])
    for name in ("texts", "negatives"):
        if name in row:
            made[name] = [change(text) for text in row[name]]
    return made


def split_by(row: Mapping[str, Any]) -> str:
    """What must not be on two sides of a split: "prompt" where several rows judge answers to one prompt, else "all"."""
    return "prompt" if kind_of(row) in _PROMPT_LEVEL else "all"
