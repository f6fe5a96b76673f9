"""check_metric passes every metric of the shelf and catches each broken promise."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from tunesmith.core.shelf import shelf
from tunesmith.metrics import Summary, mean_summary
from tunesmith.testing import check_metric
from tunesmith.testing.metrics import ROWS

# Metrics that cannot score the plain rows: with which settings and rows they can.
JSON_ROWS = [{"id": str(i), "origin": f"r:{i}", "answer": f'{{"intent": "{word}"}}'} for i, word in enumerate("aba")]
SPECIAL: dict[str, tuple[dict[str, Any], Sequence[Mapping[str, Any]]]] = {
    "format": ({"min_length": 1, "max_length": 100}, ROWS),
    "code": (
        {},
        [{"id": "1", "origin": "r:1", "answer": "def one(): return 1", "columns": {"tests": "assert one() == 1"}}],
    ),
    "json_field": ({}, JSON_ROWS),
    "number_error": ({}, [{**row, "answer": str(1.5 * n)} for n, row in enumerate(ROWS)]),
    "sql": (
        {"schema": "CREATE TABLE t(a); INSERT INTO t VALUES (1), (2);"},
        [{"id": str(i), "origin": f"r:{i}", "answer": f"SELECT a FROM t WHERE a = {i}"} for i in (1, 2)],
    ),
}


NEED_A_MODEL = {"cosine", "reward"}  # tests/metrics/test_cosine.py and test_reward.py give them one


@pytest.mark.parametrize("name", sorted({*shelf("metrics").names()} - NEED_A_MODEL))
def test_every_metric_of_the_shelf_keeps_the_promises(name: str):
    settings, rows = SPECIAL.get(name, ({}, ROWS))
    check_metric(shelf("metrics").make({name: settings}), rows)


GOOD = '''"""mine: a metric."""
from dataclasses import dataclass
from tunesmith.metrics import mean_summary

@dataclass(frozen=True)
class Mine:
    bonus: float = 0.0
    """Added to nothing."""

    def score(self, prediction, row):
        return float(prediction == row["answer"])

    def summary(self, values):
        return mean_summary(values)
'''


def made(text: str, tmp_path, monkeypatch) -> Any:
    from tunesmith.core.shelf import use

    (tmp_path / "metrics").mkdir()
    (tmp_path / "metrics" / "mine.py").write_text(text)
    monkeypatch.setenv("TUNESMITH_USE", "{}")
    use(["metrics/mine.py"], tmp_path)
    return shelf("metrics").make("mine")


def test_a_good_one_passes(tmp_path, monkeypatch):
    check_metric(made(GOOD, tmp_path, monkeypatch))


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('    """Added to nothing."""\n', "", 'the setting "bonus" of Mine has a sentence'),
        ('"""mine: a metric."""', "", "the first line of mine.py says what Mine is"),
        ("frozen=True", "frozen=False", "Mine is frozen"),
        ("return float(", "return str(", "gives a number"),
        ("return float(", "return bool(", "gives a number"),
        ("return float(", "row['seen'] = 1; return float(", "leaves the row"),
        ("return float(", "import random; return random.random() * float(", "gives the same twice"),
        ("float(prediction == ", "float(prediction != ", "never worse"),
        ("mean_summary(values)", "mean_summary([*values[:1], 0.0] * 2)", "does not depend on the order"),
        ("mean_summary(values)", "mean_summary(values or [0.0])", "a score of no rows is no score"),
    ],
)
def test_broken_promises_are_told(tmp_path, monkeypatch, old: str, new: str, said: str):
    metric = made(GOOD.replace(old, new), tmp_path, monkeypatch)
    with pytest.raises(AssertionError, match=said):
        check_metric(metric)


def test_an_interval_beside_its_value_is_told():
    @dataclass(frozen=True)
    class Metrics:
        def score(self, prediction: str, row: Mapping[str, Any]) -> float:
            return float(prediction == row["answer"])

        def summary(self, values: Sequence[Any]) -> Summary:
            summary = mean_summary(values)
            return Summary(summary.value, summary.n, 2.0, 3.0)

    from tunesmith.testing.metrics import _check_summary

    with pytest.raises(AssertionError, match="lies in its interval"):
        _check_summary(Metrics(), "Metrics", [1.0, 0.0])
