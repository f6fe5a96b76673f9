"""Small pictures as inline SVG text: they stretch with the page while their text, lines and dots keep their size.

No viewBox around the whole picture: x is in percent of the width, y in pixels, so that 13 px of text stay 13 px on a
phone. Lines of many
points lie in a nested <svg> that is stretched without scaling its strokes. Colours are CSS classes (c1..c6 by series;
see
page.css), so dark mode and print need no second picture. Every picture carries <title> and, where there is more to
say, <desc>.

>>> "<title>loss</title>" in lines([Series("loss", [(1, 2.0), (2, 1.0)])], title="loss")
True
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby

from markupsafe import Markup, escape

from tunesmith.report.formats import compact, finite

EDGE = 1.5  # percent kept free left and right, so that a dot on the border is drawn whole
MAX_POINTS = 700  # a line of more points is thinned to the smallest and largest of each stretch


@dataclass(frozen=True)
class Series:
    """One line: its name, its points (x, y), and how it is drawn."""

    name: str
    points: Sequence[tuple[float, float]]
    color: str = "c1"
    faint: bool = False
    dots: bool = False
    dash: bool = False


def ticks(low: float, high: float, wanted: int = 5) -> list[float]:
    """Round numbers that cover low..high: (0, 0.83) -> [0, 0.2, 0.4, 0.6, 0.8, 1.0]."""
    if not (finite(low) and finite(high)):
        return [0.0, 1.0]
    if high - low < 1e-12 * max(abs(high), abs(low), 1e-300):
        spread = abs(low) * 0.1
        low, high = (low - spread, high + spread) if spread else (0.0, 1.0)
    raw = (high - low) / max(wanted, 1)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= raw * 0.999999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(k * step, 12 - math.floor(math.log10(step))) for k in range(first, last + 1)]


def place(value: float, low: float, high: float) -> float:
    """Where a value lies, in percent of the width."""
    share = (value - low) / (high - low) if high > low else 0.5
    return round(EDGE + (100 - 2 * EDGE) * min(max(share, 0.0), 1.0), 3)


def _svg(height: int, body: str, title: str, desc: str = "", kind: str = "") -> Markup:
    described = f"<desc>{escape(desc)}</desc>" if desc else ""
    return Markup(
        f'<svg class="picture {kind}" role="img" width="100%" height="{height}">'
        f"<title>{escape(title)}</title>{described}{body}</svg>"
    )


def _text(x: float, y: float, words: str, kind: str = "tick", edge: bool = True) -> str:
    anchor = "middle"
    if edge and x < 6:
        x, anchor = min(x, EDGE), "start"
    elif edge and x > 94:
        x, anchor = max(x, 100 - EDGE), "end"
    return f'<text class="{kind}" x="{x}%" y="{y}" text-anchor="{anchor}">{escape(words)}</text>'


def axis(marks: Sequence[float], show: Callable[[float], str], title: str) -> Markup:
    """The scale under a set of interval rows."""
    low, high = marks[0], marks[-1]
    return _svg(22, "".join(_text(place(m, low, high), 15, show(m)) for m in marks), title, kind="axis")


def interval(
    spots: Sequence[tuple[float, float | None, float | None, str, bool]],
    marks: Sequence[float],
    *,
    title: str,
    height: int = 40,
    zero: float | None = None,
) -> Markup:
    """A row of an interval chart: dots with the line from low to high. It fills the height that the page gives it.

    spots: (value, low, high, colour class, filled) one under the other; marks: the scale (from `ticks`); zero: a line
    drawn darker.
    """
    low, high = marks[0], marks[-1]
    body = [f'<line class="grid" x1="{x}%" x2="{x}%" y1="0" y2="100%"/>' for x in (place(m, low, high) for m in marks)]
    if zero is not None:
        x = place(zero, low, high)
        body.append(f'<line class="zero" x1="{x}%" x2="{x}%" y1="0" y2="100%"/>')
    shown = [spot for spot in spots if finite(spot[0])]
    for number, (value, start, stop, color, filled) in enumerate(shown):
        y = round(100 * (number + 1) / (len(shown) + 1), 1)
        if finite(start) and finite(stop):
            x1, x2 = place(start, low, high), place(stop, low, high)  # type: ignore[arg-type]
            body.append(f'<line class="whisker {color}" x1="{x1}%" x2="{x2}%" y1="{y}%" y2="{y}%"/>')
            ends = (f'<line class="cap {color}" x1="{x}%" x2="{x}%" y1="-5" y2="5"/>' for x in (x1, x2))
            body.append(f'<svg y="{y}%" overflow="visible">{"".join(ends)}</svg>')
        kind = "dot" if filled else "dot hollow"
        body.append(f'<circle class="{kind} {color}" cx="{place(value, low, high)}%" cy="{y}%" r="5.5"/>')
    return _svg(height, "".join(body), title, kind="row")


def thin(points: Sequence[tuple[float, float]], most: int = MAX_POINTS) -> list[tuple[float, float]]:
    """Fewer points with the same look: of each stretch the lowest and the highest, in their order; the ends are
    kept."""
    if len(points) <= most:
        return list(points)
    stretch = math.ceil(len(points) / (most // 2))
    kept = [points[0]]
    for start in range(0, len(points), stretch):
        part = points[start : start + stretch]
        kept.extend(sorted({min(part, key=lambda p: p[1]), max(part, key=lambda p: p[1])}))
    kept.append(points[-1])
    return kept


def smooth(points: Sequence[tuple[float, float]], share: float = 0.04) -> list[tuple[float, float]]:
    """The running mean over about 4 % of the points on both sides together; not finite values are left out."""
    good = [(x, y) for x, y in points if finite(x) and finite(y)]
    half = max(1, round(len(good) * share / 2))
    sums = [0.0]
    for _, y in good:
        sums.append(sums[-1] + y)
    out = []
    for i, (x, _) in enumerate(good):
        a, b = max(0, i - half), min(len(good), i + half + 1)
        out.append((x, (sums[b] - sums[a]) / (b - a)))
    return out


def lines(
    series: Sequence[Series],
    *,
    title: str,
    desc: str = "",
    height: int = 210,
    show_x: Callable[[float], str] = compact,
    show_y: Callable[[float], str] = compact,
    from_zero: bool = False,
    marks_x: Sequence[tuple[float, str]] = (),
) -> Markup:
    """A line chart with its scale on the left. A point that is not finite breaks its line; a line of one point is a
    dot; no finite point at all gives "".

    marks_x: (x, name) of vertical marks, such as the step whose weights were kept.
    """
    every = [(x, y) for s in series for x, y in s.points if finite(x) and finite(y)]
    if not every:
        return Markup("")
    left, right = min(x for x, _ in every), max(x for x, _ in every)
    # one spike must not flatten the rest: cut at the 99.5th percentile when it lies far below the largest value
    ordered = sorted(y for _, y in every)
    bottom, top = ordered[0], ordered[-1]
    high_enough = ordered[min(len(ordered) - 1, int(0.995 * len(ordered)))]
    if len(ordered) > 50 and top - bottom > 4 * (high_enough - bottom) > 0:
        top = high_enough * 1.1 if high_enough > 0 else high_enough
    levels = ticks(0.0 if from_zero else bottom, top, 4)
    floor, ceiling = levels[0], levels[-1]
    above, below = 20, 24
    plot = height - above - below

    def y_at(value: float) -> float:
        return round(above + plot * (1 - (min(max(value, floor), ceiling) - floor) / (ceiling - floor)), 2)

    body, scale = [], []
    gutter = 14 + round(7.4 * max(len(show_y(level)) for level in levels))
    for level in levels:
        y = y_at(level)
        kind = "base" if level == levels[0] else "grid"
        body.append(f'<line class="{kind}" x1="0" x2="100%" y1="{y}" y2="{y}"/>')
        scale.append(
            f'<text class="tick" x="{gutter - 8}" y="{y + 4.5}" text-anchor="end">{escape(show_y(level))}</text>'
        )
    marks = [x for x in ticks(left, right, 5) if left <= x <= right] if right > left else [left]
    for x in marks:
        body.append(_text(place(x, left, right), height - 6, show_x(x)))
    for x, name in marks_x:
        at = place(x, left, right)
        body.append(f'<line class="mark" x1="{at}%" x2="{at}%" y1="{above}" y2="{height - below}"/>')
        anchor = "end" if at > 50 else "start"
        aside = -6 if at > 50 else 6
        body.append(f'<text class="tick" x="{at}%" dx="{aside}" y="12" text-anchor="{anchor}">{escape(name)}</text>')
    for s in series:
        good = [(x, y, finite(x) and finite(y)) for x, y in s.points]
        for ok, run in groupby(good, key=lambda p: p[2]):
            part = thin([(x, y) for x, y, _ in run]) if ok else []
            if len(part) > 1:
                path = " ".join(
                    f"{10 * place(x, left, right):.1f},{10 * (y_at(y) - above) * 100 / plot:.1f}" for x, y in part
                )
                kind = f"line {s.color}" + (" faint" if s.faint else "") + (" dash" if s.dash else "")
                body.append(
                    f'<svg x="0" y="{above}" width="100%" height="{plot}" viewBox="0 0 1000 1000" '
                    f'preserveAspectRatio="none" overflow="visible">'
                    f'<polyline class="{kind}" vector-effect="non-scaling-stroke" points="{path}"/></svg>'
                )
            if len(part) == 1 or (s.dots and len(part) <= 60):
                for x, y in part:
                    hint = f"<title>{escape(f'{s.name}: {show_y(y)} ({show_x(x)})')}</title>"
                    spot = f'cx="{place(x, left, right)}%" cy="{y_at(y)}"'
                    body.append(f'<circle class="dot {s.color}" {spot} r="3.5">{hint}</circle>')
    left_scale = (
        f'<svg class="picture scale" aria-hidden="true" width="{gutter}" height="{height}">{"".join(scale)}</svg>'
    )
    return Markup(f'<div class="plot">{left_scale}{_svg(height, "".join(body), title, desc, "lines")}</div>')


def stack(parts: Sequence[tuple[str, float, str]], whole: float, *, title: str, show: Callable[[float], str]) -> Markup:
    """One bar made of parts (name, value, colour class); `whole` is the value that fills the width."""
    body, x = [], 0.0
    for name, value, color in parts:
        width = 100 * value / whole if whole > 0 else 0.0
        hint = f"<title>{escape(f'{name}: {show(value)}')}</title>"
        body.append(f'<rect class="part {color}" x="{x:.3f}%" y="0" width="{width:.3f}%" height="34">{hint}</rect>')
        x += width
    return _svg(34, "".join(body), title, ", ".join(f"{name} {show(value)}" for name, value, _ in parts), "stack")


def bar(share: float, *, title: str, color: str = "c1") -> Markup:
    """A thin bar that fills `share` of its width."""
    width = 100 * min(max(share, 0.0), 1.0) if finite(share) else 0.0
    track = '<rect class="track" x="0" y="3" width="100%" height="6" rx="3"/>'
    return _svg(
        12, f'{track}<rect class="part {color}" x="0" y="3" width="{width:.2f}%" height="6" rx="3"/>', title, kind="bar"
    )


def histogram(
    edges: Sequence[float],
    counts: Sequence[float],
    *,
    title: str,
    desc: str = "",
    show: Callable[[float], str] = compact,
    marks_x: Sequence[tuple[float, str]] = (),
    height: int = 170,
) -> Markup:
    """Bars of equal width over `edges` (one more edge than counts), each with its count as a hint; marks at values of
    the edges' scale."""
    if not counts or len(edges) != len(counts) + 1 or not all(finite(c) for c in counts):
        return Markup("")
    most = max(counts) or 1
    above, below = 24, 22
    plot = height - above - below
    each = 100 / len(counts)
    body = [f'<line class="base" x1="0" x2="100%" y1="{above + plot}" y2="{above + plot}"/>']
    for i, number in enumerate(counts):
        tall = round(plot * number / most, 2)
        hint = f"<title>{escape(f'{show(edges[i])}–{show(edges[i + 1])}: {int(number):,}')}</title>"
        body.append(
            f'<rect class="part c1" x="{i * each + each * 0.06:.3f}%" y="{above + plot - tall}" '
            f'width="{each * 0.88:.3f}%" height="{max(tall, 1.0 if number else 0)}">{hint}</rect>'
        )
        if number == most:
            words = f"{int(number):,}"
            body.append(_text(min(max(i * each + each / 2, 4), 96), above + plot - tall - 6, words, edge=False))
    every = max(1, math.ceil(len(edges) / 6))
    for i in range(0, len(edges), every):
        body.append(_text(i * each, height - 5, show(edges[i])))
    for value, name in marks_x:
        if edges[0] <= value <= edges[-1]:
            i = max(k for k in range(len(counts)) if edges[k] <= value)
            within = (value - edges[i]) / (edges[i + 1] - edges[i]) if edges[i + 1] > edges[i] else 0
            at = round((i + within) * each, 2)
            anchor = "end" if at > 50 else "start"
            body.append(f'<line class="mark" x1="{at}%" x2="{at}%" y1="4" y2="{above + plot}"/>')
            body.append(
                f'<text class="tick" x="{at}%" dx="{-6 if at > 50 else 6}" y="13" text-anchor="{anchor}">'
                f"{escape(name)}</text>"
            )
    return _svg(height, "".join(body), title, desc, "histogram")
