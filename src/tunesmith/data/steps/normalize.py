"""Tidy the text of rows: white space, control characters, HTML entities, full-width letters.

Use it on text from web pages, tables and old systems, before dedup. Source: Unicode Standard Annex 15 (normalisation forms).

    steps: [normalize]                           # line ends, white space at the ends, control characters
    steps: [{normalize: {spaces: true, html: true, wide: true}}]

글을 다듬습니다: 줄바꿈, 앞뒤 공백, 제어 문자, HTML 표기, 전각 문자. 자모가 풀어진 한글(NFD)은 읽을 때 이미 합쳐집니다.

Text is in Unicode NFC already: reading does that. Nothing is dropped, unless no text is left.
"""

import html
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass

from tunesmith.data.kinds import mapped, pieces
from tunesmith.data.rows import Row
from tunesmith.data.steps import Drop

_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u200b\u2060\ufeff]")


@dataclass(frozen=True)
class Normalize:
    """One way of writing the same."""

    spaces: bool = False
    """Runs of spaces and tabs become one space; harmful to code and tables.

    이어진 공백과 탭을 공백 하나로 줄입니다. 코드와 표에는 해롭습니다."""

    html: bool = False
    """&lt; becomes <, &amp; becomes &.

    &lt; 같은 HTML 표기를 원래 글자로 바꿉니다."""

    wide: bool = False
    """Compatibility characters become plain ones (NFKC): ＡＢＣ becomes ABC, ㎏ becomes kg.

    전각 문자와 호환 문자를 보통 글자로 바꿉니다(NFKC). ＡＢＣ는 ABC, ㎏은 kg이 됩니다."""

    def apply(self, rows: Iterator[Row]) -> Iterator[Row | Drop]:
        for row in rows:
            changed = mapped(row, self.tidy)
            emptied = any(old.text.strip() and not new.text for old, new in zip(pieces(row), pieces(changed)))
            yield Drop(row, "nothing left") if emptied else changed

    def tidy(self, text: str) -> str:
        """One text, tidied: "a \\r\\n" -> "a"."""
        text = _CONTROL.sub("", text.replace("\r\n", "\n").replace("\r", "\n"))
        if self.html:
            text = html.unescape(text)
        if self.wide:
            text = unicodedata.normalize("NFKC", text)
        if self.spaces:
            text = re.sub(r"[ \t\u00a0\u3000]+", " ", text)
        return unicodedata.normalize("NFC", text).strip()
