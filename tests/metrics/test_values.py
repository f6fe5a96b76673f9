"""What metrics share: means, clusters, and that every file is on the shelf, light to import, and true in its examples."""

import dataclasses
import doctest
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import tunesmith.metrics
from tunesmith.core.shelf import shelf
from tunesmith.metrics import mean_summary, number_of

NAMES = ["accuracy", "bleu", "chrf", "exact_match", "format", "json_field", "macro_f1", "rouge", "sql", "token_f1"]
FILES = sorted(Path(tunesmith.metrics.__file__).parent.glob("*.py"))


def test_every_metric_is_on_the_shelf_with_its_settings_explained():
    assert [name for name in NAMES if name not in shelf("metrics").names()] == []
    for name in NAMES:
        item = shelf("metrics").item(name)
        assert all(field.doc and field.korean for field in item.settings()), name
        assert dataclasses.is_dataclass(shelf("metrics").load(name)) and item.doc


def test_a_metric_is_made_from_a_project_file():
    metric = shelf("metrics").make({"format": {"schema": {"type": "object"}, "max_length": 80}})
    assert metric.score('{"a": 1}', {})["score"] == 1.0
    assert shelf("metrics").make({"json_field": {"fields": ["a"]}}).fields == ("a",)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_docstrings(path):
    needs = {"bleu": "sacrebleu", "rouge": "rouge_score"}.get(path.stem)
    if needs:
        pytest.importorskip(needs)
    name = "tunesmith.metrics" if path.stem == "__init__" else f"tunesmith.metrics.{path.stem}"
    assert not doctest.testmod(importlib.import_module(name)).failed


def test_import_is_light():
    names = ", ".join(f"tunesmith.metrics.{name}" for name in NAMES)
    heavy = "('torch', 'scipy', 'sklearn', 'sacrebleu', 'rouge_score', 'nltk')"
    code = f"import sys, {names}; print([m for m in {heavy} if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_clusters_widen_the_interval_of_shares_and_means():
    values = [1.0] * 10 + [0.0] * 10
    alone = mean_summary(values)
    together = mean_summary(values, clusters=[i // 5 for i in range(20)])
    assert together.extra["clusters"] == 4 and together.high - together.low > alone.high - alone.low
    assert mean_summary(values, clusters=range(20)) == alone
    assert (together.low, together.high) == (0.0, 1.0)  # cut off at what a share can be


def test_number_of_a_value():
    assert number_of(0.5) == 0.5 and number_of({"score": 1, "reason": ""}) == 1.0
