"""train.shard: what is cut over the ranks changes no gradient, no step and no checkpoint; each rank holds its part and no more.

Processes are started once for each number of ranks and make all that is asked of them.
"""

import os
from itertools import pairwise

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from safetensors.torch import load_file

from tunesmith.core.errors import SettingError
from tunesmith.core.runs import RunFolder
from tunesmith.model.load import load
from tunesmith.objectives.sft import Sft
from tunesmith.step.fsdp import refuse
from tunesmith.step.step import backward
from tunesmith.testing.objectives import random_units
from tunesmith.train.run import fit
from tunesmith.train.settings import TrainSettings
from tunesmith.train.shard import Sharded, spans

LENGTHS = [6, 9, 12, 7, 5, 10, 8, 11, 6, 13, 9]
STAGES = ("optimizer", "gradients", "all")


def test_spans_are_equal_parts_of_the_row_of_all_weights():
    assert spans([1024, 512], [False, False], 2) == [(0, 768, 1024), (0, 0, 512)]
    assert spans([100], [False], 3) == [(0, 100, 100, 100)]  # no smaller than a block
    for ranks in (1, 2, 3, 4, 7):
        sizes = [70_000, 64, 4096, 64, 12_288, 5, 30_000]
        found = spans(sizes, [False] * 7, ranks)
        assert [f[0] for f in found] == [0] * 7 and [f[-1] for f in found] == sizes
        assert all(list(f) == sorted(f) and len(f) == ranks + 1 for f in found)
        loads = [sum(f[r + 1] - f[r] for f in found) for r in range(ranks)]
        assert max(loads) - min(loads) <= 2 * 256


def test_uncut_tensors_have_one_owner_and_the_rest_fills_up():
    found = spans([4096, 8192, 4096, 6000], [True, True, True, False], 2)
    for size, bounds in zip([4096, 8192, 4096], found):
        assert sorted(b - a for a, b in pairwise(bounds)) == [0, size]
    loads = [sum(f[r + 1] - f[r] for f in found) for r in range(2)]
    assert abs(loads[0] - loads[1]) <= 512


def of_a_rank(rank, world, port, jobs):
    """Make the jobs, each a function of this module with its arguments, in one of `world` processes."""
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), RANK=str(rank), WORLD_SIZE=str(world))
    torch.set_num_threads(1)
    dist.init_process_group("gloo", rank=rank, world_size=world)
    for job, *given in jobs:
        globals()[job](*given)
        dist.barrier()
    dist.destroy_process_group()


def together(world, *jobs):
    port = 22_000 + os.getpid() % 20_000 + world
    mp.get_context("forkserver").set_forkserver_preload(["tunesmith.train.run", "tunesmith.objectives.sft"])
    mp.start_processes(of_a_rank, args=(world, port, list(jobs)), nprocs=world, start_method="forkserver")


def gradient(stage, lengths, adapter, path):
    """The gradient of a step in fp64 with SGD: from the change it makes to the weights, which every rank must have."""
    torch.save(
        weights_after_sgd(stage, lengths, adapter, mine=slice(dist.get_rank(), None, dist.get_world_size())),
        f"{path}.{dist.get_rank()}",
    )


def weights_after_sgd(stage, lengths, adapter, mine=slice(None), *, lean=True):
    from tunesmith.core.shelf import shelf
    from tunesmith.step.fsdp import cut_weights
    from tunesmith.train.optim import Optimizer

    model = load("pico", dtype="fp64", seed=1, base="nf4" if adapter == "qlora" else "")
    if adapter:
        shelf("adapters").make(adapter).attach(model.net, seed=1)
        model.net.double()
    units, policy = random_units(lengths), model.policy
    if stage == "all":
        cut_weights(policy)
    if not lean:  # the modules' own norms compute in fp32, ours do not: under `all` the modules' forward is used
        policy.lean = None
    make = Optimizer if stage == "none" else Sharded
    settings = {} if stage == "none" else {"stage": stage}
    optimizer = make(model.net.named_parameters(), kind="sgd", **settings)
    policy.net.train()
    chosen = units[mine]
    stats = backward(policy, Sft(), chosen, pass_tokens=14, idle=None if chosen else units[0], passed=optimizer.passed)
    optimizer.reduce()
    norm = optimizer.step(lr=1.0)
    if stage == "all":
        optimizer.lift(model.net)
        if dist.get_rank():
            return stats.loss, norm, None
    return stats.loss, norm, torch.cat([p.detach().flatten() for p in model.net.parameters()])


@pytest.mark.slow
def test_each_stage_has_the_gradient_of_one_process(tmp_path):
    """fp64, unequal numbers of passes, a rank without Units; full and LoRA."""
    cases = [(stage, lengths, adapter) for stage in STAGES for lengths in (LENGTHS, [11]) for adapter in (None, "lora")]
    cases += [(stage, LENGTHS, "qlora") for stage in ("optimizer", "gradients")]  # a packed base is whole on every rank
    together(2, *(("gradient", *case, str(tmp_path / str(n))) for n, case in enumerate(cases)))
    wanted = {}
    for number, (stage, lengths, adapter) in enumerate(cases):
        key = (len(lengths), adapter, stage == "all")
        if key not in wanted:
            wanted[key] = weights_after_sgd("none", lengths, adapter, lean=stage != "all")
        loss, norm, weights = wanted[key]
        for rank in (0, 1):
            found = torch.load(f"{tmp_path / str(number)}.{rank}")
            assert found[0] == pytest.approx(loss, rel=1e-9), (stage, lengths, adapter)
            assert found[1] == pytest.approx(norm, rel=1e-9), (stage, lengths, adapter, rank)
            if stage != "all" or rank == 0:
                assert (found[2] - weights).abs().max() <= 1e-10, (stage, lengths, adapter)


def run(path, **settings):
    """A run of pico in the folder `path`, by all ranks; what they hold is kept."""
    rank = dist.get_rank() if dist.is_initialized() else 0
    if rank == 0 and not settings.get("resume"):
        RunFolder.create(path, project={"seed": 0}, verb="train")
    if dist.is_initialized():
        dist.barrier()
    model = load("pico", seed=1)
    units, dev = random_units(LENGTHS), random_units([9, 6, 14])
    given = {"steps": 6, "batch_size": 4, "lr": 1e-2, "pass_tokens": 20, "save_every": 2, "keep": 9, **settings}
    fit(model, Sft(), units, dev, folder=RunFolder.open(path, writes=rank == 0), **given)
    if rank == 0:
        torch.save([p.detach().clone() for p in model.net.parameters()], f"{path}/weights.pt")


def trajectory(path):
    import json

    lines = [json.loads(line) for line in (path / "events.jsonl").read_text().splitlines()]
    return [(e["step"], e["loss"], e["grad_norm"]) for e in lines if e["kind"] == "step"]


def same_run(found, wanted, rel=1e-5):
    a, b = trajectory(found), trajectory(wanted)
    assert [s[0] for s in a] == [s[0] for s in b]
    for x, y in zip(a, b):
        assert x[1] == pytest.approx(y[1], rel=rel) and x[2] == pytest.approx(y[2], rel=10 * rel)
    left, right = torch.load(found / "weights.pt"), torch.load(wanted / "weights.pt")
    for x, y in zip(left, right):
        assert (x - y).abs().max() <= 100 * rel * max(1.0, float(y.abs().max()))


@pytest.mark.slow
def test_runs_are_those_of_one_process_and_go_on_with_any_number(tmp_path):
    """Save on 2 ranks, go on with 1 and with 4, and the other way round."""
    run(tmp_path / "one")
    run(tmp_path / "four", stop_after=3)
    together(2, *(("run_stage", str(tmp_path / f"{stage}{n}"), stage, n) for stage in STAGES for n in (6, 3, 2)))
    together(
        4,
        *(("go_on", str(tmp_path / f"{stage}3"), stage) for stage in STAGES),
        ("go_on", str(tmp_path / "four"), "gradients"),
    )
    for stage in STAGES:
        same_run(tmp_path / f"{stage}6", tmp_path / "one")
        same_run(tmp_path / f"{stage}3", tmp_path / "one")
        run(tmp_path / f"{stage}2", resume=True)
        same_run(tmp_path / f"{stage}2", tmp_path / "one")
    same_run(tmp_path / "four", tmp_path / "one")


def run_stage(path, stage, stop):
    run(path, shard=stage, stop_after=None if stop == 6 else stop)


def go_on(path, stage):
    run(path, shard=stage, resume=True)


def held(stage, precision, path):
    """What this rank holds after a step, beside what one process does."""
    from functools import partial

    from tunesmith.step.fsdp import cut_weights
    from tunesmith.train.optim import Optimizer
    from tunesmith.train.run import LOW, lower, memory_parts

    def parts(stage):
        model = load("pico", seed=1)
        masters = lower(model.net) if precision == "bf16" and stage != "all" else None
        policy = model.policy
        if stage == "all":
            cut_weights(policy, low=LOW.get(precision))
        make = Optimizer if stage == "none" else partial(Sharded, stage=stage)
        optimizer = make(model.net.named_parameters(), masters=masters)
        policy.net.train()
        backward(policy, Sft(), random_units(LENGTHS), passed=optimizer.passed)
        optimizer.reduce()
        found = memory_parts(model.net, optimizer)
        gradients = sum(m.grad.numel() * m.grad.element_size() for m in optimizer.gradients() if m.grad is not None)
        optimizer.step(lr=1e-3)
        found |= {"summed": gradients, "optimizer": optimizer.num_state_bytes()}
        plain = optimizer.inner if isinstance(optimizer, Sharded) else optimizer
        states = [v for i in plain.inner for s in i.state.values() for v in s.values()]
        assert found["optimizer"] == sum(
            v.numel() * v.element_size() for v in states if v.ndim
        )  # as they lie in memory
        return found

    torch.save((parts(stage), parts("none")), f"{path}.{dist.get_rank()}")


@pytest.mark.slow
def test_each_rank_holds_its_part_and_no_more(tmp_path):
    """Of 2 and 4 ranks: bytes of states and masters, of the summed gradient, of the weights."""
    cases = [(stage, precision) for stage in STAGES for precision in ("fp32", "bf16")]
    for world in (2, 4):
        together(world, *(("held", *case, str(tmp_path / f"{world}-{n}")) for n, case in enumerate(cases)))
        for number, (stage, precision) in enumerate(cases):
            found = [torch.load(f"{tmp_path}/{world}-{number}.{rank}") for rank in range(world)]
            whole = found[0][1]
            spare = 2 * 256 * 4 * 2  # two spans' ends at a multiple of 256 numbers, two states of 4 bytes
            assert sum(own["optimizer"] for own, _ in found) == whole["optimizer"] > 0
            for own, _ in found:
                assert own["optimizer"] <= whole["optimizer"] / world + spare
                assert own["summed"] <= whole["summed"] / world + spare
                if stage == "all":
                    assert own["weights"] <= (2 if precision == "bf16" else 1) * whole["weights"] / world + spare
                else:
                    assert own["masters"] <= whole["masters"] / world + spare
                assert own["gradients"] <= whole["gradients"] / (1 if stage == "optimizer" else world) + spare


OTHERS = {
    "muon": {"optimizer": "muon", "momentum": 0.9, "lr": 3e-3}, "kahan": {"precision": "bf16", "masters": "kahan", "clip": 0.1},
    "fp16": {"precision": "fp16"}, "bf16": {"precision": "bf16"}, "sgd": {"optimizer": "sgd", "momentum": 0.9, "l1": 1e-3, "weight_decay": 0.1},
    "again": {"precision": "bf16", "checkpointing": True},
}  # fmt: skip


def run_as(path, name, stage):
    run(path, shard=stage, **OTHERS[name])


@pytest.mark.slow
def test_other_optimisers_and_precisions(tmp_path):
    """What one process does, within what its 16-bit sums leave open."""
    whole = [name for name in OTHERS if name not in ("muon", "kahan", "fp16")]
    cases = [(name, stage) for name in OTHERS for stage in STAGES if stage != "all" or name in whole]
    together(2, *(("run_as", str(tmp_path / f"{name}-{stage}"), name, stage) for name, stage in cases))
    for name, settings in OTHERS.items():
        run(tmp_path / name, **settings)
        low = settings.get("precision", "fp32") != "fp32"
        for stage in STAGES:
            if (name, stage) not in cases:
                continue
            found, wanted = trajectory(tmp_path / f"{name}-{stage}"), trajectory(tmp_path / name)
            for x, y in zip(found, wanted, strict=True):
                assert x[1] == pytest.approx(y[1], rel=5e-3 if low else 1e-5), (name, stage, x[0])
                assert x[2] == pytest.approx(y[2], rel=5e-2 if low else 1e-4), (name, stage, x[0])


@pytest.mark.parametrize(
    "other", [{"optimizer": "muon"}, {"precision": "fp16"}, {"precision": "bf16", "masters": "kahan"}]
)
def test_what_cannot_be_cut_is_said(other):
    with pytest.raises(SettingError, match="shard is all") as told:
        TrainSettings(shard="all", **other)
    assert "gradients" in str(told.value)


def test_weights_that_cannot_be_cut_are_said():
    causal, encoder = load("pico").policy, load("pico-encoder", kind="masked").policy
    with pytest.raises(SettingError, match="draws answers"):
        refuse(causal, samples=True)
    with pytest.raises(SettingError, match="Encoder"):
        refuse(encoder)
    with pytest.raises(SettingError, match="packed"):
        refuse(load("pico", base="nf4").policy)
    for parameter in causal.net.base_model.parameters():
        parameter.requires_grad = False
    with pytest.raises(SettingError, match="below the head"):
        refuse(causal)
    with pytest.raises(SettingError, match="states are cut in fp32 only"):
        Sharded([], stage="optimizer", states="8bit")


def bits(path, stage):
    run(path, shard=stage, clip=None)


@pytest.mark.slow
def test_cut_states_alone_change_no_bit(tmp_path):
    together(2, *(("bits", str(tmp_path / stage), stage) for stage in ("none", "optimizer")))
    assert trajectory(tmp_path / "none")[0][1] == trajectory(tmp_path / "optimizer")[0][1]
    for number in (1, 6):
        found, wanted = (
            load_file(tmp_path / stage / "checkpoints" / f"step-{number:06d}" / "state.safetensors")
            for stage in ("optimizer", "none")
        )
        assert found.keys() == wanted.keys()
        assert all(torch.equal(found[name], wanted[name]) for name in wanted if name != "rows.loss")
