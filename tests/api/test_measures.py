"""How a variant of a chain is measured on a stage's rows: which measure, what fits, what cannot be measured."""

import json
import math
from types import SimpleNamespace

import pytest

from tunesmith.api.measures import Rows, Variant, as_perplexity, context_of, mean, measure_of, why_not
from tunesmith.core.errors import DataError
from tunesmith.evals.preference import evaluate_ratings


def test_perplexity_is_the_exponential_of_the_same_measurement():
    summary = {
        "value": 2.0,
        "low": 1.5,
        "high": None,
        "n": 9,
        "better": "lower",
        "extra": {"bytes": 400, "tokens": 100},
    }
    found = as_perplexity(summary)
    assert math.isclose(found["value"], 2**8) and math.isclose(found["low"], 2**6) and found["high"] is None


def test_a_mean_of_one_answer_has_no_interval():
    assert mean([3], "higher") == {"value": 3.0, "n": 1, "low": None, "high": None, "better": "higher", "extra": {}}


def test_every_kind_of_rows_has_its_measure():
    from tunesmith.data.kinds import KINDS

    assert {kind: measure_of("x", kind) for kind in KINDS if not measure_of("x", kind)} == dict.fromkeys(
        ("infill", "pair", "group"), ""
    )  # those have one by their method, or none
    assert measure_of("infill", "infill") == measure_of("infill", "text") == "blanks"
    assert (measure_of("masked", "text"), measure_of("seq2seq", "pair")) == ("hidden", "written")


def variant(kind, labels=(), problem="single"):
    config = SimpleNamespace(problem_type=f"{problem}_label_classification")
    return Variant(SimpleNamespace(kind=kind, labels=labels, net=SimpleNamespace(config=config)))


def test_what_a_variant_cannot_be_put_to_has_a_reason():
    labels = Rows("a", "labels", [], objective=SimpleNamespace(problem="single", labels=("x", "y")))
    assert labels.name == "a: accuracy"
    assert why_not(variant("classify", ("y", "x")), labels) == ""
    assert why_not(variant("classify", ("y", "z")), labels) == "it tells other labels apart"
    assert why_not(variant("classify", ("y", "x"), "multi"), labels) == "it tells other labels apart"
    assert why_not(variant("causal"), labels) == "it is a causal language model, which has no labels"
    pairs, texts, hidden = (Rows("a", how, []) for how in ("pairs", "text", "hidden"))
    assert why_not(variant("classify", ("reward",)), pairs) == why_not(variant("causal"), pairs) == ""
    assert "scores no answers" in why_not(variant("classify", ("x", "y")), pairs)
    assert why_not(variant("masked"), hidden) == "" and why_not(variant("causal"), hidden) != ""
    assert why_not(variant("seq2seq"), texts) == "it is an encoder-decoder"


def test_a_soft_prompt_takes_its_places_from_the_context(tmp_path):
    (tmp_path / "adapter").mkdir()
    said = {"base_model_name_or_path": "pico", "num_virtual_tokens": 20}
    (tmp_path / "adapter" / "adapter_config.json").write_text(json.dumps(said))
    assert context_of(tmp_path, 512) == 492
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "config.json").write_text(json.dumps({"max_position_embeddings": 256}))
    said["base_model_name_or_path"] = str(tmp_path / "base")
    (tmp_path / "adapter" / "adapter_config.json").write_text(json.dumps(said))
    assert context_of(tmp_path, 512) == 236
    assert context_of(tmp_path / "nothing", 512) == 512


def test_ratings_are_told_apart_as_the_area_under_the_curve():
    from sklearn.metrics import roc_auc_score

    values, good = [3.0, 1.0, 2.0, 2.0, 0.5, 4.0], [True, False, True, False, True, False]
    found = evaluate_ratings(lambda rows, answers: values, [{}] * 6, [[]] * 6, good)
    assert found.value == pytest.approx(roc_auc_score(good, values)) and found.low <= found.value <= found.high
    with pytest.raises(DataError, match="rated alike"):
        evaluate_ratings(lambda rows, answers: values, [{}] * 6, [[]] * 6, [True] * 6)
