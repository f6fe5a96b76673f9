"""How figures are written on a page or in a terminal: one spelling for each kind, and a dash for what is not known.

>>> percent(0.8449), points(0.0312, "en"), seconds(252, "ko"), size(3_400_000)
('84.5%', '+3.1 points', '4분 12초', '3.2 MiB')
"""

import math
import unicodedata
from typing import Any, TypeGuard

NOTHING = "–"


def finite(value: Any) -> TypeGuard[float]:
    """Is this a usable number (no text, bool, None, NaN or infinity)?"""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def percent(share: Any, digits: int = 1) -> str:
    """0.8449 -> "84.5%". A share that is not whole never reads 0.0% or 100.0%: 0.9999 -> ">99.9%"."""
    if not finite(share):
        return NOTHING
    text = f"{100 * share:.{digits}f}"
    edge = 10**-digits
    if 0 < share < 1 and float(text) == 0:
        return f"<{edge:g}%"
    if 0 < share < 1 and float(text) == 100:
        return f">{100 - edge:g}%"
    return f"{text}%".replace("-", "−")


def signed(value: Any, text: str) -> str:
    """Put the sign in front with a true minus: (-3, "3") -> "−3", (3, "3") -> "+3", (0, "0") -> "0"."""
    return ("+" if value > 0 else "−" if value < 0 else "") + text


def points(share: Any, lang: str, digits: int = 1) -> str:
    """A difference of two shares: 0.0312 -> "+3.1 points" (Korean "+3.1%p")."""
    if not finite(share):
        return NOTHING
    figure = f"{abs(100 * share):.{digits}f}"
    unit = "%p" if lang == "ko" else " point" if float(figure) == 1 else " points"
    return signed(share if float(figure) else 0, figure) + unit


def compact(value: Any, digits: int = 4) -> str:
    """Any number, short: 0.00005 -> "5e-5", 12345.6 -> "12,346", 2.30258 -> "2.303"."""
    if not finite(value):
        return NOTHING
    if value == 0:
        return "0"
    size_ = abs(value)
    if isinstance(value, int) or (float(value).is_integer() and size_ < 1e15):
        text = f"{int(value):,}"
    elif size_ >= 10 ** (digits - 1):
        text = f"{value:,.0f}"
    elif size_ >= 0.001:
        text = f"{value:.{digits}g}"
    else:
        mantissa, exponent = f"{value:.2e}".split("e")
        text = f"{mantissa.rstrip('0').rstrip('.')}e{int(exponent)}"
    return text.replace("-", "−") if "e" not in text else text


def count(value: Any) -> str:
    """12345 -> "12,345"."""
    return f"{int(value):,}" if finite(value) else NOTHING


def parameters(value: Any) -> str:
    """Parameter counts and tokens: 812 -> "812", 3_145_728 -> "3.15M"."""
    if not finite(value):
        return NOTHING
    for limit, unit in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= limit:
            scaled = value / (1e3 if unit == "k" else limit)
            return f"{scaled:.3g}{unit}" if scaled < 1000 else f"{scaled:,.0f}{unit}"
    return f"{int(value):,}"


def size(num_bytes: Any) -> str:
    """Bytes: 3_400_000 -> "3.2 MiB"."""
    if not finite(num_bytes):
        return NOTHING
    value = float(num_bytes)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(value) < 1024:
            return f"{value:.0f} {unit}" if unit == "B" or value >= 100 else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} TiB"


def seconds(value: Any, lang: str) -> str:
    """0.0421 -> "42 ms", 12.34 -> "12.3 s", 252 -> "4 min 12 s" (Korean "4분 12초")."""
    if not finite(value) or value < 0:
        return NOTHING
    hour, minute, second, milli = ("시간", "분", "초", "밀리초") if lang == "ko" else (" h", " min", " s", " ms")
    if value < 0.0995:
        return f"{1000 * value:.2g}{milli}" if value < 0.00995 else f"{1000 * value:.0f}{milli}"
    if value < 9.95:
        return f"{value:.2f}{second}"
    if value < 60:
        return f"{value:.1f}{second}"
    whole = round(value)
    if whole < 3600:
        rest = f" {whole % 60}{second}" if whole % 60 else ""
        return f"{whole // 60}{minute}{rest}"
    minutes = round(value / 60)
    rest = f" {minutes % 60}{minute}" if minutes % 60 else ""
    return f"{minutes // 60:,}{hour}{rest}"


def p_value(value: Any) -> str:
    """0.00002 -> "p < 0.001", 0.0342 -> "p = 0.034"."""
    if not finite(value):
        return NOTHING
    return "p < 0.001" if value < 0.001 else f"p = {value:.3f}" if value < 0.0995 else f"p = {value:.2f}"


def wide(text: str) -> int:
    """How many columns a text takes in a terminal: Korean letters take two."""
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def padded(text: str, columns: int, *, right: bool = False) -> str:
    """Text with spaces up to so many columns, before it where `right`: padded("행", 4) -> "행  "."""
    space = " " * (columns - wide(text))
    return space + text if right else text + space
