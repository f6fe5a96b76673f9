import re

import pytest

from tunesmith.core.errors import DataError
from tunesmith.text.too_long import TooLong, too_long_report


def test_the_report_counts_every_row_once_and_names_one_key():
    lengths = [0, 1, 10, 256, 257, 300, 4000] * 3
    report = too_long_report(lengths, 256)
    assert report.startswith("9 of 21 rows (42.9%) are longer than 256 tokens; the longest has 4,000, the median 256.")
    counts = [int(found) for found in re.findall(r"\| █* ?(\d+)", report)]
    assert sum(counts) == len(lengths)
    over = [int(found) for found in re.findall(r"\| █* ?(\d+)  <- too long", report)]
    assert sum(over) == 9
    assert "length=4000 (all fit), too_long=drop, too_long=trim_prompt" in report


@pytest.mark.parametrize("limit", [1, 2, 7, 100, 5000])
@pytest.mark.parametrize("lengths", [[1], [3, 3, 3], list(range(1, 400)), [10**6, 1]])
def test_any_lengths_and_limits(lengths, limit):
    report = too_long_report(lengths, limit)
    counts = [int(found.replace(",", "")) for found in re.findall(r"\| █* ?([\d,]+)", report)]
    assert sum(counts) == len(lengths)


def test_a_length_that_takes_nearly_all():
    assert "length=20 takes 99 % of the rows." in too_long_report([20] * 999 + [900], 10)
    assert too_long_report([], 10) == "There are no rows."
    assert "1 of 3 rows (33.3%) is longer" in too_long_report([10, 20, 300], 256)


def test_the_error_carries_its_numbers():
    error = TooLong(300, 256, "because")
    assert isinstance(error, DataError) and (error.num_tokens, error.limit) == (300, 256)
    assert str(error).startswith("The row has 300 tokens, 256 fit.\nbecause\nChoose one: length=300 (all fit)")
