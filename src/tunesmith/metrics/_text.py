"""Normalisation of answers before they are compared, for English and Korean.

>>> normalise("The  Café!", ignore_case=True, ignore_punctuation=True)
'the café'
>>> tokens("김치, 볶음밥", unit="characters")
['김', '치', '볶', '음', '밥']
"""

import re
import unicodedata
from typing import Literal

Unit = Literal["words", "characters"]
ASCII_SYMBOLS = set("$+<=>^`|~")  # in string.punctuation, which SQuAD removes, but of Unicode category S


def normalise(text: str, *, ignore_case: bool = False, ignore_punctuation: bool = False) -> str:
    """NFC (a Hangul syllable typed as jamo equals the ready-made one), white space at the ends off, inside one space."""
    text = unicodedata.normalize("NFC", text)
    if ignore_case:
        text = text.casefold()
    if ignore_punctuation:
        text = "".join(c for c in text if c not in ASCII_SYMBOLS and not unicodedata.category(c).startswith("P"))
    return " ".join(text.split())


def out_of_fence(text: str, languages: str) -> str:
    """What stands in the first ```fence of an answer that has one of these languages ("sql|sqlite") or none; else the text."""
    found = re.search(rf"```(?:{languages})?[ \t]*\n(.*?)```", text, re.DOTALL | re.IGNORECASE)
    return found[1] if found else text


def without_articles(text: str) -> str:
    """English a, an, the taken out, as SQuAD does."""
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", text).split())


def tokens(text: str, *, unit: Unit = "words") -> list[str]:
    """SQuAD's tokens (case, punctuation, articles gone), or their characters without spaces, as KorQuAD compares."""
    plain = without_articles(normalise(text, ignore_case=True, ignore_punctuation=True))
    return plain.split() if unit == "words" else list(plain.replace(" ", ""))
