"""token_f1: SQuAD's and KorQuAD's known values."""

import pytest

from tunesmith.metrics.token_f1 import TokenF1


@pytest.mark.parametrize(
    "said, gold, f1",
    [
        ("The Eiffel Tower!", "eiffel tower", 1.0),  # articles, case, punctuation
        ("in Paris, France", "Paris", 0.5),  # precision 1/3, recall 1
        ("a cat cat", "cat dog", 0.5),  # one of two on each side
        ("Rome", "Paris", 0.0),
        ("the", "a", 1.0),  # both empty after articles
        ("", "Paris", 0.0),
    ],
)
def test_words(said, gold, f1):
    assert TokenF1().score(said, {"answer": gold}) == pytest.approx(f1)


def test_korean_particles_cost_everything_in_words_and_little_in_characters():
    row = {"answer": "세종대왕"}
    assert TokenF1().score("세종대왕이", row) == 0.0
    assert TokenF1(unit="characters").score("세종대왕이", row) == pytest.approx(2 * 4 / 9)


def test_best_reference_and_interval():
    metric = TokenF1()
    assert metric.score("Lyon", {"answers": ["Paris", "Lyon"]}) == 1.0
    summary = metric.summary([0.5, 1.0, 0.75])
    assert summary.value == 0.75 and summary.low < 0.75 < summary.high <= 1.0
