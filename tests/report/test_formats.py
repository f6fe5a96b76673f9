"""Figures as people read them."""

import math

import pytest

from tunesmith.report import formats


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.8449, "84.5%"),
        (0, "0.0%"),
        (1, "100.0%"),
        (0.9999, ">99.9%"),
        (0.0001, "<0.1%"),
        (math.nan, "–"),
        (None, "–"),
        ("NaN", "–"),
    ],
)
def test_percent_never_claims_more_than_it_knows(value, text):
    assert formats.percent(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"), (5e-5, "5e-5"), (0.0021, "0.0021"), (12345.6, "12,346"), (2.30258, "2.303"), (7, "7"), (-0.5, "−0.5"), (math.inf, "–"),
        (True, "–"), (1e-12, "1e-12"), (128.0, "128"),
    ],
)  # fmt: skip
def test_compact(value, text):
    assert formats.compact(value) == text


def test_points_say_their_sign():
    assert formats.points(0.0312, "en") == "+3.1 points"
    assert formats.points(-0.01, "en") == "−1.0 point"
    assert formats.points(-0.00004, "ko") == "0.0%p"


def test_units():
    assert [formats.parameters(n) for n in (812, 9999, 589_824, 8_450_304, 7.2e9)] == [
        "812",
        "9,999",
        "590k",
        "8.45M",
        "7.2B",
    ]
    assert [formats.size(n) for n in (0, 1023, 3_400_000, 2**30 * 1.5)] == ["0 B", "1023 B", "3.2 MiB", "1.5 GiB"]
    assert [formats.seconds(n, "en") for n in (0.004, 0.042, 1.234, 12.34, 252, 3600, 3720)] == [
        "4 ms", "42 ms", "1.23 s", "12.3 s", "4 min 12 s", "1 h", "1 h 2 min",
    ]  # fmt: skip
    assert (
        formats.seconds(59.99, "en") == "60.0 s"
        and formats.seconds(252, "ko") == "4분 12초"
        and formats.seconds(-1, "en") == "–"
    )
    assert [formats.p_value(p) for p in (0.0001, 0.034, 0.5, None)] == ["p < 0.001", "p = 0.034", "p = 0.50", "–"]
