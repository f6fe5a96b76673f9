"""64-bit hashes of what rows say, and a set of them that takes 8 bytes each (a Python set takes about 70).

>>> seen = HashSet(); seen.add(7), seen.add(7), 7 in seen
(True, False, True)
"""

import hashlib
import json
import unicodedata
from collections.abc import Iterable

import numpy as np

from tunesmith.data.kinds import kind_of, pieces
from tunesmith.data.rows import Row

_RECENT = 1 << 13


def content_hash(row: Row, part: str = "all", *, seed: int = 0) -> int:
    """A row's content as a number below 2**64; equal for rows that differ in white space, case or width of letters only.

    part  all (with roles, tools, label and scores), prompt (what comes before the last answer, or before the answers that
          are compared), or answer (the last answer, or all that are compared)
    seed  other seeds give other, unrelated numbers: sorted by them, rows are shuffled, whatever order they came in
    """
    content: list[str] = []
    messages = row.get("messages")
    if messages is None:
        content += _said(row, part)
    else:
        kind = kind_of(row)
        answered = kind in ("chat", "rated")  # of other kinds all messages are the prompt
        last = len(messages)
        if answered and part != "all":
            last = max((i for i, turn in enumerate(messages) if turn["role"] == "assistant"), default=last)
        for message in messages if part == "all" else messages[:last] if part == "prompt" else messages[last:]:
            content += (message["role"], message["content"])
            if "tool_calls" in message:
                content.append(json.dumps(message["tool_calls"], sort_keys=True, ensure_ascii=False))
        if part != "prompt" and kind != "chat":
            content += _judged(row)
        if part != "answer" and "tools" in row:
            content.append(json.dumps(row["tools"], sort_keys=True, ensure_ascii=False))
    told = _folded(" \0 ".join(content))  # the zeros stand alone, so that white space at an end does not count
    return int.from_bytes(hashlib.blake2b(told.encode(), digest_size=8, key=str(seed).encode()).digest(), "little")


def _said(row: Row, part: str) -> list[str]:
    """What a row without messages says. Of raw text every part is the text; a label is no part of the prompt."""
    found = [piece.text for piece in pieces(row) if part == "all" or piece.part in (part, "text")]
    if part != "prompt":
        found += [str(row[name]) for name in ("label", "score") if name in row]
    return found


def _judged(row: Row) -> list[str]:
    """The answers beside the messages, with what is thought of them."""
    found = [str(row["label"])] if "label" in row else []
    found += [word for piece in pieces(row) if piece.name in ("chosen", "rejected") for word in piece[1:]]
    for answer in row.get("answers", ()):
        found += (answer["content"], str(answer["score"]))
    if isinstance(row.get("answer"), str):
        found.append(row["answer"])
    return found


def _folded(text: str) -> str:
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text)
    return " ".join(text.split()).casefold()


class HashSet:
    """A growing set of 64-bit numbers: sorted arrays that are merged as they grow, and a small set of the newest."""

    def __init__(self, values: Iterable[int] = ()) -> None:
        self._sorted: list[np.ndarray] = []
        self._recent: set[int] = set()
        for value in values:
            self.add(value)

    def add(self, value: int) -> bool:
        """Add a number; False when it was there."""
        if value in self:
            return False
        self._recent.add(value)
        if len(self._recent) >= _RECENT:
            self._sorted.append(np.sort(np.fromiter(self._recent, np.uint64, len(self._recent))))
            self._recent = set()
            # Like carrying in binary addition: a number is merged log2(n) times in all.
            while len(self._sorted) > 1 and len(self._sorted[-2]) <= len(self._sorted[-1]):
                last, before = self._sorted.pop(), self._sorted.pop()
                merged = np.concatenate([before, last])
                del last, before
                merged.sort()
                self._sorted.append(merged)
        return True

    def __contains__(self, value: int) -> bool:
        if value in self._recent:
            return True
        wanted = np.uint64(value)
        for values in self._sorted:
            at = int(values.searchsorted(wanted))
            if at < len(values) and values[at] == wanted:
                return True
        return False

    def __len__(self) -> int:
        return len(self._recent) + sum(map(len, self._sorted))
