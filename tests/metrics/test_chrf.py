"""chrf equals sacreBLEU's chrF2."""

import pytest

from tunesmith.metrics.chrf import Chrf

sacrebleu = pytest.importorskip("sacrebleu")

SAID = ["the cat sat on a mat", "hi", "", "나는 오늘 학교에 갔다", "abc"]
GOLD = ["the cat sat on the mat", "hello there", "nothing", "나는 어제 학교에 갔다", "abc"]


@pytest.mark.parametrize("order, beta", [(6, 2.0), (3, 1.0)])
def test_equals_sacrebleu(order, beta):
    metric = Chrf(order=order, beta=beta)
    summary = metric.summary([metric.score(s, {"answer": g}) for s, g in zip(SAID, GOLD)])
    oracle = sacrebleu.metrics.CHRF(char_order=order, beta=beta).corpus_score(SAID, [GOLD])
    assert summary.value * 100 == pytest.approx(oracle.score, abs=1e-6)
    assert summary.low < summary.value < summary.high


def test_the_best_of_several_references_counts():
    metric = Chrf()
    assert metric.score("abc", {"answers": ["xyz", "abc"]})["score"] == pytest.approx(1.0)
