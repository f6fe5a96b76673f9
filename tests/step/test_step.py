"""A step's gradients: whatever the passes, layout and ranks, it is one batch divided once by its own weight."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from tunesmith.adapters.prefix import Prefix
from tunesmith.adapters.prompt import Prompt
from tunesmith.core.errors import TrainingError
from tunesmith.model.load import load
from tunesmith.model.policy import Policy
from tunesmith.objectives._contract import Loss
from tunesmith.objectives.pretrain import Pretrain
from tunesmith.objectives.sft import Sft
from tunesmith.step import step as step_module
from tunesmith.step.step import backward, cut, measure, passes_of, reduce_gradients, term_weights
from tunesmith.text.example import Example, Unit, together

RAGGED = [3, 17, 5, 9, 12, 4, 8]


def flat(gradients):
    return torch.cat([g.flatten() for g in gradients.values()])


@dataclass(frozen=True)
class Mixed:
    """A method of several terms, each divided by something else."""

    per: ClassVar[Mapping[str, str]] = {"token": "tokens", "row": "units", "one": "examples", "worth": "worth"}

    def loss(self, policy, batch, helpers):
        logp = policy.logprobs(batch)
        rows = torch.zeros(batch.num_examples, dtype=logp.dtype).index_add(0, batch.example, logp)
        terms = {
            "token": -(logp * batch.weight).sum(),
            "row": (rows**2).sum() * 0.01,
            "one": torch.nn.functional.softplus(-rows).sum(),
            "worth": -(rows * batch.columns["worth"].to(rows.dtype)).sum(),
        }
        return Loss(terms, {"rows": (rows.detach().sum(), torch.tensor(len(rows)))}, logp.detach())


def with_worth(units):
    return [
        replace(u, examples=tuple(replace(e, columns={"worth": 0.5 + i}) for e in u.examples))
        for i, u in enumerate(units)
    ]


@pytest.mark.parametrize("objective", [Sft(), Pretrain(), Mixed()], ids=["sft", "pretrain", "mixed"])
@pytest.mark.parametrize("layout", ["packed", "padded"])
def test_accumulation_equals_one_batch(objective, layout, pico64, make_units, gradients):
    """Ragged lengths, any size of a pass, the last one partial."""
    units = with_worth(make_units(RAGGED))
    wanted = backward(pico64.policy, objective, units)
    whole = gradients(pico64.net)
    policy = Policy(pico64.net, layout=layout)
    for size in (None, 1, 18, 30, 1000):
        stats = backward(policy, objective, units, pass_tokens=size)
        found = gradients(pico64.net)
        assert stats.loss == pytest.approx(wanted.loss, rel=1e-7)
        assert (flat(found) - flat(whole)).abs().max() <= 1e-6 * max(1.0, flat(whole).abs().max())
        assert stats.figures == pytest.approx(dict(wanted.figures), rel=1e-6)


@pytest.mark.parametrize("size", [1, 18, 1000])
def test_equal_to_transformers_labels_loss(size, pico32, make_units, labels_loss, gradients):
    units = make_units(RAGGED)
    stats = backward(pico32.policy, Sft(), units, pass_tokens=size)
    ours = gradients(pico32.net)
    wanted = labels_loss(pico32.net, units)
    wanted.backward()
    assert stats.loss == pytest.approx(wanted.item(), rel=1e-5)
    assert (flat(ours) - flat(gradients(pico32.net))).abs().max() <= 1e-5


def test_weights_of_tokens_are_what_counts(pico64, make_units, gradients):
    """A token of weight 2 counts like the same token twice in numerator and denominator."""
    unit = make_units([9])[0]
    example = unit.examples[0]
    heavy = replace(unit, examples=(replace(example, weights=example.weights * 2),))
    twice = backward(pico64.policy, Sft(), [heavy, make_units([7], seed=1)[0]])
    one = gradients(pico64.net)
    again = backward(pico64.policy, Sft(), [unit, unit, make_units([7], seed=1)[0]])
    assert twice.loss == pytest.approx(again.loss, rel=1e-7)
    assert torch.allclose(flat(one), flat(gradients(pico64.net)), rtol=1e-5, atol=1e-8)


def test_a_pass_with_nothing_trained_on_changes_nothing(pico64, make_units, gradients):
    units = make_units([6, 8, 5])
    silent = make_units([7], prompt=2.0, seed=3)
    wanted = backward(pico64.policy, Sft(), units, pass_tokens=1)
    without = flat(gradients(pico64.net))
    stats = backward(pico64.policy, Sft(), [units[0], *silent, *units[1:]], pass_tokens=1)
    assert stats.num_passes == 4
    assert stats.loss == pytest.approx(wanted.loss, rel=1e-12)
    assert torch.allclose(flat(gradients(pico64.net)), without, rtol=1e-12, atol=1e-15)


def test_several_passes_are_announced_before_the_first(pico32, make_units, gradients):
    found = []
    for size in (1000, 18):
        backward(
            pico32.policy, Sft(), make_units(RAGGED), pass_tokens=size,
            several=lambda size=size: found.append((size, {p.grad is None for p in pico32.net.parameters()})),
        )  # fmt: skip
        gradients(pico32.net)
    assert found == [(18, {True})]


def test_a_step_with_nothing_trained_on_is_told(pico64, make_units):
    with pytest.raises(TrainingError, match=r"no token of this step is trained on \(1 Units; first: rows.jsonl:1\)"):
        backward(pico64.policy, Sft(), make_units([7], prompt=2.0))


def test_gradients_are_added_to_what_is_there(pico64, make_units, gradients):
    units = make_units([6, 8])
    backward(pico64.policy, Sft(), units)
    once = flat(gradients(pico64.net))
    backward(pico64.policy, Sft(), units)
    backward(pico64.policy, Sft(), units, scale=0.5)
    assert torch.allclose(flat(gradients(pico64.net)), 1.5 * once, rtol=1e-9, atol=1e-15)


def test_term_weights_from_the_units_alone():
    two = Unit((Example.of([1, 2, 3], [0, 1, 0.5], worth=3.0), Example.of([1, 2], [0, 1], worth=1.0)))
    one = Unit((Example.of([5, 6], [1, 1], worth=0.5),))
    assert term_weights(Mixed(), [two, one]) == {"token": 3.5, "row": 2.0, "one": 3.0, "worth": 4.5}


@pytest.mark.parametrize("padded", [False, True])
def test_passes_hold_each_unit_once_and_no_more_than_fits(padded, make_units):
    units = make_units([3, 17, 5, 9, 12, 4, 8, 30])
    for size in (1, 10, 25, 100):
        passes = cut(units, size, padded=padded)
        assert sorted(i for chosen in passes for i in chosen) == list(range(8))
        for chosen in passes:
            held = [units[i].num_tokens for i in chosen]
            assert len(chosen) == 1 or (max(held) * len(held) if padded else sum(held)) <= size


@pytest.mark.parametrize("adapter", [Prompt(virtual=5), Prefix(virtual=5)], ids=["prompt", "prefix"])
def test_a_pass_holds_no_more_than_fits_with_what_an_adapter_puts_before_each_text(adapter, make_units):
    """What lies in memory is counted where it lies: in the batch that the policy makes, and in the prefix of each row."""
    model = load("pico", seed=1)
    adapter.attach(model.net, seed=1)
    policy = Policy(model.net, layout="padded" if isinstance(adapter, Prefix) else "packed")
    in_front = 5 if isinstance(adapter, Prefix) else 0
    units = make_units([3, 17, 5, 9, 12, 4, 8, 30])
    pair = together([replace(e, columns={}) for e in (units[3].examples[0], units[3].examples[0])])
    assert pair.shared_prompt
    for some in (units, [pair] * 6, [Unit(units[0].examples * 3)] * 4):
        for size in (1, 40, 60, 100):
            passes = passes_of(policy, some, size)
            assert sorted(i for chosen in passes for i in chosen) == list(range(len(some)))
            for chosen in passes:
                ids = policy.batch([some[i] for i in chosen]).ids
                assert len(chosen) == 1 or ids.shape[0] * (ids.shape[1] + in_front) <= size


def test_the_loss_of_each_unit(pico64, make_units):
    units = make_units(RAGGED)
    for size in (None, 1, 20):
        stats = backward(pico64.policy, Sft(), units, pass_tokens=size, keep_unit_losses=True)
        alone = [backward(pico64.policy, Sft(), [unit]).loss for unit in units]
        assert stats.unit_losses.tolist() == pytest.approx(alone, rel=1e-5)
        found = measure(pico64.policy, Sft(), units, pass_tokens=size)
        assert found.unit_losses.tolist() == pytest.approx(alone, rel=1e-5)
        total, count = found.figures["loss"]
        assert found.loss == pytest.approx(total / count, rel=1e-9) == pytest.approx(stats.loss, rel=1e-7)
    pico64.net.zero_grad(set_to_none=True)


def test_without_dropout_the_random_state_does_not_matter(pico64, make_units, gradients):
    found = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        pico64.net.train()
        backward(pico64.policy, Sft(), make_units([6, 8]))
        found.append(flat(gradients(pico64.net)))
    pico64.net.eval()
    assert torch.equal(*found)


def of_a_rank(rank, world, lengths, port, folder):
    """One process of several: its share of the Units, gradients added over all."""
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    torch.set_num_threads(1)
    dist.init_process_group("gloo", rank=rank, world_size=world)
    model, units = load("pico", dtype="fp64", seed=1), shared_units(lengths)
    mine = units[rank::world]
    stats = backward(model.policy, Sft(), mine, pass_tokens=20, idle=None if mine else units[0])
    reduce_gradients(list(model.net.parameters()))
    gradient = torch.cat([p.grad.flatten() for p in model.net.parameters()])
    torch.save((stats.loss, dict(stats.figures), gradient), f"{folder}/{rank}.pt")
    dist.destroy_process_group()


def shared_units(lengths):
    draw = np.random.default_rng(0)
    return [
        Unit((Example.of(draw.integers(3, 288, size=n).tolist(), (np.arange(n) > n // 3).tolist()),)) for n in lengths
    ]


@pytest.mark.slow
@pytest.mark.parametrize("lengths", [[3, 17, 5, 9, 12], [11]], ids=["unequal", "one_rank_has_none"])
def test_two_processes_give_the_gradients_of_one(lengths, tmp_path, pico64, gradients):
    """Unequal token counts: sums are added, never averaged. A rank without a Unit runs one of weight 0."""
    port = 20_000 + os.getpid() % 20_000
    mp.spawn(of_a_rank, args=(2, lengths, port, str(tmp_path)), nprocs=2)
    alone = backward(pico64.policy, Sft(), shared_units(lengths))
    wanted = flat(gradients(pico64.net))
    for rank in (0, 1):
        loss, figures, gradient = torch.load(tmp_path / f"{rank}.pt")
        assert loss == pytest.approx(alone.loss, rel=1e-9)
        assert figures == pytest.approx(dict(alone.figures), rel=1e-7)
        assert (gradient - wanted).abs().max() <= 1e-8


def test_gradients_travel_together_while_they_are_small_and_alike(monkeypatch):
    monkeypatch.setattr(step_module, "BUCKET", 10)
    sizes = [4, 5, 3, 12, 2, 2]
    gradients = [torch.full((size,), float(size)) for size in sizes]
    gradients[5] = gradients[5].double()
    found = list(step_module._buckets(gradients))
    assert [[len(one) for one in bucket] for bucket in found] == [[4, 5], [3], [12], [2], [2]]
    assert [one.data_ptr() for bucket in found for one in bucket] == [one.data_ptr() for one in gradients]
    assert list(step_module._buckets([])) == []
