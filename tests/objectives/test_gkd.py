"""gkd: the student's own answers, or the row's, are compared with the teacher at every token."""

import numpy as np
import pytest

from tunesmith.core.errors import DataError, SettingError
from tunesmith.model.generate import generate
from tunesmith.model.load import load
from tunesmith.model.teacher import Teacher
from tunesmith.objectives.distill import Distill
from tunesmith.objectives.gkd import Gkd
from tunesmith.objectives.sft import Sft
from tunesmith.step.helpers import Helpers
from tunesmith.step.step import backward
from tunesmith.testing.items import check_item
from tunesmith.text.encode import Text
from tunesmith.text.example import Unit
from tunesmith.text.tokenizer import byte_tokenizer
from tunesmith.train.feed import units_from_tensors, units_to_tensors
from tunesmith.train.loop import loop
from tunesmith.train.optim import Optimizer

ROWS = [
    {"messages": [{"role": "user", "content": f"say {word}"}], "answer": word, "origin": f"a.jsonl:{i}"}
    for i, word in enumerate(["red", "blue", "yes", "no"], start=1)
]


@pytest.fixture(scope="module")
def teacher():
    return Teacher.of(load("pico", seed=2), byte_tokenizer())


def collected(model, objective, seed=0, rows=ROWS, helpers=None):
    text = Text(model.tokenizer)
    asked = [u for i, row in enumerate(rows) for u in objective.units(row, text, np.random.default_rng([0, 0, i]))]

    def sample(prompts, n):
        flat = [prompt for prompt in prompts for _ in range(n)]
        seeds = [seed * 1000 + i for i in range(len(flat))]
        out = generate(model, flat, max_tokens=objective.max_tokens, temperature=1.0, seeds=seeds, eos_ids=text.stops)
        return [out[i * n : (i + 1) * n] for i in range(len(prompts))]

    return objective.collect(model.policy, asked, sample, None, helpers or Helpers())


@pytest.fixture
def student():
    model = load("pico", seed=1)
    model.net.requires_grad_(True)
    return model


def test_is_a_documented_item():
    check_item(Gkd(teacher="x"))


def test_the_loss_is_distills_on_the_students_answers(student, teacher):
    units = collected(student, Gkd(teacher="x", n=2, max_tokens=8, divergence="reverse", soften=1.5))
    helpers = Helpers(teacher=teacher)
    mine = backward(student.policy, Gkd(teacher="x", divergence="reverse", soften=1.5), units, helpers=helpers)
    plain = [Unit(unit.examples, unit.shared_prompt) for unit in units]
    theirs = backward(
        student.policy, Distill(teacher="x", divergence="reverse", temperature=1.5), plain, helpers=helpers
    )
    assert mine.loss == pytest.approx(theirs.loss, rel=1e-6)
    assert mine.figures["own"] == 1.0 and len(units) == 4 and {len(u.examples) for u in units} == {2}
    assert set(mine.figures) <= set(Gkd.figures)


def test_the_rest_of_the_prompts_brings_the_rows_answer(student, teacher):
    objective = Gkd(teacher="x", student_share=0.5, max_tokens=8)
    units = collected(student, objective)
    own = [unit.examples[0].columns["own"] for unit in units]
    assert own == [float(np.random.default_rng([0, 0, i]).random() < 0.5) for i in range(4)] and 0 < sum(own) < 4
    text = Text(student.tokenizer)
    for unit, row, mine in zip(units, ROWS, own):
        messages = [*row["messages"], {"role": "assistant", "content": row["answer"]}]
        (wanted,) = Sft().units({"messages": messages}, text, None)
        if not mine:
            assert unit.examples[0].ids.tolist() == wanted.examples[0].ids.tolist()
            assert unit.examples[0].weights.tolist() == wanted.examples[0].weights.tolist()
    figures = backward(student.policy, objective, units, helpers=Helpers(teacher=teacher)).figures
    assert figures["own"] == sum(own) / 4
    back = units_from_tensors(units_to_tensors(units))
    assert backward(student.policy, objective, back, helpers=Helpers(teacher=teacher)).figures == figures
    with pytest.raises(DataError, match="no answer"):
        collected(student, objective, rows=[{k: v for k, v in row.items() if k != "answer"} for row in ROWS])


def test_an_answer_ends_where_a_padded_head_says_what_no_tokenizer_has(teacher):
    padded = load("pico", seed=1)
    padded.net.resize_token_embeddings(teacher.vocab + 200)
    objective, helpers = Gkd(teacher="x", n=4, max_tokens=12), Helpers(teacher=teacher)
    units = collected(padded, objective, helpers=helpers)
    examples = [example for unit in units for example in unit.examples]
    assert all((example.ids < teacher.vocab).all() for example in examples)
    whole = [e for unit in collected(padded, objective) for e in unit.examples]  # the same answers as they were
    assert [e.ids.tolist() for e in examples] == [
        w.ids[: len(e)].tolist() for w, e in zip(whole, examples, strict=True)
    ]
    assert all(w.ids[len(e)] >= teacher.vocab for w, e in zip(whole, examples) if len(w) > len(e))
    assert sum(map(len, whole)) > sum(map(len, examples)) and sum(e.num_trained for e in examples) > 0
    assert np.isfinite(backward(padded.policy, objective, units, helpers=helpers).loss)


def test_the_student_comes_nearer_to_its_teacher(student, teacher):
    objective, seen = Gkd(teacher="x", n=2, max_tokens=8), []
    optimizer = Optimizer(student.net.named_parameters())
    for round_ in range(25):
        units = collected(student, objective, seed=round_)
        for step in loop(
            student.policy, objective, units, optimizer, steps=1, batch_size=4, lr=5e-3, schedule="constant",
            helpers=Helpers(teacher=teacher),
        ):  # fmt: skip
            seen.append(step.stats.figures["divergence"])
    assert np.mean(seen[-3:]) < 0.7 * np.mean(seen[:3])


@pytest.mark.parametrize("settings", [{"student_share": 0.0}, {"beta": 1.0}, {"temperature": 0.0}, {"soften": 0.0}])
def test_settings_that_cannot_be_are_refused(settings):
    with pytest.raises(SettingError):
        Gkd(teacher="x", **settings)
