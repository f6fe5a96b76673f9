"""infill: given and random blanks, what is learned, and that a tuned model fills the blanks it is asked."""

import json
import math

import numpy as np
import pytest

from tunesmith.core.errors import SettingError
from tunesmith.model.load import load
from tunesmith.objectives.infill import Infill
from tunesmith.step.step import backward
from tunesmith.testing import check_objective
from tunesmith.text.encode import Text
from tunesmith.text.infill import blank_of, prompt_ids

BLANKS = [
    {"prefix": "two plus two is ", "middle": "four", "suffix": ".", "origin": "a.jsonl:1"},
    {"prefix": "the sky is ", "middle": "blue", "suffix": " today", "origin": "a.jsonl:2"},
    {"prefix": "", "middle": "서울", "suffix": "은 수도다", "origin": "a.jsonl:3"},
    {"prefix": "the end", "middle": "", "suffix": "", "origin": "a.jsonl:4"},
]
TEXTS = [{"text": f"{row['prefix']}{row['middle']}{row['suffix']}", "origin": row["origin"]} for row in BLANKS]


def units_of(model, rows, objective, **settings):
    text = Text(model.tokenizer, **settings)
    return [u for n, row in enumerate(rows) for u in objective.units(row, text, np.random.default_rng([0, n]))]


@pytest.mark.parametrize("settings", [{}, {"learn": "middle", "spm": 1.0}, {"rate": 0.5, "level": "document"}])
@pytest.mark.parametrize("rows", [BLANKS, TEXTS], ids=["blanks", "texts"])
def test_keeps_what_the_shelf_promises(rows, settings):
    check_objective(Infill(**settings), rows)


def test_a_model_that_knows_nothing_has_the_loss_ln_v():
    model = load("pico", seed=3)
    model.net.get_input_embeddings().weight.data.zero_()
    stats = backward(model.policy, Infill(), units_of(model, BLANKS, Infill()))
    expected = math.log(model.tokenizer.vocab_size)
    assert stats.figures == pytest.approx({"loss": expected, "middle_loss": expected}, rel=1e-6)


def test_middle_loss_is_the_loss_when_only_the_middle_is_learned():
    model = load("pico", seed=1)
    stats = backward(model.policy, Infill(learn="middle"), units_of(model, BLANKS, Infill(learn="middle")))
    assert stats.figures["middle_loss"] == pytest.approx(stats.figures["loss"], rel=1e-6)


def test_the_same_row_and_draw_give_the_same_blank_and_another_draw_another():
    model = load("pico")
    text = Text(model.tokenizer)
    row = {"text": "a text of some length", "origin": "t:1"}

    def ids(seed):
        return Infill(rate=1.0).units(row, text, np.random.default_rng(seed))[0].examples[0].ids.tolist()

    assert ids(1) == ids(1)
    assert len({tuple(ids(seed)) for seed in range(10)}) > 5
    assert all(blank_of(model.tokenizer).undo(ids(seed)) == row["text"] for seed in range(10))


def test_a_tuned_model_fills_the_blanks_prefix_first_and_suffix_first():
    """C8: exact match on blanks rises over the untuned model's 0."""
    from tunesmith.model.generate import generate
    from tunesmith.train.optim import Optimizer

    model = load("pico", seed=1)
    text, objective = Text(model.tokenizer), Infill(learn="middle")
    units = [
        *units_of(model, BLANKS, Infill(learn="middle", spm=0)),
        *units_of(model, BLANKS, Infill(learn="middle", spm=1)),
    ]
    prompts = [prompt_ids(text, row["prefix"], row["suffix"], spm=spm) for spm in (False, True) for row in BLANKS]
    stops = blank_of(model.tokenizer).stops

    def right():
        answers = generate(model, prompts, max_tokens=12, eos_ids=stops)
        return [answer.text for answer in answers] == 2 * [row["middle"] for row in BLANKS]

    assert not right()
    optimizer = Optimizer(model.net.named_parameters())
    for _ in range(250):
        backward(model.policy, objective, units)
        optimizer.step(lr=1e-2)
    model.net.eval()
    assert right()


def test_held_out_blanks_are_scored_by_exact_match(tmp_path):
    from tunesmith.evals.run import evaluate
    from tunesmith.metrics.exact_match import ExactMatch

    model = load("pico", seed=1)
    text = Text(model.tokenizer)
    metrics = {"exact_match": ExactMatch()}
    found = evaluate(model, text, BLANKS[:3], metrics, folder=tmp_path, name="test", max_tokens=4)
    assert found["metrics"]["exact_match"]["n"] == 3
    (line, *_) = [json.loads(line) for line in (tmp_path / "test.jsonl").read_text().splitlines()]
    assert line["prompt"] == "two plus two is ____." and line["answer"] == "four"
    assert line["prompt_tokens"] == len(prompt_ids(text, BLANKS[0]["prefix"], BLANKS[0]["suffix"]))


def test_a_run_that_learned_suffix_first_is_asked_so():
    from tunesmith.api.config import resolve
    from tunesmith.api.eval import _suffix_first

    for method, first in (
        ("infill", False),
        ({"infill": {"spm": 1.0}}, True),
        ({"multitask": {"tasks": {"a": "sft", "b": {"infill": {"spm": 0.9}}}}}, True),
        ("sft", False),
    ):
        assert _suffix_first(resolve({"method": method})[0]) is first


def test_impossible_settings_are_refused():
    with pytest.raises(SettingError, match="rate is 1.5"):
        Infill(rate=1.5)
