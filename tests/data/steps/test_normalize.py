import copy

from tunesmith.data.steps import Drop
from tunesmith.data.steps.normalize import Normalize
from tunesmith.testing import check_step


def test_tidy():
    assert Normalize().tidy(" a\r\nb\x00\u200b\tc  d ") == "a\nb\tc  d"
    assert Normalize(spaces=True, html=True, wide=True).tidy("Ａ &lt;b&gt;\u3000\u00a0c") == "A <b> c"


def test_rows_are_copied_and_what_becomes_empty_is_dropped():
    rows = [
        {"text": " x ", "origin": "a:1"},
        {"text": "\u200b", "origin": "a:2"},
        {
            "messages": [{"role": "user", "content": " q "}, {"role": "assistant", "content": "", "tool_calls": [{}]}],
            "origin": "a:3",
        },
    ]
    given = copy.deepcopy(rows)
    one, two, three = Normalize().apply(iter(rows))
    assert rows == given
    assert one == {"text": "x", "origin": "a:1"} and isinstance(two, Drop) and two.reason == "nothing left"
    assert three["messages"][0]["content"] == "q" and three["messages"][1]["tool_calls"] == [{}]


def test_it_keeps_the_promises_of_the_shelf():
    check_step(Normalize(spaces=True))
