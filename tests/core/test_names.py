"""Nearest names: typos, abbreviations, case and dashes."""

import pytest

from tunesmith.core.errors import DataError
from tunesmith.core.names import nearest, unknown

CHOICES = ["exact_match", "bleu", "temperature", "top_p", "epochs"]


@pytest.mark.parametrize(
    ("word", "best"),
    [
        ("exact_macth", "exact_match"),
        ("Exact-Match", "exact_match"),
        ("temp", "temperature"),
        ("epcohs", "epochs"),
        ("topp", "top_p"),
    ],
)
def test_the_name_that_was_meant_comes_first(word: str, best: str):
    assert nearest(word, CHOICES)[0] == best


def test_nothing_near_is_nothing():
    assert nearest("zzzzzz", CHOICES) == []
    assert nearest("x", []) == []


def test_the_error_names_the_nearest_or_all():
    assert str(unknown("metric", "blue", CHOICES)) == 'There is no metric "blue".\nDid you mean: bleu'
    assert str(unknown("metric", "zzz", ["b", "a"])) == 'There is no metric "zzz".\nThere are: a, b'
    assert isinstance(unknown("file", "x", [], error=DataError), DataError)
