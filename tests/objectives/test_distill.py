"""distill: divergences are torch's and TRL's, stored tokens say what the live teacher says, other tokenizers are refused."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tunesmith.adapters.prefix import Prefix
from tunesmith.adapters.prompt import Prompt
from tunesmith.adapters.store import attach
from tunesmith.core.errors import DataError, ModelError, SettingError
from tunesmith.model.load import load
from tunesmith.model.policy import Policy
from tunesmith.model.teacher import Teacher, differs, taught
from tunesmith.objectives._divergence import divergence, from_top
from tunesmith.objectives.distill import Distill, with_top
from tunesmith.objectives.sft import Sft
from tunesmith.step.helpers import Helpers
from tunesmith.step.step import backward
from tunesmith.testing import check_objective
from tunesmith.testing.items import check_item
from tunesmith.text.encode import Text
from tunesmith.text.tokenizer import byte_tokenizer
from tunesmith.train.loop import loop
from tunesmith.train.optim import Optimizer

TRL = json.loads(Path(__file__).with_name("trl_sampling.json").read_text())
ROWS = [
    {
        "messages": [{"role": "user", "content": f"say {word}"}, {"role": "assistant", "content": word}],
        "origin": f"a.jsonl:{i}",
    }
    for i, word in enumerate(["red", "blue", "yes", "no"], start=1)
]


@pytest.fixture(scope="module")
def teacher():
    return Teacher.of(load("pico", dtype="fp64", seed=2), byte_tokenizer())


@pytest.fixture
def student():
    model = load("pico", dtype="fp64", seed=1)
    model.net.requires_grad_(True)
    return model


def units_of(model, objective, rows=ROWS):
    text = Text(model.tokenizer)
    return [unit for row in rows for unit in objective.units(row, text, np.random.default_rng(0))]


# -- the divergences ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", list(TRL["jsd"]))
def test_value_and_gradient_are_trls(case):
    beta, temperature = map(float, case.split())
    kind = {0.0: "forward", 1.0: "reverse"}.get(beta, "jsd")
    student = torch.tensor(TRL["student"], dtype=torch.float64, requires_grad=True)
    teacher = torch.tensor(TRL["teacher"], dtype=torch.float64)
    loss = divergence(student, teacher, kind=kind, beta=beta, temperature=temperature).sum()
    (gradient,) = torch.autograd.grad(loss, [student])
    wanted = TRL["jsd"][case]
    # TRL rounds the logarithm of beta in fp32, and leaves out the square of the temperature
    assert loss.item() == pytest.approx(temperature**2 * wanted["loss"], rel=1e-6)
    np.testing.assert_allclose(gradient.numpy(), temperature**2 * np.array(wanted["gradient"]), rtol=1e-5, atol=1e-8)


def test_values_are_those_of_torchs_kl_div():
    generator = torch.Generator().manual_seed(0)
    student, teacher = (torch.randn(6, 9, generator=generator, dtype=torch.float64) for _ in range(2))
    for temperature in (1.0, 3.0):
        q, p = ((logits / temperature).log_softmax(-1) for logits in (student, teacher))
        forward = temperature**2 * F.kl_div(q, p.exp(), reduction="none").sum(-1)
        reverse = temperature**2 * F.kl_div(p, q.exp(), reduction="none").sum(-1)
        torch.testing.assert_close(divergence(student, teacher, kind="forward", temperature=temperature), forward)
        torch.testing.assert_close(divergence(student, teacher, kind="reverse", temperature=temperature), reverse)
    assert not divergence(student, student + 2.0, kind="jsd", beta=0.3).abs().max() > 1e-12


def test_with_the_square_the_gradient_keeps_its_size():
    """Hinton et al. 2015: at a high temperature the gradient of the scaled loss tends to (student - teacher) / vocab."""
    generator = torch.Generator().manual_seed(0)
    student, teacher = (torch.randn(1, 8, generator=generator, dtype=torch.float64) for _ in range(2))
    student, teacher = student - student.mean(), teacher - teacher.mean()
    student.requires_grad_(True)
    (gradient,) = torch.autograd.grad(divergence(student, teacher, kind="forward", temperature=1000.0).sum(), [student])
    torch.testing.assert_close(gradient, (student.detach() - teacher) / 8, rtol=1e-2, atol=1e-4)


def test_likeliest_tokens_become_a_whole_distribution():
    whole = torch.randn(4, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).log_softmax(-1)
    logps, ids = whole.topk(12, dim=-1)
    torch.testing.assert_close(from_top(ids, logps, 12, 12), whole)
    few = from_top(ids[:, :3], logps[:, :3], 12, 12)
    torch.testing.assert_close(few.exp().sum(-1), torch.ones(4, dtype=torch.float64))
    rest = few.gather(1, ids[:, 3:]).exp()
    torch.testing.assert_close(rest, ((1 - logps[:, :3].exp().sum(-1, keepdim=True)) / 9).expand(4, 9))


# -- the objective --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "settings", [{}, {"divergence": "reverse", "temperature": 1.0}, {"divergence": "jsd", "beta": 0.2, "alpha": 0.6}]
)
def test_keeps_what_the_shelf_promises(teacher, settings):
    check_objective(Distill(teacher="t", **settings), helpers=Helpers(teacher=teacher))


def test_the_loss_is_the_mean_divergence_over_the_answers_tokens(student, teacher):
    objective = Distill(teacher="t", temperature=2.0, alpha=0.7)
    units = units_of(student, objective)
    soft, hard, count = 0.0, 0.0, 0
    for unit in units:
        example = unit.examples[0]
        ids = torch.tensor(example.ids, dtype=torch.int64)[None]
        mine = torch.tensor(example.weights[1:] > 0)
        with torch.no_grad():
            ours = student.net(input_ids=ids).logits[0, :-1][mine]
            theirs = teacher.policy.net(input_ids=ids).logits[0, :-1][mine]
        soft += divergence(ours, theirs, kind="forward", temperature=2.0).sum().item()
        hard += F.cross_entropy(ours, ids[0, 1:][mine], reduction="sum").item()
        count += int(mine.sum())
    stats = backward(student.policy, objective, units, helpers=Helpers(teacher=teacher))
    assert stats.loss == pytest.approx((0.7 * soft + 0.3 * hard) / count, rel=1e-6)
    assert stats.figures["divergence"] == pytest.approx(soft / count, rel=1e-6)
    assert stats.figures["loss"] == pytest.approx(hard / count, rel=1e-6)


def test_a_student_that_is_its_teacher_has_nothing_to_learn(teacher):
    twin = load("pico", dtype="fp64", seed=2)
    stats = backward(
        twin.policy, Distill(teacher="t"), units_of(twin, Distill(teacher="t")), helpers=Helpers(teacher=teacher)
    )
    assert stats.figures["divergence"] == pytest.approx(0.0, abs=1e-9)
    assert stats.figures["agreement"] == 1.0


def test_agreement_with_the_teacher_rises():
    student, learned = load("pico", seed=1), load("pico", seed=2)
    for model in (student, learned):
        model.net.requires_grad_(True)
    optimizer = Optimizer(learned.net.named_parameters())
    list(loop(learned.policy, Sft(), units_of(learned, Sft()), optimizer, steps=100, batch_size=4, lr=1e-2))
    teacher32 = Teacher.of(learned, byte_tokenizer())
    objective = Distill(teacher="t", temperature=1.0)
    steps = list(
        loop(
            student.policy, objective, units_of(student, objective), Optimizer(student.net.named_parameters()), steps=80,
            batch_size=4, lr=5e-3, helpers=Helpers(teacher=teacher32),
        )
    )  # fmt: skip
    first, last = steps[0].stats.figures, steps[-1].stats.figures
    assert last["divergence"] < first["divergence"] / 3
    assert last["agreement"] > first["agreement"] + 0.3


@pytest.mark.parametrize("shelf", ["prompt", "prefix"])
def test_a_student_with_a_soft_prompt_reads_it_and_its_teacher_does_not(teacher, student, shelf):
    student.net.requires_grad_(False)
    attach(Prompt(virtual=3) if shelf == "prompt" else Prefix(virtual=3), student)
    objective = Distill(teacher="t", temperature=2.0)
    units = units_of(student, objective)
    plain = load("pico", dtype="fp64", seed=1).policy
    wanted = teacher.predicting(plain.batch(units))
    for layout in ("packed", "padded") if shelf == "prompt" else ("padded",):
        policy = Policy(student.net, layout=layout)
        batch = policy.batch(units)
        assert torch.allclose(teacher.predicting(batch, policy.front), wanted, atol=1e-10)
        loss = objective.loss(policy, batch, Helpers(teacher=teacher))
        sum(loss.terms.values()).backward()
    trained = [p.grad for p in student.net.parameters() if p.requires_grad]
    assert trained and all(grad is not None and grad.abs().sum() > 0 for grad in trained)


def test_a_teacher_with_a_soft_prompt_reads_with_it(student):
    model = load("pico", dtype="fp64", seed=2)
    Prompt(virtual=3).attach(model.net, seed=0)
    teacher = Teacher.of(model, byte_tokenizer())
    units = units_of(student, Distill(teacher="t"))
    own = model.policy.predicting(model.policy.batch(units)).detach()
    assert torch.allclose(teacher.predicting(student.policy.batch(units)), own, atol=1e-10)
    bare = Teacher.of(load("pico", dtype="fp64", seed=2), byte_tokenizer())
    assert not torch.allclose(bare.predicting(student.policy.batch(units)), own, atol=1e-3)


def test_rows_of_the_head_that_are_no_token_are_cut(teacher):
    """A student whose head was padded to a rounder number learns the same as one whose head was not."""
    plain = load("pico", dtype="fp64", seed=1)
    padded = load("pico", dtype="fp64", seed=1)
    padded.net.resize_token_embeddings(plain.tokenizer.vocab_size + 40)
    objective, helpers = Distill(teacher="t"), Helpers(teacher=teacher)
    losses = [backward(m.policy, objective, units_of(m, objective), helpers=helpers).figures for m in (plain, padded)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-9)
    rows = list(with_top(ROWS, Text(plain.tokenizer), teacher, k=4))
    stored = [backward(m.policy, Distill(), units_of(m, Distill(), rows)).figures for m in (plain, padded)]
    assert stored[0] == pytest.approx(stored[1], rel=1e-9)


# -- stored tokens --------------------------------------------------------------------------------------------------


def test_stored_tokens_say_what_the_live_teacher_says(student, teacher):
    """All tokens stored: the same loss and gradient. A few: below it, for what is merged cannot be told apart."""
    text = Text(student.tokenizer)
    live = backward(
        student.policy, Distill(teacher="t"), units_of(student, Distill(teacher="t")), helpers=Helpers(teacher=teacher)
    )
    wanted = [p.grad.clone() for p in student.net.parameters()]
    student.net.zero_grad(set_to_none=True)
    rows = json.loads(json.dumps(list(with_top(ROWS, text, teacher, k=teacher.vocab))))
    whole = backward(student.policy, Distill(), units_of(student, Distill(), rows))
    assert whole.loss == pytest.approx(live.loss, rel=1e-3)
    for parameter, gradient in zip(student.net.parameters(), wanted):
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-2, atol=1e-4)
    few = list(with_top(ROWS, text, teacher, k=8))
    assert len(few[0]["columns"]["teacher_top"]["ids"][0]) == 8
    assert 0 < backward(student.policy, Distill(), units_of(student, Distill(), few)).figures["divergence"] < live.loss


def test_stored_tokens_keep_what_the_shelf_promises(teacher):
    from tunesmith.testing.objectives import ROWS as SOME

    rows = list(with_top(SOME["chat"], Text(byte_tokenizer()), teacher, k=6))
    check_objective(Distill(divergence="jsd"), rows)


def test_units_with_stored_tokens_survive_the_cache(student, teacher, tmp_path):
    from tunesmith.data.cache import UnitCache

    rows = list(with_top(ROWS, Text(student.tokenizer), teacher, k=4))
    units = units_of(student, Distill(), rows)
    cached = UnitCache.write(tmp_path / "units", units)
    one, other = (backward(student.policy, Distill(), list(some)).loss for some in (units, cached))
    assert one == other


def test_stored_tokens_of_another_answer_are_refused(student, teacher):
    (row,) = with_top(ROWS[:1], Text(student.tokenizer), teacher, k=4)
    other = {**ROWS[1], "columns": row["columns"]}
    with pytest.raises(DataError, match="other tokens"):
        units_of(student, Distill(), [other])
    with pytest.raises(DataError, match="no distributions"):
        units_of(student, Distill(), ROWS[:1])


# -- teachers -------------------------------------------------------------------------------------------------------


def test_another_tokenizer_is_refused_in_words():
    model = load("mini")
    with pytest.raises(ModelError, match="different tokenizers") as refused:
        Teacher.of(model, byte_tokenizer())
    assert "method=sft" in str(refused.value)
    assert differs(byte_tokenizer(), byte_tokenizer()) == ""


def test_a_teacher_answers_rows_and_says_who_it_was():
    model = load("pico", seed=1)
    text, optimizer = Text(model.tokenizer), Optimizer(model.net.named_parameters())
    model.net.requires_grad_(True)
    units = units_of(model, Sft())
    list(loop(model.policy, Sft(), units, optimizer, steps=150, batch_size=4, lr=1e-2))
    rows, dropped = taught(model, text, ROWS, max_tokens=12)
    assert [row["messages"][-1]["content"] for row in rows] == ["red", "blue", "yes", "no"]
    assert all(row["messages"][:-1] == old["messages"][:-1] for row, old in zip(rows, ROWS))
    assert rows[0]["columns"]["teacher"] == {
        "model": "pico", "temperature": 0.0, "top_p": 1.0, "max_tokens": 12, "seed": 0,
    }  # fmt: skip
    assert rows[0]["origin"] == "a.jsonl:1" and not dropped
    again, dropped = taught(model, text, ROWS, n=4, temperature=0.05, max_tokens=12)
    assert {drop["reason"] for drop in dropped} == {"the same answer again"}
    assert len(again) + len(dropped) == 16
    _, cut = taught(model, text, ROWS, max_tokens=1)
    assert {drop["reason"] for drop in cut} == {"cut at max_tokens"}
    with pytest.raises(SettingError):
        taught(model, text, ROWS, n=2)


@pytest.mark.parametrize("settings", [{"temperature": 0.0}, {"beta": 0.0}, {"alpha": 1.5}])
def test_settings_that_cannot_be_are_refused(settings):
    with pytest.raises(SettingError):
        Distill(**settings)


def test_is_a_documented_item():
    check_item(Distill())
    assert Distill(teacher="x").helpers == ("teacher",) and Distill().helpers == ()
