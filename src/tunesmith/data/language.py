"""Korean, English or other: a guess from the letters, good enough to count and to filter by, needing no model.

>>> language("배송은 언제 오나요?"), language("Where is my order?"), language("¿Dónde está mi pedido?")
('korean', 'english', 'other')
"""

import re

_MOST = 1000  # characters looked at: a count over all of a long document says no more
# Only words that its neighbours (German, French, Spanish, Italian, Dutch) do not write alike.
_COMMON = re.compile(
    r"\b(the|of|and|to|is|are|it|you|she|they|my|your|that|this|for|with|what|how|why|who|where|when|which|have|has|does|"
    r"can|could|would|should|not|from|give|write|make|list|name|find)\b",
    re.IGNORECASE,
)


def language(text: str) -> str:
    """ "korean": at least 3 in 10 letters are Hangul. "english": nearly all letters are plain Latin, and a text of 8 words
    or more holds a common English word. Everything else, digits alone too, is "other"."""
    text = text[:_MOST]
    letters = len(re.findall(r"[^\W\d_]", text))
    if not letters:
        return "other"
    hangul = len(re.findall("[가-힣ㄱ-ㅎㅏ-ㅣ]", text))
    if hangul >= 0.3 * letters:
        return "korean"
    latin = len(re.findall("[A-Za-z]", text))
    if latin < 0.97 * letters:
        return "other"
    return "english" if len(text.split()) < 8 or _COMMON.search(text) else "other"
