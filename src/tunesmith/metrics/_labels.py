"""Which class an answer names: the whole answer, or one field of it when it is JSON."""

from collections.abc import Mapping
from typing import Any

from tunesmith.core.errors import DataError
from tunesmith.metrics._json import NotJson, as_label, at, read_json
from tunesmith.metrics._text import normalise
from tunesmith.metrics._values import origin_of, references


def predicted_label(text: str, field: str, *, inside_text: bool, ignore_case: bool) -> str | None:
    """The label in a prediction, or None where it is not JSON with that field (when a field is asked for)."""
    if not field:
        return normalise(text, ignore_case=ignore_case)
    try:
        return normalise(as_label(at(read_json(text, inside_text=inside_text), field)), ignore_case=ignore_case)
    except NotJson:
        return None


def gold_label(row: Mapping[str, Any], field: str, *, inside_text: bool, ignore_case: bool) -> str:
    """The label in a row's answer. With a field, an answer that is not JSON or lacks it is a DataError naming the row."""
    answer = references(row)[0]
    if not field:
        return normalise(answer, ignore_case=ignore_case)
    try:
        return normalise(as_label(at(read_json(answer, inside_text=inside_text), field)), ignore_case=ignore_case)
    except NotJson as error:
        raise DataError(
            f'{origin_of(row)}: its answer has no field "{field}" ({error}): {answer[:80]}',
            fix="Name a field that every answer has, or leave `field` out to compare whole answers.",
        ) from None
