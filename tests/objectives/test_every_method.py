"""What holds for every method there is: under each adapter a step can be cut anyhow, and two processes make it as one does."""

import os

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from tunesmith.core.errors import SettingError
from tunesmith.core.shelf import shelf
from tunesmith.model.load import load
from tunesmith.model.teacher import Teacher
from tunesmith.step.helpers import Helpers
from tunesmith.step.step import backward, measure, reduce_gradients
from tunesmith.testing import check_objective
from tunesmith.testing.objectives import ROWS, step_of
from tunesmith.text.tokenizer import byte_tokenizer

SAMPLING = {"reward": "exact_match", "max_tokens": 7}
TASKS = {"chat": "sft", "text": "pretrain", "preference": {"dpo": {"sft_weight": 0.5}}, "infill": "infill"}
SETTINGS = {
    "grpo": SAMPLING, "ppo": SAMPLING, "rejection": SAMPLING, "distill": {"teacher": "pico", "alpha": 0.7},
    "gkd": {"teacher": "pico", "max_tokens": 7, "n": 2}, "multitask": {"tasks": TASKS, "weights": {"text": 0.3}},
}  # fmt: skip
TAUGHT = ("distill", "gkd")
APART = {"features"}  # has no loss: its own tests read texts and fit
METHODS = [name for name in shelf("objectives").names() if name not in APART]
ADAPTERS = ("full", "lora", "head")


def method(name):
    return shelf("objectives").make({name: SETTINGS.get(name, {})})


def given(name):
    """What a method needs besides a row of its first kind: a teacher beside it, or the rows of several tasks."""
    if name == "multitask":
        return {
            "rows": [{**row, "origin": f"{task}.jsonl:{n}"} for task in TASKS for n, row in enumerate(ROWS[task][:3])]
        }
    if name in TAUGHT:
        return {"helpers": Helpers(teacher=Teacher.of(load("pico", dtype="fp64", seed=2), byte_tokenizer()))}
    return {}


def step(name, adapter=None):
    return step_of(method(name), adapter=adapter, **given(name))


def gradient_of(objective, model, units, helpers, **settings):
    torch.manual_seed(0)
    stats = backward(model.policy, objective, units, helpers=helpers, **settings)
    trained = {n: p for n, p in model.net.named_parameters() if p.requires_grad}
    stray = [n for n, p in model.net.named_parameters() if p.grad is not None and n not in trained]
    flat = torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in trained.values()])
    model.net.zero_grad(set_to_none=True)
    assert not stray
    return stats, flat


@pytest.mark.parametrize("name", METHODS)
def test_the_shelfs_promises(name):
    check_objective(method(name), **given(name))


ELSEWHERE = {"tokens"}  # trains the rows of new tokens: there are none here
REFUSED = {"embed": {"head"}, "masked": {"prompt", "prefix"}, "seq2seq": {"prompt", "prefix"}}  # no place for it


@pytest.mark.parametrize("name", METHODS)
def test_under_every_adapter_a_step_has_gradients_of_what_trains_or_is_refused_in_words(name):
    refused = set()
    for adapter in set(shelf("adapters").names()) - ELSEWHERE:
        try:
            settings = {"layers": 1} if adapter == "top" else {}
            objective, model, units, helpers = step(name, shelf("adapters").make({adapter: settings}))
        except SettingError:
            refused.add(adapter)
            continue
        _, found = gradient_of(objective, model, units, helpers)
        assert torch.isfinite(found).all() and found.any(), adapter
    assert refused == REFUSED.get(name, set())


@pytest.mark.parametrize("name", ["dpo", "kto", "orpo", "simpo", "reward", "embed"])
def test_each_row_has_its_own_loss_where_it_is_not_that_of_its_tokens(name):
    objective, model, units, helpers = step(name)
    whole = backward(model.policy, objective, units, helpers=helpers, keep_unit_losses=True)
    assert len(set(whole.unit_losses.tolist())) == len(units)
    assert whole.unit_losses.mean() == pytest.approx(whole.figures["loss"], rel=1e-5)
    parts = backward(model.policy, objective, units, helpers=helpers, keep_unit_losses=True, pass_tokens=1)
    assert parts.unit_losses.tolist() == pytest.approx(whole.unit_losses.tolist(), rel=1e-5)


def of_a_rank(rank, names, port, folder):
    """Every method's step in one of two processes: its share of the Units, gradients added over both."""
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    torch.set_num_threads(1)
    found = {}
    dist.init_process_group("gloo", rank=rank, world_size=2)
    for name, adapter in names:
        objective, model, units, helpers = step(name, shelf("adapters").make(adapter))
        mine = units[rank::2]
        several = {"pass_tokens": sum(unit.num_tokens for unit in mine) // 2 + 1} if mine else {}
        stats = backward(model.policy, objective, mine, helpers=helpers, idle=None if mine else units[0], **several)
        parameters = [p for p in model.net.parameters() if p.requires_grad]
        for parameter in parameters:
            parameter.grad = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        reduce_gradients(parameters)
        measured = measure(
            model.policy, objective, units, helpers=helpers
        )  # an evaluation: each rank measures all of it
        found[name, adapter] = (stats.loss, torch.cat([p.grad.flatten() for p in parameters]), measured.loss)
    torch.save(found, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.slow
def test_two_processes_make_every_step_as_one_does(tmp_path):
    cells = [(name, adapter) for name in METHODS for adapter in ADAPTERS if adapter not in REFUSED.get(name, ())]
    mp.spawn(of_a_rank, args=(cells, 20_000 + os.getpid() % 20_000, str(tmp_path)), nprocs=2)
    ranks = [torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1)]
    for name, adapter in cells:
        objective, model, units, helpers = step(name, shelf("adapters").make(adapter))
        stats, wanted = gradient_of(objective, model, units, helpers)
        for found in ranks:
            loss, gradient, measured = found[name, adapter]
            assert measured == pytest.approx(stats.loss, rel=1e-5, abs=1e-6), (name, adapter)
            assert loss == pytest.approx(stats.loss, rel=1e-6, abs=1e-6), (name, adapter)
            assert (gradient - wanted).abs().max() <= 1e-5 * max(1.0, float(wanted.abs().max())), (name, adapter)
