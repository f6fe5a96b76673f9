"""Rows as a model is trained on them: the tokens that are trained on in colour, everything else dim.

>>> print(shown(row, text, style="plain"))
faq.jsonl:2  11 tokens, 3 trained on
<|user|>12시 땡!<|end|><|assistant|>⟦하루가 또 가네요.<|end|>⟧

What is shown is what `text` makes of the row, chat template and control tokens included: there is no second rendering.
"""

import html
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from tunesmith.core.errors import DataError
from tunesmith.data.kinds import kind_of, pieces
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
    def prompt(self, messages: Any, tools: Any = None, prefill: str = "") -> list[int]: ...


@dataclass(frozen=True)
class Stretch:
    """Neighbouring tokens with one weight: 0 is read only, 1 trained on, other weights count so much."""

    role: str
    text: str
    num_tokens: int
    num_trained: int
    weight: float


def stretches(row: Row, text: Shows) -> list[Stretch]:
    """A row cut where the speaker or what is trained on changes. Raises DataError as training would, naming the row.

    Of rows that hold several answers this is the first; `views` gives all."""
    return views(row, text)[0][1]


def views(row: Row, text: Shows) -> list[tuple[str, list[Stretch]]]:
    """Every reading of a row that a method makes tokens of, with its name: ("", ...), or ("chosen", ...), ("rejected", ...).

    How a method joins a pair of texts, or the parts of a gap, is its own: these are shown one by one.
    """
    kind = kind_of(row)
    if kind == "preference":
        return [(side, _chat(row, row["messages"] + row[side], text)) for side in ("chosen", "rejected")]
    if kind == "scored":
        return [
            (f"score {answer['score']:g}", _chat(row, [*row["messages"], _answer(answer["content"])], text))
            for answer in row["answers"]
        ]
    if kind == "rated":
        return [("good" if row["label"] else "not good", _chat(row, row["messages"], text))]
    if kind == "prompt":
        told = [("reference answer", [_read("reference", row["answer"], text)])] if row.get("answer") else []
        ids = _refusing(row, lambda: text.prompt(row["messages"], row.get("tools")))
        words = text.tokenizer.decode(ids, skip_special=False)
        return [("prompt", [Stretch("prompt", words, len(ids), 0, 0.0)]), *told]
    if kind == "chat":
        return [("", _chat(row, row["messages"], text))]
    if kind == "infill":
        parts = {name: _read(name, row[name], text) for name in ("prefix", "middle", "suffix")}
        gap = parts["middle"]
        parts["middle"] = Stretch("middle", gap.text, gap.num_tokens, gap.num_tokens, 1.0)
        return [(name, [part]) for name, part in parts.items()]
    if kind in ("pair", "group") or "label" in row:
        facts = [f"{name} {row[name]}" for name in ("label", "score") if name in row]
        texts = [(piece.name, [_read(piece.name, piece.text, text)]) for piece in pieces(row)]
        return [(", ".join([name, *facts]) if number == 0 else name, part) for number, (name, part) in enumerate(texts)]
    (whole,) = text.pieces(row["text"], 1 << 40)
    words = text.tokenizer.decode(whole.ids.tolist(), skip_special=False)
    # The first token is predicted from nothing and not trained on; to show that would cut through characters.
    return [("", [Stretch("text", words, len(whole), whole.num_trained, 1.0)])]


def _chat(row: Row, messages: list[dict[str, Any]], text: Shows) -> list[Stretch]:
    return [
        Stretch(one.role, one.text, len(one.ids), len(one.ids) if one.trained_on else 0, float(one.weight))
        for one in _refusing(row, lambda: text.segments(messages, row.get("tools")))
    ]


def _refusing(row: Row, make: Callable[[], Any]) -> Any:
    try:
        return make()
    except DataError as error:
        raise DataError(f"{row['origin']}: {error.found}", wanted=error.wanted, fix=error.fix) from None


def _answer(content: str) -> dict[str, Any]:
    return {"role": "assistant", "content": content}


def _read(role: str, words: str, text: Shows) -> Stretch:
    """A text that is read only, without the tokens that a method puts around it."""
    return Stretch(role, words, len(text.tokenizer.encode(words)), 0, 0.0)


def shown(row: Row, text: Shows, *, style: Style = "plain") -> str:
    """One row: its origin and counts, then its tokens as text. plain marks what is trained on with ⟦ ⟧."""
    made = [_shown(row, name, parts, text, style) for name, parts in views(row, text)]
    return "\n".join(made)


def _shown(row: Row, name: str, parts: list[Stretch], text: Shows, style: Style) -> str:
    num, trained = sum(part.num_tokens for part in parts), sum(part.num_trained for part in parts)
    head = row["origin"] + (f" ({name})" if name else "") + f"  {num:,} tokens, {trained:,} trained on"
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
