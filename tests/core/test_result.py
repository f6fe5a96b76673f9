"""A result is a dict of facts with a text for people."""

from tunesmith.core.result import Result


def test_facts_and_text():
    result = Result({"rows": 3}, text="3 rows", more=1)
    assert result == {"rows": 3, "more": 1}
    assert result.text == str(result) == "3 rows"
    assert str(Result(a=1)) == "{'a': 1}"
