"""Running out of memory: what is computed at once is halved, on all ranks, and the run goes on as if it had been so before."""

import os
from dataclasses import replace

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

import tunesmith
from tunesmith.adapters.lora import Lora
from tunesmith.core.errors import SpaceError
from tunesmith.core.runs import RunFolder
from tunesmith.model.load import load
from tunesmith.model.policy import Policy
from tunesmith.objectives.sft import Sft
from tunesmith.step.step import backward, cut, pass_bounds
from tunesmith.testing.objectives import random_units
from tunesmith.text.example import Unit
from tunesmith.train import checkpoint, run
from tunesmith.train.feed import Rollouts
from tunesmith.train.loop import loop
from tunesmith.train.optim import Optimizer
from tunesmith.train.out_of_memory import Fitting, during
from tunesmith.train.run import fit, seconds_per_step

SAID = "[enforce fail at alloc_cpu.cpp:117] err == 0. DefaultCPUAllocator: can't allocate memory: you tried 8 bytes."
LENGTHS = [6, 9, 12, 7, 5, 10, 8, 11, 6, 13]


class Breaks(torch.autograd.Function):
    """Does not fit into memory in its backward pass."""

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, dy):
        raise RuntimeError(SAID)


class Scarce:
    """Sft for which memory runs out: in the calls `at` of its loss with gradient, and in passes without of more than `room` tokens."""

    per = Sft.per

    def __init__(self, at=(), where="forward", room=1 << 20):
        self.at, self.where, self.room, self.calls, self.sizes = at, where, room, 0, []

    def loss(self, policy, batch, helpers):
        out = Sft().loss(policy, batch, helpers)
        if not torch.is_grad_enabled():
            if batch.num_tokens > self.room:
                raise RuntimeError(SAID)
            return out
        self.calls += 1
        self.sizes.append(batch.num_tokens)
        if self.calls not in self.at:
            return out
        if self.where == "forward":
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return replace(out, terms={name: Breaks.apply(value) for name, value in out.terms.items()})


def trained(folder, objective=None, *, dropout=False, dev=None, **settings):
    """The weights after six steps of pico, in one row."""
    model = load("pico", seed=1)
    if dropout:
        Lora(rank=2, dropout=0.5).attach(model.net, seed=1)
    given = {"steps": 6, "batch_size": 4, "lr": 1e-2, "pass_tokens": 20, **settings}
    fit(model, objective or Sft(), random_units(LENGTHS), dev, folder=folder, **given)
    return torch.cat([parameter.detach().flatten() for parameter in model.net.parameters()])


@pytest.mark.parametrize("where", ["forward", "backward"])
@pytest.mark.parametrize("dropout", [False, True])
def test_a_run_goes_on_as_if_its_passes_had_been_smaller_from_the_start(where, dropout, run_folder, events):
    """Memory runs out in the second pass of step 1: to the last bit the run of smaller passes, dropout and all."""
    found = trained(run_folder("a"), Scarce({2}, where), dropout=dropout)
    (told,) = events("a", "out_of_memory")
    assert (told["step"], told["part"], told["before"]) == (1, where, 20) and 10 <= told["pass_tokens"] < 20
    wanted = trained(run_folder("b"), dropout=dropout, pass_tokens=told["pass_tokens"])
    assert torch.equal(found, wanted)
    assert [e["loss"] for e in events("a", "step")] == [e["loss"] for e in events("b", "step")]


def test_a_run_broken_off_later_is_close_to_one_left_alone(run_folder, events):
    """The result does not depend on how a step is cut: fp32, within what sums of another order leave."""
    calls = Scarce()
    wanted = trained(run_folder("b"), calls)
    found = trained(run_folder("a"), Scarce({calls.calls - 1}))
    assert [told["step"] for told in events("a", "out_of_memory")] == [5]
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)
    assert (found - trained(run_folder("c"), steps=5)).abs().max() > 1e-3  # a step makes more of a difference


def test_a_run_that_named_no_size_halves_what_a_step_holds(run_folder, events):
    objective = Scarce({1})
    trained(run_folder(), objective, pass_tokens=None, steps=1)
    (told,) = events(kind="out_of_memory")
    assert told["before"] == objective.sizes[0] and told["pass_tokens"] == objective.sizes[0] // 2
    assert objective.sizes[0] == sum(objective.sizes[1:-1])  # the last is the count of activations


def test_a_step_broken_off_is_done_again_with_the_same_gradient(make_units):
    """The third pass fails after two have left gradients; the step that follows must not add to them."""
    model = load("pico")
    optimizer = Optimizer(list(model.net.named_parameters()))
    units = make_units([20, 30, 25, 15])
    backward(model.policy, Sft(), units)
    wanted = [parameter.grad.clone() for parameter in optimizer.parameters]
    optimizer.clear()
    told = []
    fitting = Fitting(60, told=lambda *facts: told.append(facts))

    def step(tokens: int):
        stats = backward(model.policy, Sft(), units if tokens < 60 else units[:2], pass_tokens=tokens)
        if tokens == 60:
            raise RuntimeError(SAID)
        return stats

    stats = fitting.run(step, bounds=lambda: pass_bounds(model.policy, units), forget=optimizer.clear)
    assert stats.num_passes > 1 and fitting.size == 30 and told == [(60, 30, "forward")]
    for parameter, gradient in zip(optimizer.parameters, wanted):
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-4, atol=1e-6)


def test_halving_ends_where_every_pass_holds_one_row(run_folder, events):
    """A row that does not fit is tried a few times, not until a pass would hold one token."""
    objective = Scarce(range(1 << 20))
    with pytest.raises(
        SpaceError, match="in the forward pass: also with the least at once, 1[0-3]: CUDA out of memory"
    ):
        trained(run_folder(), objective, pass_tokens=8192)
    told = events(kind="out_of_memory")
    assert [t["before"] for t in told] == [8192, *(t["pass_tokens"] for t in told[:-1])]
    assert objective.calls == len(told) + 1 <= 4


@pytest.mark.parametrize("layout", ["packed", "padded"])
def test_bounds_are_what_passes_are_cut_by(layout, make_units):
    units = [*make_units([3, 17, 5]), Unit(make_units([9])[0].examples * 3)]
    policy = Policy(load("pico").net, layout=layout)
    least, whole = pass_bounds(policy, units)
    assert (least, whole) == ((27, 52) if layout == "packed" else (27, 6 * 17))
    padded = layout == "padded"
    assert len(cut(units, whole, padded=padded)) == 1 < len(cut(units, whole - 1, padded=padded))
    assert len(cut([units[3], units[0]], least, padded=padded)) == 2


def test_other_errors_pass_through():
    def step(tokens):
        raise RuntimeError("shapes do not match")

    with pytest.raises(RuntimeError, match="shapes"):
        Fitting(64).run(step, bounds=lambda: (8, 64))


def test_other_parts_are_named_and_other_errors_are_not_touched():
    told = []
    with pytest.raises(SpaceError, match="in the evaluation"), during("evaluation", told.append):
        raise RuntimeError(SAID)
    assert len(told) == 1 and "can't allocate" in told[0]
    with pytest.raises(RuntimeError, match="shapes"), during("evaluation", told.append):
        raise RuntimeError("shapes do not match")
    assert len(told) == 1


@pytest.mark.parametrize("part", ["optimiser's update", "evaluation", "checkpoint", "count of activations"])
def test_a_run_says_in_which_part_memory_ran_out(part, run_folder, events, monkeypatch):
    """Where halving is no help the run ends with the part's name, and its journal knows it where the run's files are written."""

    def fail(*args, **kwargs):
        raise RuntimeError(SAID)

    place = {
        "optimiser's update": (Optimizer, "step"),
        "evaluation": (run, "dev_figures"),
        "checkpoint": (checkpoint, "save"),
        "count of activations": (run, "activation_bytes"),
    }
    monkeypatch.setattr(*place[part], fail)
    with pytest.raises(SpaceError, match=f"in the {part}"):
        trained(run_folder(), dev=random_units([9, 6]), steps=2, eval_every=1)
    assert len(events(kind="error")) == (part != "optimiser's update")


def test_updates_within_the_backward_pass_are_not_made_twice(run_folder):
    with pytest.raises(SpaceError, match="in the backward pass: .*\n.*train.batch_size"):
        trained(run_folder(), Scarce({1}, "backward"), pass_tokens=None, update_in_backward=True, clip=None)


def test_an_evaluation_is_halved_and_gives_the_same_figures(run_folder, events):
    dev = random_units([9, 6, 14, 11], seed=2)
    for name, room in (("whole", 1 << 20), ("halved", 25)):
        trained(run_folder(name), Scarce(room=room), dev=dev, eval_every=3, pass_tokens=64)
    found, wanted = ([e["dev_loss"] for e in events(name, "eval")] for name in ("halved", "whole"))
    assert found == pytest.approx(wanted, rel=1e-6) and len(found) == 2
    (told,) = events("halved", "out_of_memory")  # the second evaluation knows
    assert (told["step"], told["part"], told["before"], told["pass_tokens"]) == (3, "evaluation", 64, 20)
    assert not events("whole", "out_of_memory")


def test_steps_are_timed_in_passes_that_fit(pico, make_units):
    model, objective = pico(), Scarce({2})
    given = {"batch_size": 2, "pass_tokens": 8, "seed": 0, "tries": 1}
    assert seconds_per_step(model.policy, objective, make_units([5, 6, 7]), **given) > 0
    assert objective.calls == 2 + 2 * 2 and all(p.grad is None for p in model.net.parameters())


def rollouts(most):
    """Prompts whose answers fit into memory `most` at once."""
    units = random_units(LENGTHS[:8])

    def collect(prompts, sample):
        if len(prompts) > most:
            raise RuntimeError(SAID)
        return prompts

    return Rollouts(units, collect=collect, answer=None, batch_size=4, collect_size=8, seed=0)


def test_prompts_are_answered_fewer_at_once(pico):
    runs = []
    for most in (8, 3):
        model, told = pico(), []
        walk = loop(
            model.policy, Sft(), rollouts(most), Optimizer(model.net.named_parameters()), steps=4, lr=1e-2,
            told=lambda *facts, told=told: told.append(facts),
        )  # fmt: skip
        runs.append(([(step.stats.loss, step.indices.tolist()) for step in walk], told))
    assert runs[0] == (runs[1][0], [])
    assert runs[1][1] == [(8, 4, "rollouts"), (4, 2, "rollouts")]


def test_rollouts_of_one_prompt_that_do_not_fit_are_named(pico):
    model = pico()
    walk = loop(model.policy, Sft(), rollouts(0), Optimizer(model.net.named_parameters()), steps=4, lr=1e-2)
    with pytest.raises(SpaceError, match="in the rollouts: also with the least at once, 1: .*can't allocate"):
        next(walk)


def test_rollouts_are_journalled_in_prompts(run_folder, events):
    model = load("pico")
    fit(model, Sft(), rollouts(4), None, folder=run_folder(), steps=2, batch_size=4, lr=1e-2)
    (told,) = events(kind="out_of_memory")
    assert (told["step"], told["part"], told["before"], told["prompts"]) == (1, "rollouts", 8, 4)


def of_a_rank(rank, port, folder):
    """One of two: memory runs out on the second alone, in a step, in an evaluation; at last in a pass in which ranks meet."""
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), RANK=str(rank), WORLD_SIZE="2")
    torch.set_num_threads(1)
    dist.init_process_group("gloo", rank=rank, world_size=2)

    def of(name):
        if rank == 0:
            RunFolder.create(f"{folder}/{name}", project={}, verb="train")
        dist.barrier()
        return RunFolder.open(f"{folder}/{name}", writes=rank == 0)

    for shard in ("none", "optimizer"):
        objective = Scarce({1}, "backward", room=25) if rank else Scarce()
        weights = trained(
            of(shard), objective, shard=shard, dev=random_units([9, 6, 14, 11], seed=2), eval_pass_tokens=64
        )
        torch.save(weights, f"{folder}/{shard}.{rank}.pt")
    said = []
    for shard in ("gradients", "all"):
        place = of(shard)
        try:
            trained(place, Scarce({1}), shard=shard)  # on both: one alone would leave the other waiting
        except SpaceError as error:
            said.append(str(error))
    torch.save(said, f"{folder}/said.{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()


@pytest.mark.slow
def test_where_one_rank_has_too_little_all_go_on_with_less(tmp_path, run_folder):
    mp.spawn(of_a_rank, args=(23_000 + os.getpid() % 20_000, str(tmp_path)), nprocs=2)
    wanted = trained(run_folder("alone"), dev=random_units([9, 6, 14, 11], seed=2))
    for shard in ("none", "optimizer"):
        first, second = (torch.load(tmp_path / f"{shard}.{rank}.pt") for rank in (0, 1))
        assert torch.equal(first, second)
        torch.testing.assert_close(first, wanted, rtol=1e-3, atol=1e-4)
        told = [e for e in RunFolder.open(tmp_path / shard).journal("events.jsonl") if e["kind"] == "out_of_memory"]
        assert [(e["part"], e["before"]) for e in told] == [("backward", 20), ("evaluation", 64)]
    for rank in (0, 1):
        for shard, text in zip(("gradients", "all"), torch.load(tmp_path / f"said.{rank}.pt"), strict=True):
            assert "in the forward pass" in text and f"train.shard={shard}" in text and "train.pass_tokens" in text


@pytest.mark.parametrize(
    ("part", "place"),
    [("loading of the model", "tunesmith.model.load.load"), ("reference", "tunesmith.step.helpers.with_reference")],
)
def test_what_comes_before_the_steps_is_named(part, place, tmp_path, monkeypatch):
    def fail(*args, **kwargs):
        raise RuntimeError(SAID)

    monkeypatch.setattr(place, fail)
    rows = [{"prompt": f"Say {number}", "chosen": f"{number}!", "rejected": "no"} for number in range(12)]
    with pytest.raises(SpaceError, match=f"in the {part}: .*can't allocate"):
        tunesmith.train(data=rows, model="pico", method="dpo", out=str(tmp_path / "run"), quiet=True)
