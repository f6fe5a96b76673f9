"""perplexity: rows between two thresholds, by what a model finds surprising."""

import math

import pytest

from tunesmith.core.errors import DataError, SettingError
from tunesmith.data.steps import Drop, run_steps
from tunesmith.data.steps.perplexity import Perplexity
from tunesmith.testing import check_step


def nll(name):
    """A model for which each letter q costs 3 nats and every other letter 1; a token is a letter."""
    assert name == "mini"
    return lambda texts: [
        (sum(3.0 if c == "q" else 1.0 for c in text), len(text), len(text.encode())) for text in texts
    ]


def rows(*texts):
    return [{"text": text, "origin": f"a.txt:{n}"} for n, text in enumerate(texts)]


def judged(step, *texts):
    return [
        (one.reason, one.detail) if isinstance(one, Drop) else "" for one in step.apply(iter(rows(*texts)), nll=nll)
    ]


def test_between_two_thresholds():
    step = Perplexity(most=8.0, least=math.e + 0.1)
    assert judged(step, "aq", "qq", "aa", "") == [
        "",
        ("too surprising", "20.09 perplexity, at most 8"),
        ("too predictable", "2.718 perplexity, at least 2.81828"),
        "",
    ]


def test_bits_per_byte_do_not_ask_how_many_tokens():
    step = Perplexity(most=0.5, unit="bits_per_byte")
    assert judged(step, "가", "a")[0] == "" and judged(step, "a")[0][0] == "too surprising"


def test_no_threshold_and_none_that_a_row_can_pass():
    with pytest.raises(SettingError, match="no threshold"):
        Perplexity()
    with pytest.raises(SettingError, match="no row can pass"):
        Perplexity(most=1, least=2)


def test_without_a_model_it_says_what_it_needs():
    with pytest.raises(DataError, match='needs "nll"'):
        list(run_steps(rows("a"), [("perplexity", Perplexity(most=3))], lambda name, drop: None))


def test_shelf():
    check_step(Perplexity(most=3.0), nll=nll)
