"""Pictures: scales that cover, points in their place, no number that is none."""

import itertools
import math
import re
from xml.dom import minidom

from hypothesis import given
from hypothesis import strategies as st

from tunesmith.report.svg import EDGE, Series, bar, histogram, interval, lines, place, smooth, stack, thin, ticks

NUMBERS = st.floats(-1e9, 1e9, allow_nan=False)


@given(NUMBERS, NUMBERS)
def test_ticks_cover_the_range_with_few_round_steps(a, b):
    low, high = min(a, b), max(a, b)
    marks = ticks(low, high)
    slack = 1e-6 * max(abs(low), abs(high), 1e-9)
    assert marks[0] <= low + slack and marks[-1] >= high - slack
    assert 2 <= len(marks) <= 12 and all(x < y for x, y in itertools.pairwise(marks))


def test_ticks_are_round():
    assert ticks(0, 0.83) == [0, 0.2, 0.4, 0.6, 0.8, 1.0]
    assert ticks(math.nan, 1) == [0.0, 1.0]


@given(st.lists(st.tuples(NUMBERS, st.one_of(NUMBERS, st.just(math.nan), st.just(math.inf))), max_size=50))
def test_line_charts_are_xml_for_any_points(points):
    picture = lines(
        [Series("a <&> b", sorted(points))], title="t", desc="d", marks_x=[(points[0][0], "kept")] if points else []
    )
    if not any(math.isfinite(y) for _, y in points):
        assert picture == ""
    else:
        minidom.parseString(str(picture))
        assert "nan" not in re.sub(r"<title>.*?</title>", "", str(picture)) and "inf" not in str(picture)


def test_a_line_lies_where_its_values_are():
    picture = str(lines([Series("s", [(0, 0.0), (1, 1.0)])], title="t"))
    first, last = (tuple(map(float, pair.split(","))) for pair in re.search(r'points="([^"]+)"', picture)[1].split())
    assert first == (10 * EDGE, 1000.0) and last == (
        1000 - 10 * EDGE,
        0.0,
    )  # from the foot on the left to the top on the right


def test_thinning_keeps_ends_and_extremes():
    points = [(float(x), math.sin(x / 50)) for x in range(10_000)]
    points[5000] = (5000.0, 9.0)
    few = thin(points)
    assert len(few) <= 720 and few[0] == points[0] and few[-1] == points[-1] and (5000.0, 9.0) in few
    assert [x for x, _ in few] == sorted(x for x, _ in few)


def test_the_running_mean_of_a_line_is_the_line():
    line = [(float(x), 2.0 * x) for x in range(100)]
    assert all(abs(a[1] - b[1]) < 1e-9 for a, b in zip(smooth(line)[10:-10], line[10:-10], strict=True))


def test_interval_dots_lie_on_the_scale():
    picture = str(interval([(0.5, 0.4, 0.6, "c1", True)], [0.0, 0.5, 1.0], title="half <b>"))
    assert f'cx="{place(0.5, 0, 1)}%"' in picture and place(0.5, 0, 1) == 50
    assert "half &lt;b&gt;" in picture
    assert "circle" not in interval([(math.nan, None, None, "c1", True)], [0.0, 1.0], title="")


def test_stack_histogram_and_bar_are_xml_and_add_up():
    picture = str(stack([("a", 25.0, "m0"), ("b", 75.0, "m1")], 100.0, title="t", show=str))
    minidom.parseString(picture)
    assert sum(map(float, re.findall(r'y="0" width="([\d.]+)%"', picture))) == 100
    minidom.parseString(str(histogram([0, 1, 2], [3, 0], title="t", marks_x=[(1.5, "limit")])))
    assert histogram([0, 1], [], title="t") == "" and histogram([0, 1, 2], [1, math.nan], title="t") == ""
    assert 'width="0.00%"' in bar(math.nan, title="") and 'width="100.00%"' in bar(7, title="")
