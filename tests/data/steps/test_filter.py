import pytest

from tunesmith.core.errors import SettingError
from tunesmith.data.steps import Drop
from tunesmith.data.steps.filter import Filter
from tunesmith.testing import check_step

ROW = {
    "messages": [{"role": "user", "content": "배송은 언제?"}, {"role": "assistant", "content": "See https://x.kr"}],
    "origin": "a:1",
}


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({}, None),
        ({"least": 30}, "too short"),
        ({"most": 10}, "too long"),
        ({"most": 10, "part": "prompt"}, None),
        ({"languages": ("korean",), "part": "answer"}, "other language"),
        ({"languages": ("korean",), "part": "prompt"}, None),
        ({"matching": "환불"}, "pattern not found"),
        ({"without": "https?://"}, "pattern found"),
        ({"without": "https?://", "part": "prompt"}, None),
    ],
)
def test_filter(settings, reason):
    (result,) = Filter(**settings).apply(iter([ROW]))
    assert (result.reason if isinstance(result, Drop) else None) == reason
    assert result == ROW or result.row == ROW


def test_settings_that_make_no_sense():
    with pytest.raises(SettingError, match='matching: "\\(" is not a regular expression'):
        Filter(matching="(")
    with pytest.raises(SettingError, match="no row can pass"):
        Filter(least=5, most=4)


def test_it_keeps_the_promises_of_the_shelf():
    check_step(Filter(least=5, most=100))
