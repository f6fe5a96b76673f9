"""A blank to be filled: prefix and suffix in, middle out, written with the model's own control tokens.

    blank = blank_of(tokenizer)                       # finds the control tokens, or says how to add them
    blank.prompt("def one():\n    return ", "\n")     # ids to generate the middle from; blank.stops ends it
    blank.example("def one():\n    return ", "1", "\n")   # what is trained on: exactly that prompt, the middle, the end
    blank.undo(ids)                                   # the text again

Two orders (Bavarian et al. 2022, arXiv 2207.14255, section 3): prefix-suffix-middle <PRE> prefix <SUF> suffix <MID> middle, and
suffix-prefix-middle <PRE> <SUF> suffix <MID> prefix middle, in which the middle directly follows its prefix.

Each part is turned into ids alone, in training as when served. So a blank that begins in the middle of a word is a token
border for both, and nothing has to be healed: what is before the blank is never merged with what is in it.
"""

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np

from tunesmith.core.errors import DataError, SettingError
from tunesmith.text.encode import Encoded, Text
from tunesmith.text.example import Example
from tunesmith.text.tokenizer import Tokenizer
from tunesmith.text.too_long import TooLong

# Prefix, middle and suffix token, and what ends a middle ("" = the end of text).
FAMILIES: dict[str, tuple[str, str, str, str]] = {
    "Qwen, CodeGemma, Tunesmith": ("<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>", ""),
    "StarCoder, Granite": ("<fim_prefix>", "<fim_middle>", "<fim_suffix>", ""),
    "SantaCoder": ("<fim-prefix>", "<fim-middle>", "<fim-suffix>", ""),
    "Code Llama": ("▁<PRE>", "▁<MID>", "▁<SUF>", "▁<EOT>"),
    "DeepSeek-Coder": ("<｜fim▁begin｜>", "<｜fim▁end｜>", "<｜fim▁hole｜>", ""),
}
OURS = FAMILIES["Qwen, CodeGemma, Tunesmith"][:3]
_JOINED = ("\u200d", "\ufe0e", "\ufe0f")  # joins emoji, chooses their picture: part of the character before


@dataclass(frozen=True, eq=False)
class Blank:
    """The control tokens of one tokenizer: ids of prefix, middle and suffix token, and of what ends a middle."""

    tokenizer: Tokenizer
    prefix: int
    middle: int
    suffix: int
    end: int
    names: re.Pattern[str]
    spaced: bool
    """True when the tokenizer puts a space before any text, as SentencePiece does: not inside a document"""

    @property
    def stops(self) -> tuple[int, ...]:
        """Every id that ends a middle: its end, the model's own ends, and a control token said by mistake."""
        return tuple(dict.fromkeys((self.end, *self.tokenizer.eos_ids, self.prefix, self.middle, self.suffix)))

    def prompt(self, prefix: str, suffix: str, *, spm: bool = False, room: int | None = None) -> list[int]:
        """Ids to generate the middle from: exactly those that come before it in training.

        spm   suffix first; a model of others is best asked prefix first, unless it says otherwise
        room  most ids; what is farthest from the blank on either side is left out
        """
        before, after = self._around(prefix, suffix, room)
        return self._prompt(before, after, spm)

    def example(
        self,
        prefix: str,
        middle: str,
        suffix: str,
        *,
        spm: bool = False,
        middle_only: bool = False,
        room: int | None = None,
    ) -> Example:
        """Prompt, middle and its end. Control tokens are read, never trained on: whoever serves the model writes them.

        middle_only  train on the middle and its end alone; otherwise on prefix and suffix too
        The column "middle" is 1 at the tokens of the middle and its end.
        """
        filled = [*(self._inside(middle) if prefix else self._begin(middle)), self.end]
        if room is not None and len(filled) + self.overhead - 1 > room:
            why = f"The middle alone has {len(filled)} tokens; trim_prompt never cuts it."
            raise TooLong(len(filled) + self.overhead - 1, room, why)
        before, after = self._around(prefix, suffix, None if room is None else room - len(filled))
        prompt = self._prompt(before, after, spm)
        control = {self.prefix, self.middle, self.suffix}
        read = [0.0 if middle_only or id in control else 1.0 for id in prompt]
        read[: len(self.tokenizer.prefix_ids)] = [0.0] * len(self.tokenizer.prefix_ids)
        column = np.array([0.0] * len(prompt) + [1.0] * len(filled), dtype=np.float32)
        return Example.of([*prompt, *filled], [*read, *([1.0] * len(filled))], middle=column)

    def plain(self, words: str, *, after: Sequence[int] = (), ends: bool = True) -> Example:
        """A text left to right, all of it trained on; `after` are ids it follows, `ends` whether the document ends with it."""
        begin = [*after] if after else self.tokenizer.prefix_ids
        body = self._inside(words) if after else self._begin(words)
        ids = [*begin, *body, *([self.end_of_text] if ends else [])]
        weights = [0.0] * len(begin) + [1.0] * (len(ids) - len(begin))
        return Example.of(ids, weights, middle=np.zeros(len(ids), dtype=np.float32))

    def undo(self, ids: Sequence[int]) -> str:
        """The text that `example` was made of, in its own order. Raises ValueError for ids that are none."""
        ids = [int(id) for id in ids][len(self.tokenizer.prefix_ids) :]
        places = [ids.index(id) for id in (self.prefix, self.suffix, self.middle)]
        first, second, third = places
        if first != 0 or not second < third or ids[-1] != self.end:
            raise ValueError("these ids are no filled blank")
        before, after, rest = ids[1:second], ids[second + 1 : third], ids[third + 1 : -1]
        begin = before or rest  # suffix first: the rest is prefix and middle
        written = self.tokenizer.decode(begin, skip_special=False)
        return written + (self._decode(rest) if before else "") + self._decode(after)

    @property
    def overhead(self) -> int:
        """Ids that are no text: the beginning, three control tokens, the end."""
        return len(self.tokenizer.prefix_ids) + 4

    @property
    def end_of_text(self) -> int:
        """The id that ends a document."""
        return self.tokenizer.suffix_ids[0] if self.tokenizer.suffix_ids else self.tokenizer.eos or self.end

    def _prompt(self, before: list[int], after: list[int], spm: bool) -> list[int]:
        start = self.tokenizer.prefix_ids
        if spm and before:  # without a prefix the two orders are one
            return [*start, self.prefix, self.suffix, *after, self.middle, *before]
        return [*start, self.prefix, *before, self.suffix, *after, self.middle]

    def _around(self, prefix: str, suffix: str, room: int | None) -> tuple[list[int], list[int]]:
        before, after = self._begin(prefix), self._inside(suffix)
        if room is None or len(before) + len(after) + self.overhead - 1 <= room:
            return before, after
        left = max(0, room - self.overhead + 1)
        num_after = min(len(after), max(left // 2, left - len(before)))
        num_before = left - num_after
        return before[len(before) - num_before :], after[:num_after]

    def _begin(self, words: str) -> list[int]:
        """Ids of the beginning of a document: with the space before it where the tokenizer writes one, as Code Llama's prefix."""
        return self.tokenizer.encode(words) if words and not self.names.search(words) else self._inside(words)

    def _inside(self, words: str) -> list[int]:
        """Ids of a part of a document: no space is put before it, and nobody writes a control token by typing its name."""
        if not words:
            return []
        if not self.spaced and not self.names.search(words):
            return self.tokenizer.encode(words)
        ids: list[int] = []
        at = 0
        for found in [*self.names.finditer(words), None]:
            piece = words[at : found.start() if found else len(words)]
            if piece:
                ids += self._continued(piece, self.tokenizer.encode)
            if found:
                ids += self._continued(found[0], self.tokenizer.encode_unadded)
                at = found.end()
        return ids

    def _continued(self, words: str, encode: Any) -> list[int]:
        if not self.spaced:
            return list(encode(words))
        newline = encode("\n")  # a text after a newline gets no space; the newline is taken off again
        ids = encode("\n" + words)
        return list(ids[len(newline) :] if ids[: len(newline)] == newline else encode(words))

    def _decode(self, ids: list[int]) -> str:
        if not self.spaced:
            return self.tokenizer.decode(ids, skip_special=False)
        newline = self.tokenizer.encode("\n")
        return self.tokenizer.decode([*newline, *ids], skip_special=False).partition("\n")[2]


@lru_cache(maxsize=8)
def blank_of(tokenizer: Tokenizer) -> Blank:
    """The control tokens for blanks that a tokenizer has. Raises SettingError with the line to add when it has none."""
    for prefix, middle, suffix, end in FAMILIES.values():
        ids = [id for name in (prefix, middle, suffix) if (id := tokenizer.id_of(name)) is not None]
        if len(ids) < 3:
            continue
        ending = tokenizer.id_of(end) if end else None
        if ending is None:
            ending = tokenizer.eos if tokenizer.eos is not None else next(iter(tokenizer.eos_ids), None)
        if ending is None:
            raise SettingError("The tokenizer has no token that ends a text, so a middle would never end.")
        names = re.compile("|".join(re.escape(name) for name in (prefix, middle, suffix, end) if name))
        alone, newline = tokenizer.encode("a"), tokenizer.encode("\n")
        spaced = tokenizer.encode("\na")[len(newline) :] != alone
        return Blank(tokenizer, ids[0], ids[1], ids[2], ending, names, spaced)
    raise SettingError(
        "The model has no control tokens for a blank (prefix, middle, suffix).",
        wanted="Tokens of one of these families: "
        + "; ".join(f"{who} ({names[0]})" for who, names in FAMILIES.items()),
        fix="Give it some, they are learned under every adapter:  add_tokens: ["
        + ", ".join(f'"{n}"' for n in OURS)
        + "]",
    )


def prompt_ids(text: Text, prefix: str, suffix: str, *, spm: bool = False, room: int | None = None) -> list[int]:
    """Ids to generate the words between prefix and suffix from; end at `blank_of(text.tokenizer).stops`.

    prompt_ids(text, "return ", "\\n")  ->  <|fim_prefix|> return <|fim_suffix|> \\n <|fim_middle|>
    """
    return blank_of(text.tokenizer).prompt(prefix, suffix, spm=spm, room=room)


def filled(
    text: Text, prefix: str, middle: str, suffix: str, *, spm: bool = False, middle_only: bool = False
) -> Encoded:
    """The Example of a blank and what belongs in it, under the too_long policy.

    trim_prompt leaves out what is farthest from the blank. Raises TooLong, and DataError for parts that are no text.
    """
    for name, part in (("prefix", prefix), ("middle", middle), ("suffix", suffix)):
        if not isinstance(part, str):
            raise DataError(f'"{name}" is a {type(part).__name__}: {part!r:.60}', wanted="Text.")
    blank = blank_of(text.tokenizer)
    settings: dict[str, Any] = {"spm": spm, "middle_only": middle_only}
    example = blank.example(prefix, middle, suffix, **settings)
    if text.length is None or len(example) <= text.limit:
        return Encoded([example])
    num = len(example) + text.virtual
    if text.too_long == "drop":
        return Encoded(dropped=[f"too long: {num} tokens, length is {text.length}"])
    if text.too_long == "trim_prompt":
        text.num_trimmed += 1
        return Encoded([blank.example(prefix, middle, suffix, room=text.limit, **settings)])
    why = (
        "too_long: split cuts raw text; prefix, middle and suffix belong together." if text.too_long == "split" else ""
    )
    raise TooLong(num, text.limit, why)


def blanked(
    text: Text, words: str, draw: Any, *, rate: float, spm: float, whole: bool = False, middle_only: bool = False
) -> Encoded:
    """Examples of a raw text in which a random stretch of characters was made a blank, with probability `rate`.

    whole  True: the blank is made in the whole document, which is then cut into pieces like any text (document level). False:
           the document is cut first, and each stretch gets a blank of its own and fits with its control tokens (context level)
    """
    blank = blank_of(text.tokenizer)

    def one(stretch: str, after: list[int], ends: bool) -> Example:
        if draw.random() >= rate:
            return blank.plain(stretch, after=after, ends=ends)
        left, right = cuts(stretch, draw, text.tokenizer)
        parts = stretch[:left], stretch[left:right], stretch[right:]
        return blank.example(*parts, spm=draw.random() < spm, middle_only=middle_only)

    if text.length is None:
        return Encoded([one(words, [], True)])
    if whole or text.too_long != "split":
        example = one(words, [], True)
        if len(example) <= text.limit:
            return Encoded([example])
        num = len(example) + text.virtual
        if text.too_long == "split":
            return Encoded(_pieces(example, text.limit))
        if text.too_long == "drop":
            return Encoded(dropped=[f"too long: {num} tokens, length is {text.length}"])
        raise TooLong(num, text.limit, "" if text.too_long == "error" else "A raw text has no prompt to trim.")
    return Encoded(_contexts(one, words, blank, text.limit))


def cuts(words: str, draw: Any, tokenizer: Tokenizer) -> tuple[int, int]:
    """Two random places in a text, by characters, first the earlier. Neither splits a character from its marks, nor an added token."""
    left, right = sorted(int(at) for at in draw.integers(0, len(words) + 1, size=2))
    spans = _added_spans(words, tokenizer)
    return _snapped(words, left, spans), _snapped(words, right, spans)


def _snapped(words: str, at: int, spans: list[tuple[int, int]]) -> int:
    for start, end in spans:
        if start < at < end:
            at = start
    while 0 < at < len(words) and (
        unicodedata.combining(words[at])
        or words[at] in _JOINED
        or words[at - 1] == "\u200d"
        or words[at - 1 : at + 1] == "\r\n"
    ):
        at -= 1
    return at


def _added_spans(words: str, tokenizer: Tokenizer) -> list[tuple[int, int]]:
    """Where added tokens that may be typed stand in a text; control tokens that are typed are text like any other."""
    pattern = _typed_tokens(tokenizer, tokenizer.vocab_size)
    return [found.span() for found in pattern.finditer(words)] if pattern else []


@lru_cache(maxsize=8)
def _typed_tokens(tokenizer: Tokenizer, _vocab_size: int) -> re.Pattern[str] | None:
    names = [token.content for token in tokenizer.backend.get_added_tokens_decoder().values() if not token.special]
    return re.compile("|".join(map(re.escape, sorted(names, key=len, reverse=True)))) if names else None


def _contexts(one: Any, words: str, blank: Blank, limit: int) -> list[Example]:
    """Stretches of a text that fit, each made by `one`; a stretch that came out too long is halved."""
    if limit < blank.overhead + 2:
        raise SettingError(f"length: {limit} leaves no room for a blank.", wanted=f"At least {blank.overhead + 2}.")
    ends = np.array([end for _, end in blank.tokenizer.encodings([words])[0].offsets], dtype=np.int64)
    room = limit - blank.overhead - 1
    todo, start = [], 0
    while start < len(words):
        first = int(np.searchsorted(ends, start, side="right"))
        end = len(words) if first + room >= len(ends) else max(int(ends[first + room - 1]), start + 1)
        todo.append((start, end))
        start = end
    made: list[Example] = []
    todo = todo[::-1] or [(0, 0)]
    while todo:
        start, end = todo.pop()
        after = blank._inside(words[max(0, start - 40) : start])[-1:]
        example = one(words[start:end], after, end == len(words))
        if len(example) <= limit or end - start < 2:
            made.append(example)
        else:
            middle = (start + end) // 2
            todo += [(middle, end), (start, middle)]
    return made


def _pieces(example: Example, length: int) -> list[Example]:
    """An Example in pieces that share one token, so that every token is predicted once, as Text.pieces."""
    return [
        replace(
            Example.of(example.ids[at : at + length].tolist(), example.weights[at : at + length].tolist()),
            columns={name: value[at : at + length] for name, value in example.columns.items()},
        )
        for at in range(0, len(example) - 1, length - 1)
    ]
