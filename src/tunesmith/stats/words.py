"""A test's outcome as a sentence, in English or Korean, with the figures in it.

>>> from tunesmith.stats.paired import Paired
>>> outcome = Paired(difference=0.041, low=0.012, high=0.070, p=0.006, n=770, test="McNemar, mid-p")
>>> verdict(outcome, a="prompt", b="lora")
'lora is better than prompt by 4.1 points (95 % 1.2 to 7.0), p = .006, n = 770'
>>> verdict(outcome, a="prompt", b="lora", lang="ko")
'lora 쪽이 prompt보다 4.1점 높아 더 좋음 (95 % 구간 1.2 ~ 7.0), p = .006, n = 770'
"""

import math
from typing import Literal

from tunesmith.stats.paired import Paired
from tunesmith.stats.summary import Summary

Lang = Literal["en", "ko"]
Better = Literal["higher", "lower"]


def verdict(
    outcome: Paired,
    *,
    a: str = "A",
    b: str = "B",
    better: Better = "higher",
    unit: str = "points",
    lang: Lang = "en",
    level: float = 0.05,
    p: float | None = None,
) -> str:
    """Which of A and B is better, by how much, or that they are not told apart.

    unit  "points": shares of 1 are shown times 100; any other word is written behind the plain difference (bits, seconds, "").
    p     an adjusted p-value (`many.holm`) to use and show in place of the test's own.
    """
    p = outcome.p if p is None else p
    tail = f"{_p(p)}, n = {outcome.n:,}"
    interval = _interval(outcome.low, outcome.high, unit, lang)
    apart = p < level and not outcome.low <= 0 <= outcome.high
    if not apart:
        shown = _amount(outcome.difference, unit, lang, sign=True)
        if lang == "ko":
            return f"{a}와(과) {b}의 차이가 구분되지 않음: 차이 {shown} {interval}, {tail}"
        return f"{a} and {b} are not told apart: difference {shown} {interval}, {tail}"
    good = (outcome.difference > 0) == (better == "higher")
    size = _amount(abs(outcome.difference), unit, lang)
    low, high = outcome.low, outcome.high
    if outcome.difference < 0:  # the sentence names a size, so its bounds are sizes too
        low, high = -high, -low
    interval = _interval(low, high, unit, lang)
    if lang == "ko":
        way = "높아" if outcome.difference > 0 else "낮아"
        return f"{b} 쪽이 {a}보다 {size} {way} 더 {'좋음' if good else '나쁨'} {interval}, {tail}"
    return f"{b} is {'better' if good else 'worse'} than {a} by {size} {interval}, {tail}"


def no_worse(
    outcome: Paired,
    *,
    margin: float,
    a: str = "before",
    b: str = "after",
    better: Better = "higher",
    unit: str = "points",
    lang: Lang = "en",
) -> str:
    """Non-inferiority in words: is B worse than A by less than a margin declared beforehand? (One-sided at 2.5 %, by the 95 % interval.)

    >>> from tunesmith.stats.paired import Paired
    >>> no_worse(Paired(-0.002, -0.008, 0.004, 0.5, 2000, ""), margin=0.01)
    'after is not worse than before by more than 1.0 points (difference -0.2 points, 95 % -0.8 to 0.4), n = 2,000'
    """
    low, high = outcome.low, outcome.high
    worst, best = (low, high) if better == "higher" else (-high, -low)  # now larger = better
    shown = _amount(outcome.difference, unit, lang, sign=True)
    bounds = _interval(low, high, unit, lang).strip("()")
    limit = _amount(margin, unit, lang)
    n = f"n = {outcome.n:,}"
    kept, lost, beyond = worst > -margin, best < 0, best < -margin
    if lang == "ko":
        middle = f"(차이 {shown}, {bounds}), {n}"
        if kept and lost:
            return f"{b} 쪽이 {a}보다 나쁘지만 허용 한도 {limit} 안에 있음 {middle}"
        if kept:
            return f"{b} 쪽이 {a}보다 {limit} 넘게 나빠지지 않았음 {middle}"
        if beyond:
            return f"{b} 쪽이 {a}보다 {limit} 넘게 나빠졌음 {middle}"
        if lost:
            return f"{b} 쪽이 {a}보다 나쁨, {limit} 한도 안인지는 확인하지 못함 {middle}"
        return f"{b} 쪽이 {a}보다 {limit} 넘게 나빠졌는지 확인하지 못함 {middle}"
    middle = f"(difference {shown}, {bounds}), {n}"
    if kept and lost:
        return f"{b} is worse than {a}, but by less than the {limit} allowed {middle}"
    if kept:
        return f"{b} is not worse than {a} by more than {limit} {middle}"
    if beyond:
        return f"{b} is worse than {a} by more than {limit} {middle}"
    if lost:
        return f"{b} is worse than {a}; whether by less than {limit} is not shown {middle}"
    return f"not shown whether {b} is worse than {a} by more than {limit} {middle}"


def score(summary: Summary, *, percent: bool = True, lang: Lang = "en") -> str:
    """A score with its interval and n.

    >>> score(Summary(0.884, 3080, 0.872, 0.895))
    '88.4 % (95 % 87.2 to 89.5, n = 3,080)'
    """
    scale, sign = (100, " %") if percent else (1, "")
    digits = 1 if percent else 3
    between = " ~ " if lang == "ko" else " to "
    value, low, high = (_number(x * scale, digits) for x in (summary.value, summary.low, summary.high))
    return f"{value}{sign} (95 % {low}{between}{high}, n = {summary.n:,})"


def _interval(low: float, high: float, unit: str, lang: Lang) -> str:
    scale, digits = (100, 1) if unit == "points" else (1, 3)
    low_text, high_text = _number(low * scale, digits), _number(high * scale, digits)
    return f"(95 % 구간 {low_text} ~ {high_text})" if lang == "ko" else f"(95 % {low_text} to {high_text})"


def _amount(value: float, unit: str, lang: Lang, sign: bool = False) -> str:
    if unit == "points":
        text = _number(value * 100, 1)
        word = "점" if lang == "ko" else " points"
    else:
        text, word = _number(value, 3), f" {unit}" if unit else ""
    return ("+" if sign and value > 0 else "") + text + word


def _number(value: float, digits: int) -> str:
    if math.isinf(value):
        return "-∞" if value < 0 else "∞"
    text = f"{value:.{digits}f}"
    return text.lstrip("-") if float(text) == 0 else text  # no "-0.0"


def _p(p: float) -> str:
    if p < 0.001:
        return "p < .001"
    return "p = " + (f"{p:.3f}".lstrip("0") if p < 0.9995 else "1")
