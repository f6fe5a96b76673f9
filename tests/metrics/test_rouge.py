"""rouge equals rouge-score on English and works on Korean, where that library's tokeniser gives 0."""

import pytest

from tunesmith.metrics.rouge import Rouge

rouge_scorer = pytest.importorskip("rouge_score.rouge_scorer")

SAID, GOLD = "The quick fox jumps over the dog.", "A quick brown fox jumped over the lazy dog"


@pytest.mark.parametrize("kind", ["rouge1", "rouge2", "rougeL", "rougeLsum"])
@pytest.mark.parametrize("stem", [False, True])
def test_equals_the_library_on_english(kind, stem):
    oracle = rouge_scorer.RougeScorer([kind], use_stemmer=stem).score(GOLD, SAID)[kind].fmeasure
    assert Rouge(kind=kind, stem=stem).score(SAID, {"answer": GOLD}) == pytest.approx(oracle)


def test_korean():
    row = {"answer": "정부는 오늘 새 정책을 발표했다"}
    assert rouge_scorer.RougeScorer(["rouge1"]).score(row["answer"], row["answer"])["rouge1"].fmeasure == 0
    assert Rouge(kind="rouge1").score("정부는 새 정책을 내놓았다", row) == pytest.approx(2 * 3 / 9)
    assert Rouge(kind="rougeL", unit="characters").score("정부가", {"answer": "정부는"}) == pytest.approx(2 / 3)


def test_best_reference_and_interval():
    metric = Rouge(kind="rouge1")
    assert metric.score("b", {"answers": ["a", "b"]}) == 1.0
    assert metric.summary([0.2, 0.4]).n == 2
