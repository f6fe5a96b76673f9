"""The section of curves: of one run, or of several over one another.

    curves({"lora": run}, speaker("en"))      -> {"pictures": [{"title", "note", "picture", "legend", "wide"}, ...]}

Loss with development loss first, then learning rate, gradient norm, speed, memory, and the method's own figures.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tunesmith.report import formats, svg
from tunesmith.report.formats import finite
from tunesmith.report.read import Run, as_dict
from tunesmith.report.svg import Series
from tunesmith.report.verdict import Say

MANY = 60  # a noisy line of more points is drawn as its running mean
MIB = 2**20

Points = list[tuple[float, float]]


@dataclass(frozen=True)
class _Chart:
    """One picture before it is drawn."""

    title: str
    series: Sequence[Series]
    show: Callable[[Any], str] = formats.compact
    marks: Sequence[tuple[float, str]] = ()
    smoothed: bool = False
    from_zero: bool = False
    wide: bool = False
    peak: bool = False


def curves(runs: Mapping[str, Run], say: Say) -> dict[str, Any] | None:
    """Every curve that has a point, or None. Several runs share a picture, each in a colour, every second one dashed."""
    charts = [*_losses(runs, say), *_of_steps(runs, say), *_own_figures(runs)]
    pictures = [drawn for chart in charts if (drawn := _draw(chart, say)) is not None]
    return {"pictures": pictures} if pictures else None


def _losses(runs: Mapping[str, Run], say: Say) -> list[_Chart]:
    loss = {name: _points(run.steps, "loss") for name, run in runs.items()}
    dev = {name: _points(run.evals, "dev_loss") for name, run in runs.items()}
    if len(runs) > 1:
        return [
            replace(_shared(say("train_loss"), loss, noisy=True), from_zero=True),
            replace(_shared(say("dev_loss"), dev, dots=True), from_zero=True),
        ]
    ((name, points),) = loss.items()
    series = [Series(say("train_loss"), points, faint=len(points) > MANY, dots=len(points) < 20)]
    if len(points) > MANY:
        series.append(Series(f"{say('train_loss')} ({say('smoothed')})", svg.smooth(points)))
    series.append(Series(say("dev_loss"), dev[name], "c2", dots=True, dash=True))
    good = [(loss_, step) for step, loss_ in dev[name] if finite(loss_)]
    marks = [(min(good)[1], say("best_step", step=formats.count(min(good)[1])))] if len(good) > 1 else []
    return [_Chart(say("loss"), series, marks=marks, wide=True)]


def _of_steps(runs: Mapping[str, Run], say: Say) -> list[_Chart]:
    def chart(label: str, key: str, *, scale: float = 1.0, noisy: bool = False) -> _Chart:
        told = {name: [(x, y / scale) for x, y in _points(run.steps, key)] for name, run in runs.items()}
        return _shared(say(label), told, color="c3", noisy=noisy)

    return [
        replace(chart("learning_rate", "lr"), from_zero=True, peak=True),
        chart("grad_norm", "grad_norm", noisy=True),
        replace(chart("speed", "tokens_per_second", noisy=True), from_zero=True, show=formats.parameters),
        replace(
            chart("memory_used", "memory_bytes", scale=MIB), from_zero=True, show=lambda mib: formats.size(mib * MIB)
        ),
    ]


def _own_figures(runs: Mapping[str, Run]) -> list[_Chart]:
    flat = {name: [{**as_dict(s.get("figures")), "step": s["step"]} for s in run.steps] for name, run in runs.items()}
    keys = dict.fromkeys(key for steps in flat.values() for step in steps for key in step)
    wanted = [key for key in keys if key not in ("loss", "step")]
    return [_shared(key, {name: _points(s, key) for name, s in flat.items()}, color="c5", noisy=True) for key in wanted]


def _shared(
    title: str, lines: Mapping[str, Points], *, color: str = "c1", noisy: bool = False, dots: bool = False
) -> _Chart:
    """A chart of one line for each run; the line of a single run has the chart's name."""
    single = len(lines) == 1
    series, smoothed = [], False
    for i, (name, points) in enumerate(lines.items()):
        many = noisy and len(points) > MANY
        smoothed |= many
        shown = svg.smooth(points) if many else points
        own = Series(title, shown, color) if single else Series(name, shown, f"c{1 + i % 6}", dash=i % 2 == 1)
        series.append(replace(own, dots=dots or 0 < len(points) < 3))
    return _Chart(title, series, smoothed=smoothed)


def _draw(chart: _Chart, say: Say) -> dict[str, Any] | None:
    good = [(s, [y for _, y in s.points if finite(y)]) for s in chart.series]
    drawn = [(s, ys) for s, ys in good if ys]
    if not drawn:
        return None
    show = chart.show
    told = []
    for s, ys in drawn:
        facts = {"first": show(ys[0]), "last": show(ys[-1]), "lowest": show(min(ys)), "n": formats.count(len(ys))}
        told.append(f"{s.name}: {say('curve_says', **facts)}")
    picture = svg.lines(
        chart.series,
        title=say("by_step", name=chart.title),
        desc=". ".join(told),
        height=250 if chart.wide else 190,
        show_x=formats.count,
        show_y=show,
        from_zero=chart.from_zero,
        marks_x=chart.marks,
    )
    legend = [
        {
            "name": s.name,
            "color": s.color,
            "dash": s.dash,
            "faint": s.faint,
            "last": say("peak_is", value=show(max(ys))) if chart.peak else show(ys[-1]),
        }
        for s, ys in drawn
    ]
    note = say("smoothed") if chart.smoothed else ""
    return {"title": chart.title, "note": note, "picture": picture, "legend": legend, "wide": chart.wide}


def _points(events: Sequence[Mapping[str, Any]], key: str) -> Points:
    """(step, value) of the events that tell it; what is no number is NaN, which breaks the line."""
    return [(float(e["step"]), float(e[key]) if finite(e[key]) else math.nan) for e in events if key in e]
