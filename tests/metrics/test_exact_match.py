"""exact_match: NFC, white space, references, interval."""

import unicodedata

import pytest

from tunesmith.core.errors import DataError
from tunesmith.metrics.exact_match import ExactMatch


def test_white_space_and_unicode_form_do_not_count_words_do():
    metric = ExactMatch()
    assert metric.score("  서울\n특별시 ", {"answer": "서울 특별시"}) == 1.0
    assert metric.score(unicodedata.normalize("NFD", "한글"), {"answer": "한글"}) == 1.0
    assert metric.score("Seoul.", {"answer": "Seoul"}) == 0.0


def test_settings_and_several_references():
    assert ExactMatch(ignore_case=True, ignore_punctuation=True).score("seoul!", {"answer": "Seoul"}) == 1.0
    assert ExactMatch().score("b", {"answers": ["a", "b"]}) == 1.0


def test_summary_is_wilsons():
    summary = ExactMatch().summary([1.0] * 15 + [0.0] * 133)
    assert (summary.value, summary.n, summary.better) == (15 / 148, 148, "higher")
    assert (summary.low, summary.high) == pytest.approx((0.0624, 0.1605), abs=5e-5)


def test_nothing_to_compare_with_or_to_summarise_is_told():
    with pytest.raises(DataError, match="faq.jsonl:3 has no answer"):
        ExactMatch().score("x", {"origin": "faq.jsonl:3"})
    with pytest.raises(DataError, match="no rows"):
        ExactMatch().summary([])
