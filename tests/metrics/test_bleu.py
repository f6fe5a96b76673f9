"""bleu equals sacreBLEU's corpus BLEU, also on resamples."""

import numpy as np
import pytest

from tunesmith.core.errors import SettingError
from tunesmith.metrics import _extra
from tunesmith.metrics.bleu import Bleu, _sentence_bleu

sacrebleu = pytest.importorskip("sacrebleu")

SAID = ["the cat sat on a mat", "there is a dog in the garden", "he reads", "", "나는 오늘 학교에 갔다"]
GOLD = [
    "the cat sat on the mat",
    "a dog is in the garden now",
    "she reads books",
    "nothing at all",
    "나는 어제 학교에 갔다",
]


@pytest.mark.parametrize("tokenize", ["13a", "char"])
def test_equals_sacrebleu(tokenize):
    metric = Bleu(tokenize=tokenize)
    summary = metric.summary([metric.score(s, {"answer": g}) for s, g in zip(SAID, GOLD)])
    oracle = sacrebleu.metrics.BLEU(tokenize=tokenize).corpus_score(SAID, [GOLD])
    assert summary.value * 100 == pytest.approx(oracle.score, abs=1e-9)
    assert summary.low <= summary.value <= summary.high and summary.n == 5


def test_every_resample_equals_sacrebleu_on_that_resample():
    metric = Bleu()
    values = [metric.score(s, {"answer": g}) for s, g in zip(SAID, GOLD)]
    drawn = np.random.default_rng(0).integers(0, 5, (20, 5))
    counts = np.array([np.bincount(row, minlength=5) for row in drawn], dtype=float)
    for row, found in zip(drawn, metric.over_counts(values)(counts)):
        oracle = sacrebleu.metrics.BLEU().corpus_score([SAID[i] for i in row], [[GOLD[i] for i in row]])
        assert found * 100 == pytest.approx(oracle.score, abs=1e-9)


def test_several_references():
    row = {"answers": ["the cat sat on the mat", "a cat was on the mat"]}
    metric = Bleu()
    found = metric.summary([metric.score("a cat sat on the mat", row)]).value
    oracle = sacrebleu.metrics.BLEU().corpus_score(["a cat sat on the mat"], [[a] for a in row["answers"]])
    assert found * 100 == pytest.approx(oracle.score, abs=1e-9)


def test_without_the_library_the_extra_is_named(monkeypatch):
    def missing(name):
        raise ModuleNotFoundError(f"No module named '{name}'")

    _sentence_bleu.cache_clear()
    monkeypatch.setattr(_extra.importlib, "import_module", missing)
    with pytest.raises(SettingError, match=r"pip install \"tunesmith\[eval\]\""):
        Bleu().check({"answer": "x"})
