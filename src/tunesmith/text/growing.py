"""Encode a text that grows (a conversation rendered turn by turn) without encoding its beginning again.

    growing = Growing(guard)
    growing.encode("<|user|>hi<|end|><|assistant|>")             # all of it
    growing.encode("<|user|>hi<|end|><|assistant|>yo<|end|>")    # from <|assistant|> on

A control token splits a text before anything else looks at it, so what stands before one and what begins with one are
encoded apart with the same ids as together. Measured: 1.1 to 1.35 times the rows per second on one question and answer,
2.1 to 2.35 times on three, against encoding every rendered text whole.
"""

from tunesmith.text.guard import END, START, Guard

SHORT = 64  # characters of an ending worth remembering: headers of turns, labels
MOST = 256  # endings remembered, a KB each: rows whose short answers all differ would fill any number


class Growing:
    """Remembers the last text up to its last control token, and the ids of that part."""

    def __init__(self, guard: Guard) -> None:
        self._guard = guard
        self._text = ""
        self._ids: list[int] = []

    def encode(self, text: str) -> list[int]:
        """The ids of `guard.encode(text)`."""
        borders = self._guard.borders
        if START in text or END in text or borders is None:
            return self._guard.encode(text)
        start, ids = len(self._text), self._ids
        if not (text.startswith(self._text) and borders.match(text, start)):
            start, ids = 0, []
        cut = start
        for match in borders.finditer(text, start):
            cut = match.start()
        if cut > start:
            ids = ids + self._guard.encode(text[start:cut])
            self._text, self._ids = text[:cut], ids
        return ids + self._ending(text[cut:])

    def _ending(self, text: str) -> list[int]:
        if len(text) > SHORT:
            return self._guard.encode(text)
        known = self._guard.endings
        if text not in known:
            if len(known) >= MOST:
                known.clear()
            known[text] = self._guard.encode(text)
        return known[text]
