"""json_field: which fields are right, and how many answers were JSON at all."""

import json

import pytest

from tunesmith.core.errors import DataError
from tunesmith.metrics.json_field import JsonField

ROW = {"answer": json.dumps({"intent": "book", "when": {"day": 3}, "a.b": [1, 2]})}


def test_named_fields_dotted():
    metric = JsonField(fields=("intent", "when.day"))
    assert metric.score('{"intent": "book", "when": {"day": 3.0}, "more": 1}', ROW)["score"] == 1.0
    value = metric.score('{"intent": "book", "when": {"day": "3"}}', ROW)
    assert value["score"] == 0.0 and value["fields"] == {"intent": 1, "when.day": 0} and "when.day" in value["reason"]


def test_without_names_the_whole_object_counts_and_more_is_wrong():
    metric = JsonField()
    assert metric.score('{"when": {"day": 3}, "a.b": [1, 2], "intent": "book"}', ROW)["score"] == 1.0
    assert metric.score('{"when": {"day": 3}, "a.b": [2, 1], "intent": "book"}', ROW)["fields"]["a.b"] == 0
    extra = metric.score('{"when": {"day": 3}, "a.b": [1, 2], "intent": "book", "x": 1}', ROW)
    assert extra["score"] == 0.0 and "x (not in the reference)" in extra["reason"]
    assert metric.score("true", {"answer": "1"})["score"] == 0.0  # true is no number


def test_what_is_no_json_fails_with_the_reason_and_is_counted():
    metric = JsonField(fields=("intent",))
    values = [
        metric.score(text, ROW)
        for text in ('{"intent": "book"}', "book", '{"intent": NaN}', '{"intent": 1, "intent": 2}')
    ]
    assert [value["score"] for value in values] == [1.0, 0.0, 0.0, 0.0] and "NaN" in values[2]["reason"]
    summary = metric.summary(values)
    assert summary.value == 0.25 and summary.extra["valid_json"] == 0.25
    assert summary.extra["per_field"]["intent"] == {"right": 0.25, "n": 4}
    assert (
        JsonField(fields=("intent",), inside_text=True).score('```json\n{"intent": "book"}\n```', ROW)["score"] == 1.0
    )


def test_a_reference_that_is_no_json_is_the_rows_mistake():
    with pytest.raises(DataError, match="a.jsonl:7"):
        JsonField().check({"answer": "book", "origin": "a.jsonl:7"})
