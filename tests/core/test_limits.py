"""Impossible values are refused, null means not set."""

import pytest

from tunesmith.core.errors import SettingError
from tunesmith.core.limits import above, at_least, between, one_of


def test_limits():
    above("x", 0.1, 0)
    at_least("x", 0, 0)
    between("x", 1, 0, 1)
    one_of("x", "a", ["a", "b"])
    for check in (above, at_least):
        check("x", None, 0)
    between("x", None, 0, 1)
    one_of("x", None, [])


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: above("train.lr", 0, 0), "train.lr is 0.\nIt must be above 0."),
        (lambda: above("train.lr", float("nan"), 0), "train.lr is nan.\nIt must be above 0."),
        (lambda: at_least("keep", 0, 1), "keep is 0.\nIt must be 1 or more."),
        (lambda: between("top_p", 1.1, 0, 1), "top_p is 1.1.\nIt must lie between 0 and 1."),
        (lambda: one_of("order", "shufle", ["shuffle", "file"]), 'There is no order "shufle".\nDid you mean: shuffle'),
    ],
)
def test_what_is_said(call, said: str):
    with pytest.raises(SettingError) as error:
        call()
    assert str(error.value) == said
