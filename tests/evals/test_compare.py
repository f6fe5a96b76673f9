"""compare: the right test for each kind of metric, matching of rows, refusal of other rows."""

import numpy as np
import pytest

from tunesmith.core.errors import DataError, SettingError
from tunesmith.evals.compare import compare, same_rows
from tunesmith.evals.files import read_evaluation, score_line, summarise, write_evaluation
from tunesmith.metrics.chrf import Chrf
from tunesmith.metrics.exact_match import ExactMatch
from tunesmith.metrics.macro_f1 import MacroF1
from tunesmith.metrics.token_f1 import TokenF1
from tunesmith.stats.paired import mcnemar, paired_means

METRICS = {"exact_match": ExactMatch(), "token_f1": TokenF1(), "macro_f1": MacroF1(), "chrf": Chrf()}
WORDS = ["red apple", "red pear", "blue apple", "ripe fig"]


def written(folder, name, right, seed, n=240, metrics=METRICS, clusters=None, **change):
    """An evaluation in which a row is answered rightly with probability `right`; rows are hard for all runs alike."""
    draw, own = np.random.default_rng(0), np.random.default_rng(seed)
    lines = []
    for i in range(n):
        gold, luck = WORDS[draw.integers(4)], 0.8 * draw.random() + 0.2 * own.random()
        said = gold if luck < right else WORDS[own.integers(4)]
        row = {"id": f"{i:04}", "origin": f"a:{i}", "answer": gold, **change}
        lines.append(
            {
                **row,
                "prediction": said,
                **score_line(metrics, said, row),
                **({"cluster": i % clusters} if clusters else {}),
            }
        )
    write_evaluation(folder, name, lines, {"metrics": summarise(metrics, lines)})
    return read_evaluation(folder / name)


def test_each_metric_gets_its_test(tmp_path):
    a, b = written(tmp_path, "a", 0.5, 1), written(tmp_path, "b", 0.7, 2)
    found = {one.metric: one for one in compare(a, b, resamples=2_000)}
    right_a, right_b = ([row["metrics"]["exact_match"] for row in each.rows] for each in (a, b))
    oracle = mcnemar(right_a, right_b)
    exact = found["exact_match"]
    assert (exact.p, exact.low, exact.high, exact.test) == (oracle.p, oracle.low, oracle.high, oracle.test)
    f1 = paired_means(*([row["metrics"]["token_f1"] for row in each.rows] for each in (a, b)), resamples=2_000)
    assert (found["token_f1"].p, found["token_f1"].low) == (f1.p, f1.low)
    for name in ("macro_f1", "chrf"):
        assert found[name].test == "approximate randomisation"
        assert found[name].difference == pytest.approx(
            b.summary["metrics"][name]["value"] - a.summary["metrics"][name]["value"]
        )
        assert found[name].low < found[name].difference < found[name].high
    assert all(
        one.told_apart and one.winner == "b" and "b is better than a by" in one.verdict for one in found.values()
    )
    assert exact.p_adjusted >= exact.p and exact.n == 240


def test_equal_runs_and_noise_are_not_told_apart(tmp_path):
    a, b = written(tmp_path, "a", 0.6, 1), written(tmp_path, "b", 0.6, 2)
    for one in [*compare(a, a, resamples=500), *compare(a, b, resamples=500)]:
        assert not one.told_apart and not one.winner and "not told apart" in one.verdict
    assert compare(a, a, resamples=500)[0].a == "a (A)"


def test_turned_round_the_sign_turns(tmp_path):
    a, b = written(tmp_path, "a", 0.5, 1), written(tmp_path, "b", 0.7, 2)
    there, back = (compare(x, y, metrics=["exact_match"])[0] for x, y in ((a, b), (b, a)))
    assert (back.difference, back.low, back.high) == pytest.approx((-there.difference, -there.high, -there.low))
    assert back.p == there.p and back.winner == there.winner == "b" and "a is worse than b" in back.verdict


def test_rows_in_another_order_are_matched_by_id(tmp_path):
    a, b = written(tmp_path, "a", 0.5, 1), written(tmp_path, "b", 0.7, 2)
    write_evaluation(tmp_path, "mixed", list(b.rows)[::-1], {"metrics": b.summary["metrics"]})
    mixed = read_evaluation(tmp_path / "mixed")
    assert compare(a, mixed, metrics=["exact_match"])[0].p == compare(a, b, metrics=["exact_match"])[0].p


def test_other_rows_are_refused_with_counts(tmp_path):
    a = written(tmp_path, "a", 0.5, 1)
    with pytest.raises(DataError, match="140 are only in the first, 0 only in the second, 100 in both"):
        same_rows(a, written(tmp_path, "fewer", 0.5, 1, n=100))
    with pytest.raises(DataError, match="240 rows have another reference answer"):
        same_rows(a, written(tmp_path, "other", 0.5, 1, answer="kiwi"))
    with pytest.raises(DataError, match="cannot be told by their ids"):
        same_rows(a, written(tmp_path, "blank", 0.5, 1, id=None))


def test_other_metrics_or_settings_are_refused(tmp_path):
    a = written(tmp_path, "a", 0.5, 1)
    only = written(tmp_path, "only", 0.5, 1, metrics={"exact_match": ExactMatch(ignore_case=True)})
    with pytest.raises(SettingError, match='no metric in both evaluations "chrf"'):
        compare(a, only, metrics=["chrf"])
    with pytest.raises(DataError, match="other settings"):
        compare(a, only)
    with pytest.raises(DataError, match="no metric in common"):
        compare(a, written(tmp_path, "none", 0.5, 1, metrics={}))


def test_clusters_are_tested_as_clusters(tmp_path):
    a, b = (written(tmp_path, n, r, s, clusters=12) for n, r, s in (("a", 0.5, 1), ("b", 0.7, 2)))
    assert compare(a, b, metrics=["exact_match"])[0].test == "permutation of clusters"


def test_korean(tmp_path):
    a, b = written(tmp_path, "a", 0.5, 1), written(tmp_path, "b", 0.7, 2)
    assert "더 좋음" in compare(a, b, metrics=["exact_match"], lang="ko")[0].verdict
