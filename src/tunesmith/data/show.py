"""Rows as a model is trained on them: the tokens that are trained on in colour, everything else dim.

>>> print(shown(row, text, style="plain"))
faq.jsonl:2  11 tokens, 3 trained on
<|user|>12시 땡!<|end|><|assistant|>⟦하루가 또 가네요.<|end|>⟧

What is shown is what `text` makes of the row, chat template and control tokens included: there is no second rendering.
"""

import html
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from tunesmith.core.errors import DataError
from tunesmith.data.rows import Row

Style = Literal["ansi", "plain", "html"]
_TRAINED, _READ, _OFF = "\x1b[1;32m", "\x1b[2m", "\x1b[0m"
_CSS = (
    ".tokens{white-space:pre-wrap;color:#777;font-family:monospace}"
    ".tokens mark{background:#c9f2d4;color:#0b3d1b;border-radius:2px}.tokens small{color:#b04a00}"
)


class Shows(Protocol):
    """What a Text gives: see text/encode.py."""

    length: int | None
    tokenizer: Any

    def segments(self, messages: Any, tools: Any = None) -> Any: ...
    def pieces(self, text: str, length: int | None = None) -> Any: ...


@dataclass(frozen=True)
class Stretch:
    """Neighbouring tokens with one weight: 0 is read only, 1 trained on, other weights count so much."""

    role: str
    text: str
    num_tokens: int
    num_trained: int
    weight: float


def stretches(row: Row, text: Shows) -> list[Stretch]:
    """A row cut where the speaker or what is trained on changes. Raises DataError as training would, naming the row."""
    if "messages" not in row:
        (whole,) = text.pieces(row["text"], 1 << 40)
        words = text.tokenizer.decode(whole.ids.tolist(), skip_special=False)
        # The first token is predicted from nothing and not trained on; to show that would cut through characters.
        return [Stretch("text", words, len(whole), whole.num_trained, 1.0)]
    try:
        segments = text.segments(row["messages"], row.get("tools"))
    except DataError as error:
        raise DataError(f"{row['origin']}: {error.found}", wanted=error.wanted, fix=error.fix) from None
    return [
        Stretch(one.role, one.text, len(one.ids), len(one.ids) if one.trained_on else 0, float(one.weight))
        for one in segments
    ]


def shown(row: Row, text: Shows, *, style: Style = "plain") -> str:
    """One row: its origin and counts, then its tokens as text. plain marks what is trained on with ⟦ ⟧."""
    parts = stretches(row, text)
    num, trained = sum(part.num_tokens for part in parts), sum(part.num_trained for part in parts)
    head = f"{row['origin']}  {num:,} tokens, {trained:,} trained on"
    if text.length is not None and num > text.length:
        head += f"  (longer than length: {text.length:,})"
    if style == "html":
        body = "".join(_html(part) for part in parts)
        return f"<p><b>{html.escape(head)}</b></p>\n<p class=tokens>{body}</p>"
    return f"{head}\n" + "".join(_ansi(part) if style == "ansi" else _plain(part) for part in parts)


def page(rows: Iterable[Row], text: Shows, *, title: str) -> str:
    """Rows as one HTML page that needs nothing else."""
    body = "\n".join(shown(row, text, style="html") for row in rows)
    return (
        f'<!doctype html>\n<meta charset="utf-8">\n<title>{html.escape(title)}</title>\n<style>{_CSS}</style>\n'
        f"<h1>{html.escape(title)}</h1>\n<p>Green is trained on; grey is read only.</p>\n{body}\n"
    )


def _weight(part: Stretch) -> str:
    return f"x{part.weight:g}" if part.weight not in (0.0, 1.0) else ""


def _ansi(part: Stretch) -> str:
    # Control characters of the data itself must not reach the terminal.
    words = "".join(c if c.isprintable() or c in "\n\t" else f"\\x{ord(c):02x}" for c in part.text)
    return f"{_TRAINED if part.weight else _READ}{words}{_weight(part)}{_OFF}"


def _plain(part: Stretch) -> str:
    return f"⟦{part.text}⟧{_weight(part)}" if part.weight else part.text


def _html(part: Stretch) -> str:
    weight = f"<small>{_weight(part)}</small>" if _weight(part) else ""
    return f"<mark>{html.escape(part.text)}</mark>{weight}" if part.weight else html.escape(part.text)
