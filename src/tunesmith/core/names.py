"""Names a person may have meant.

>>> nearest("exact_macth", ["exact_match", "bleu"])
['exact_match']
>>> print(unknown("metric", "exact_macth", ["exact_match", "bleu"]))
There is no metric "exact_macth".
Did you mean: exact_match
"""

import difflib
from collections.abc import Iterable

from tunesmith.core.errors import SettingError, UserError


def nearest(word: str, choices: Iterable[str], *, most: int = 3) -> list[str]:
    """The choices closest to a word, best first; empty when nothing is close. Case, `-` and `_` do not count."""
    by_plain: dict[str, str] = {}
    for choice in choices:
        by_plain.setdefault(_plain(choice), choice)
    plain = _plain(word)
    ratios = {name: difflib.SequenceMatcher(None, plain, name).ratio() for name in by_plain}
    limit = max(0.6, max(ratios.values(), default=0) - 0.15)  # next to a very near name, a merely near one is noise
    close = sorted((name for name in ratios if ratios[name] >= limit), key=lambda name: -ratios[name])[:most]
    # difflib misses abbreviations: "temp" is far from "temperature" by its measure, near for a person
    starts = [
        name for name in sorted(by_plain) if len(plain) >= 2 and (name.startswith(plain) or plain.startswith(name))
    ]
    return [by_plain[name] for name in dict.fromkeys([*close, *starts])][:most]


def unknown(kind: str, word: str, choices: Iterable[str], *, error: type[UserError] = SettingError) -> UserError:
    """The error for a name that does not exist: it names the nearest, or all when nothing is near. Raise what is returned."""
    known = sorted(set(choices))
    close = nearest(word, known)
    if close:
        fix = f"Did you mean: {', '.join(close)}"
    elif known:
        fix = f"There are: {', '.join(known)}"
    else:
        fix = "There are none here."
    return error(f'There is no {kind} "{word}".', fix=fix)


def _plain(word: str) -> str:
    return word.lower().replace("-", "_")
