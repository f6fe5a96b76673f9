"""multitask: the tasks' own losses added up; proportions as asked; every row is seen."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from tunesmith.core.errors import DataError, SettingError
from tunesmith.model.load import load
from tunesmith.objectives.dpo import Dpo
from tunesmith.objectives.multitask import Multitask
from tunesmith.objectives.sft import Sft
from tunesmith.step.helpers import Helpers, frozen
from tunesmith.step.step import backward, measure
from tunesmith.testing import check_objective
from tunesmith.testing.objectives import ROWS
from tunesmith.text.draw import Draw
from tunesmith.text.encode import Text
from tunesmith.text.example import Unit


def rows_of(kind, file):
    return [{**row, "origin": f"data/{file}:{number}"} for number, row in enumerate(ROWS[kind], start=1)]


CHAT, TEXTS = rows_of("chat", "faq.jsonl.gz"), rows_of("text", "manual.txt")
PAIRS, BLANKS = rows_of("preference", "votes.jsonl"), rows_of("infill", "blanks.jsonl")
MIXED = [row for some in zip(CHAT, TEXTS, PAIRS, BLANKS) for row in some]
TASKS = {"faq": "sft", "manual": "pretrain", "votes": {"dpo": {"sft_weight": 0.5}}, "blanks": "infill"}


def units_of(model, objective, rows):
    text = Text(model.tokenizer, length=256)
    return [u for n, row in enumerate(rows) for u in objective.units(row, text, Draw([0, 0, n], rows))]


def step(model, objective, units, helpers=None, **settings):
    stats = backward(model.policy, objective, units, helpers=helpers, keep_unit_losses=True, **settings)
    gradient = torch.cat(
        [torch.zeros_like(p).flatten() if p.grad is None else p.grad.flatten() for p in model.net.parameters()]
    )
    model.net.zero_grad(set_to_none=True)
    return stats, gradient


@pytest.fixture(scope="module")
def pico():
    return load("pico", dtype="fp64", seed=1)


@pytest.fixture(scope="module")
def reference():
    return Helpers(live=frozen(load("pico", dtype="fp64", seed=2).policy))


@pytest.mark.parametrize("settings", [{}, {"balance": "tasks", "weights": {"votes": 0.3}}])
def test_keeps_what_the_shelf_promises(settings):
    check_objective(Multitask(TASKS, **settings), MIXED)


def test_tasks_of_one_method_are_that_method_on_the_joined_rows(pico):
    other = rows_of("chat", "more.jsonl")[:2]
    joined = Multitask({"faq": "sft", "more": "sft"})
    stats, gradient = step(pico, joined, units_of(pico, joined, CHAT + other), pass_tokens=60)
    alone, expected = step(pico, Sft(), units_of(pico, Sft(), CHAT + other))
    assert stats.loss == pytest.approx(alone.loss, rel=1e-12)
    assert (gradient - expected).abs().max() < 1e-12
    assert stats.figures["loss"] == pytest.approx(alone.figures["loss"], rel=1e-6)
    assert stats.unit_losses == pytest.approx(alone.unit_losses, rel=1e-5)


def test_balanced_tasks_each_count_their_own_mean_times_their_weight(pico, reference):
    """DPO and sft: the sum of the two losses and gradients, as if each had its own step."""
    both = Multitask({"faq": "sft", "votes": "dpo"}, balance="tasks", weights={"votes": 3.0})
    stats, gradient = step(pico, both, units_of(pico, both, [*CHAT, *PAIRS[:2]]), reference)
    sft, first = step(pico, Sft(), units_of(pico, Sft(), CHAT))
    dpo, second = step(pico, Dpo(), units_of(pico, Dpo(), PAIRS[:2]), reference)
    assert stats.loss == pytest.approx(sft.loss + 3 * dpo.loss, rel=1e-9)
    assert (gradient - first - 3 * second).abs().max() < 1e-9
    assert stats.figures["votes.loss"] == pytest.approx(dpo.figures["loss"])
    assert stats.figures["faq.accuracy"] == pytest.approx(sft.figures["accuracy"])


def test_figures_are_told_per_task_and_do_not_depend_on_the_passes(pico, reference):
    objective = Multitask(TASKS)
    units = units_of(pico, objective, MIXED)
    whole = measure(pico.policy, objective, units, helpers=reference).figures
    parts = measure(pico.policy, objective, units, helpers=reference, pass_tokens=40).figures
    assert {name.partition(".")[0] for name in whole} == {*TASKS, "loss"}
    assert set(whole) <= set(objective.figures)
    for name in whole:
        assert parts[name] == pytest.approx(whole[name], rel=1e-6)


def marked(counts):
    return [Unit((), columns={"task": task}) for task, number in counts.items() for _ in range(number)]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, (0.9, 0.1)),
        ({"temperature": 2.0}, (0.75, 0.25)),  # sqrt(900) : sqrt(100)
        ({"temperature": 1e9}, (0.5, 0.5)),
        ({"shares": {"a": 1, "b": 3}}, (0.25, 0.75)),
    ],
)
def test_tasks_are_seen_in_their_proportions(settings, expected):
    objective = Multitask({"a": "sft", "b": "pretrain"}, **settings)
    order = objective.order(marked({"a": 900, "b": 100}))
    for epoch in range(3):
        seen = order(7, epoch, True)
        assert len(seen) == 1000
        assert (seen < 900).mean() == pytest.approx(expected[0], abs=1e-3)
    assert objective.proportions([900, 100]) == pytest.approx(expected, rel=1e-6)
    assert objective.proportions([900, 0]).tolist() == [1, 0]


def test_over_the_epochs_every_row_is_seen_as_often_as_any_other_of_its_task():
    order = Multitask({"a": "sft", "b": "sft"}, temperature=1e9).order(marked({"a": 80, "b": 20}))
    seen = np.bincount(np.concatenate([order(0, epoch, True) for epoch in range(8)]), minlength=100)
    assert set(seen[:80].tolist()) == {5}  # 8 epochs x 50 of 80 rows
    assert set(seen[80:].tolist()) == {20}
    assert np.array_equal(order(0, 3, True), order(0, 3, True))
    assert not np.array_equal(order(0, 3, True), order(1, 3, True))
    assert sorted(order(0, 3, True)) == order(0, 3, False).tolist()


def test_the_loop_takes_the_units_in_that_order(pico):
    from tunesmith.train.loop import loop
    from tunesmith.train.optim import Optimizer

    objective = Multitask({"faq": "sft", "manual": "pretrain"}, shares={"faq": 0.2, "manual": 0.8})
    units = units_of(pico, objective, [*CHAT, *TEXTS])
    model = load("pico", seed=1)
    steps = loop(
        model.policy, objective, units, Optimizer(model.net.named_parameters()), steps=4, batch_size=5, lr=1e-3, seed=3
    )
    order = objective.order(units)
    for number, found in enumerate(steps):
        epoch, place = divmod(number, 2)
        assert found.indices.tolist() == order(3, epoch, True)[place * 5 : place * 5 + 5].tolist()
        assert "manual.loss" in found.stats.figures
    assert sorted(units[i].columns["task"] for i in order(3, 0, True)).count("faq") == 2


def test_rows_say_their_task_by_file_or_column():
    objective = Multitask({"faq": "sft", "manual.v2": "pretrain"})
    assert objective.task_of({"origin": "data/faq.jsonl.gz:3"}) == "faq"
    assert objective.task_of({"origin": "manual.v2.txt:1"}) == "manual.v2"
    with pytest.raises(SettingError, match="faqs"):
        objective.task_of({"origin": "faqs.jsonl:1"})
    by_column = replace(objective, column="what")
    assert by_column.task_of({"origin": "x:1", "columns": {"what": "faq"}}) == "faq"
    with pytest.raises(DataError, match='no column "what"'):
        by_column.task_of({"origin": "x:1"})


def test_facts_are_those_of_the_tasks_together():
    objective = Multitask(TASKS)
    assert objective.shape == ("chat", "text", "preference", "scored", "infill", "mixed")
    assert (objective.kind, objective.helpers, objective.heads) == ("causal", ("reference",), ("lm",))
    assert Multitask({"a": "sft", "b": "sft"}).shape == ("chat",)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"tasks": {}}, "empty"),
        ({"tasks": {"a": "stf"}}, "sft"),
        ({"tasks": {"a": {"dpo": {"betta": 1}}}}, "beta"),
        ({"tasks": {"a": "sft"}, "weights": {"b": 1}}, "task in weights"),
        ({"tasks": {"a": "sft", "b": "sft"}, "shares": {"a": 1}}, "says nothing of b"),
        ({"tasks": {"a": "sft"}, "temperature": 0}, "temperature is 0"),
        ({"tasks": {"a": "grpo"}}, "samples"),
    ],
)
def test_impossible_settings_are_told(settings, said):
    with pytest.raises(SettingError, match=said):
        Multitask(**settings)


def test_a_run_is_scored_task_by_task(tmp_path, monkeypatch):
    """C32: files of several kinds, one model, a score for each task."""
    import json

    import tunesmith
    from tunesmith.core.errors import ProjectError

    monkeypatch.chdir(tmp_path)
    rows = {
        "faq.jsonl": [{"question": f"{i}?", "answer": f"{i}!"} for i in range(12)],
        "notes.jsonl": [{"text": f"note number {i} of a few"} for i in range(12)],
        "blanks.jsonl": [{"prefix": f"{i} and ", "middle": str(i), "suffix": "."} for i in range(12)],
    }
    for name, some in rows.items():
        (tmp_path / name).write_text("".join(json.dumps(row) + "\n" for row in some))
    tasks = {"faq": "sft", "notes": "pretrain", "blanks": {"infill": {"learn": "middle"}}}
    project = {
        "model": "pico", "data": {"path": [*rows], "dev": 0.25, "test": 0}, "adapter": "full",
        "method": {"multitask": {"tasks": tasks, "temperature": 2.0}}, "train": {"steps": 2, "batch_size": 6, "sample": 0},
        "generate": {"max_tokens": 4}, "eval": {"split": "dev"},
    }  # fmt: skip
    tunesmith.train(project, out="run", quiet=True)
    for task, metric in (("faq", "exact_match"), ("notes", "bits_per_byte"), ("blanks", "exact_match")):
        found = tunesmith.eval("run", quiet=True, **{"eval.source": task})
        assert [*found["metrics"]] == [metric] and found["metrics"][metric]["n"] >= 1
        assert (tmp_path / "run" / "evals" / f"dev-{task}.json").is_file()
    with pytest.raises(ProjectError, match="eval.source=faq"):
        tunesmith.eval("run", quiet=True)
    with pytest.raises(ProjectError, match="nots"):
        tunesmith.eval("run", quiet=True, **{"eval.source": "nots"})


def test_nothing_in_the_loss_reads_a_value():
    """The planner runs it on fake tensors."""
    from tunesmith.adapters.full import Full
    from tunesmith.plan.network import architecture, fake_policy
    from tunesmith.plan.simulate import simulate
    from tunesmith.train.optim import Optimizer

    objective = Multitask(TASKS)
    units = units_of(load("pico"), objective, MIXED)
    found = simulate(
        lambda: fake_policy(architecture("pico"), Full()), objective, units,
        make_optimizer=lambda net: Optimizer(list(net.named_parameters())),
        make_helpers=lambda policy: Helpers(live=frozen(policy)),
    )  # fmt: skip
    assert found.peak.bytes > found.weights > 0
