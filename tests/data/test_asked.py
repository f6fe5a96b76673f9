"""Words that are typed become the messages of training: one column, several, none."""

import pytest

from tunesmith.core.errors import DataError
from tunesmith.data.asked import Asking
from tunesmith.data.shapes import columns_read


@pytest.mark.parametrize(
    ("template", "columns"),
    [("{{ a }} and {{ b | upper }}", {"a", "b"}), ("{{ row['x y'] }}{{ a.b }}", {"x y", "a"}), ("plain", set()),
     ("{% for w in row %}{{ w }}{% endfor %}", None), ("{% for i in range(3) %}{{ a }}{% endfor %}", {"a"}),
     ("{% set q = a %}{{ q }}", {"a"}), ("{{ row[a] }}", None)],
)  # fmt: skip
def test_the_columns_of_a_template(template, columns):
    assert columns_read(template) == columns


def test_words_alone_without_a_run():
    assert Asking().messages("hi") == [{"role": "user", "content": "hi"}] and Asking().notice == ""


def test_json_is_words_where_a_column_is_missing():
    asking = Asking(prompt="{{ a }}-{{ b }}")
    assert asking.messages('{"a": 1, "b": 2}')[0]["content"] == "1-2"
    for words in ('{"a": 1}', "{", "{}", '["a", "b"]'):
        assert asking.messages(words)[0]["content"] == words


def test_json_for_the_one_column_is_read_too():
    asking = Asking(prompt="Q: {{ a }}")
    assert asking.messages('{"a": "x"}')[0]["content"] == "Q: x" and asking.messages("{x}")[0]["content"] == "Q: {x}"


def test_the_system_message_comes_first_and_once():
    asking = Asking(prompt="Q: {{ a }}", system="S")
    assert [m["content"] for m in asking.messages("x")] == ["S", "Q: x"]
    assert [m["content"] for m in asking.messages("x", first=False)] == ["Q: x"]


def test_a_template_that_fails_is_a_mistake_in_words():
    with pytest.raises(DataError, match=r"data\.prompt"):
        Asking(prompt="{{ a + 1 }}").messages("x")
