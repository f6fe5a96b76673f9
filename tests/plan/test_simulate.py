"""The planner's peak against the allocator's: the same step on fake tensors and for real, counted by torch's profiler."""

import numpy as np
import pytest
import torch
from torch.profiler import ProfilerActivity, profile
from transformers import AutoModelForCausalLM, LlamaConfig

from tunesmith.core.shelf import shelf
from tunesmith.model import attention
from tunesmith.model.policy import Policy
from tunesmith.model.teacher import Teacher
from tunesmith.plan.network import architecture, fake_policy
from tunesmith.plan.rows import sample_units
from tunesmith.plan.simulate import heaviest, simulate, tokens_of
from tunesmith.plan.track import KINDS
from tunesmith.step.helpers import Helpers
from tunesmith.step.step import backward, measure
from tunesmith.testing.objectives import ROWS, random_units
from tunesmith.text.draw import Draw
from tunesmith.text.encode import Text
from tunesmith.text.example import Example, Unit
from tunesmith.text.tokenizer import byte_tokenizer
from tunesmith.train.optim import Optimizer
from tunesmith.train.recompute import checkpoint_activations
from tunesmith.train.run import lower

CONFIG = LlamaConfig(
    hidden_size=64, intermediate_size=176, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2, vocab_size=2000
)  # fmt: skip


def units_of(lengths: list[int]) -> list[Unit]:
    return [Unit((Example.of(np.arange(n) % 250, np.ones(n)),)) for n in lengths]


def optimizer_of(precision: str, checkpointing: bool | str, kind: str = "adamw"):
    def make(net):
        masters = lower(net) if precision == "bf16" else None
        checkpoint_activations(net, checkpointing)
        return Optimizer(list(net.named_parameters()), kind=kind, masters=masters)

    return make


def held_by(policy, optimizer) -> int:
    """Bytes of a network's weights and buffers, of masters and of states."""
    states = [v for inner in optimizer.inner for s in inner.state.values() for v in s.values() if torch.is_tensor(v)]
    held = [*policy.net.parameters(), *policy.net.buffers(), *optimizer.masters, *states]
    return sum({t.untyped_storage()._cdata: t.untyped_storage().nbytes() for t in held}.values())


MARK = 12_345_677  # bytes: a tensor of this size says in the profiler's events where a part begins


def most_while(run, before=lambda: None) -> int:
    """Most bytes that run() holds at a time of what was made since the call of before(), from the profiler's allocation events."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        before()
        torch.empty(MARK, dtype=torch.uint8)
        run()
    events = [(e.start_ns(), e.nbytes()) for e in seen.profiler.kineto_results.events() if e.name() == "[memory]"]
    live = top = 0
    begun = False
    for _, size in sorted(events, key=lambda event: event[0]):
        live += size
        begun |= size == -MARK
        top = max(top, live) if begun else 0
    return top


def measured(policy, objective, units, make_optimizer, pass_tokens, steps: int = 2) -> int:
    """Most bytes alive in `steps` real steps, from the profiler's allocation events and the weights that were there."""
    optimizer = make_optimizer(policy.net.train())

    def run():
        for _ in range(steps):
            backward(policy, objective, units, pass_tokens=pass_tokens)
            optimizer.step(lr=1e-3, clip=1.0)

    return held_by(policy, optimizer) + most_while(run)


def real_policy(adapter, lean: bool) -> Policy:
    net = AutoModelForCausalLM.from_config(CONFIG, attn_implementation=attention.NAME)
    adapter.attach(net, seed=0)
    return Policy(net, lean=lean)


@pytest.mark.parametrize(
    ("adapter", "precision", "checkpointing", "lengths", "pass_tokens", "lean"),
    [
        ("full", "fp32", False, [40] * 6, None, True),
        ("full", "bf16", True, [200, 90], None, True),
        ("full", "fp32", "selective", [200, 90], None, True),
        ({"lora": {"rank": 4}}, "bf16", "selective", [200, 90], None, False),
        ("full", "bf16", False, [60] * 4, 120, False),
        ({"lora": {"rank": 4}}, "fp32", True, [200, 90], None, True),
        ({"lora": {"rank": 4}}, "bf16", False, [60] * 4, 120, True),
        ("qlora", "bf16", False, [60] * 2, None, True),
    ],
)
def test_the_peak_is_the_allocators(adapter, precision, checkpointing, lengths, pass_tokens, lean):
    objective, kind = shelf("objectives").make("sft"), shelf("adapters").make(adapter)
    units, make = units_of(lengths), optimizer_of(precision, checkpointing)
    found = simulate(
        lambda: fake_policy(CONFIG, kind, lean=lean), objective, units, make_optimizer=make, pass_tokens=pass_tokens
    )
    truth = measured(real_policy(kind, lean), objective, units, make, pass_tokens)
    assert found.peak.bytes == pytest.approx(truth, rel=0.02)
    assert sum(found.peak.kinds.values()) == found.peak.bytes


@pytest.mark.parametrize(
    ("adapter", "precision", "lean", "off"),
    [
        ("full", "fp32", True, 0.02),
        ("lora", "bf16", True, 0.02),
        ("full", "bf16", False, 0.04),
    ],  # 0.3 MB of scratch that nobody sees
)
def test_an_evaluation_is_a_phase_of_its_own(adapter, precision, lean, off):
    """Rows of 300 tokens without gradient, after steps of 40: what step.measure makes of them, on top of what is held."""
    objective, kind = shelf("objectives").make("sft"), shelf("adapters").make(adapter)
    units, dev, make = units_of([40, 40]), units_of([300, 300]), optimizer_of(precision, False)
    found = simulate(lambda: fake_policy(CONFIG, kind, lean=lean), objective, units, make_optimizer=make, evaluated=dev)
    policy = real_policy(kind, lean)
    optimizer = make(policy.net.train())
    backward(policy, objective, units)
    optimizer.step(lr=1e-3, clip=1.0)
    policy.net.eval()
    measure(policy, objective, dev)  # tables are made as long as that
    held, truth = held_by(policy, optimizer), most_while(lambda: measure(policy, objective, dev))
    assert found.after["evaluation"] == pytest.approx(held + truth, rel=off)
    assert found.after["evaluation"] - found.held == pytest.approx(truth, rel=0.1)
    none = simulate(lambda: fake_policy(CONFIG, kind, lean=lean), objective, units, make_optimizer=make)
    assert "evaluation" not in none.after and none.peak == found.peak and none.work == found.work


@pytest.mark.parametrize(("keep", "copies"), [("fp32", 0), ("kahan", 4)])
def test_a_checkpoint_and_the_result_are_phases_of_their_own(keep, copies):
    """bf16: of weights with what was cut off beside them, fp32 copies are saved; in the end the whole network is fp32 again."""

    def make(net):
        masters = lower(net) if keep == "fp32" else None
        if masters is None:
            lower(net)
        return Optimizer(list(net.named_parameters()), masters=masters, keep=keep)

    objective, kind, units = shelf("objectives").make("sft"), shelf("adapters").make("full"), units_of([40, 40])
    found = simulate(lambda: fake_policy(CONFIG, kind), objective, units, make_optimizer=make)
    made = []

    def trained():
        policy = real_policy(kind, True)
        optimizer = make(policy.net.train())
        backward(policy, objective, units)
        optimizer.step(lr=1e-3, clip=1.0)
        made[:] = [policy, optimizer]

    def top(run):
        made.clear()  # what was made for another measurement must not be let go in this one
        return most_while(run, trained)

    copied = top(lambda: made[1].state()) - top(lambda: None)
    assert (
        copied == pytest.approx(found.after["save"] - found.held, rel=0.02, abs=4096)
        and copied >= copies * found.trainable
    )
    assert top(lambda: made[1].lift(made[0].net)) == pytest.approx(found.after["result"], rel=0.02)


@pytest.mark.parametrize("name", shelf("adapters").names())
def test_every_adapter_of_the_shelf_runs_on_fake_tensors(name):
    """In a new shape each; `tokens` has the rows of two added ones to train."""
    objective, kind = shelf("objectives").make("sft"), shelf("adapters").make(name)
    found = simulate(
        lambda: fake_policy(CONFIG, kind, added=2), objective, units_of([40, 40]),
        make_optimizer=optimizer_of("fp32", False), evaluated=units_of([60]),
    )  # fmt: skip
    assert 0 < found.trainable <= found.parameters
    assert found.peak.bytes > found.held > found.weights > 0 and found.after["evaluation"] > found.held


SAMPLING = {"max_tokens": 8, "reward": "exact_match"}
SETTINGS = {
    "grpo": {**SAMPLING, "n": 2}, "ppo": SAMPLING, "rejection": SAMPLING, "gkd": {"teacher": "pico", "max_tokens": 8},
    "distill": {"teacher": "pico"}, "multitask": {"tasks": {"chat": "sft", "text": "pretrain"}},
}  # fmt: skip
NETWORKS = {"masked": "pico-encoder", "seq2seq": "pico-t5"}


def helpers_of(objective, config):
    """policy -> the helpers a method asks for; a teacher has the student's own architecture, on fake tensors like the rest."""

    def make(policy):
        asked = getattr(objective, "helpers", ())
        teacher = Teacher(fake_policy(config), vocab=config.vocab_size) if "teacher" in asked else None
        return Helpers(teacher=teacher, state=objective.start() if hasattr(objective, "start") else {})

    return make


def planned_units(name, objective):
    """Two Units of 48 tokens at most; of several tasks one each, for which the planner makes no rows."""
    if name != "multitask":
        return sample_units(objective, length=48, number=2)
    text = Text(byte_tokenizer(), length=48)
    rows = [{**ROWS[task][0], "origin": f"{task}.jsonl:1"} for task in objective.tasks]
    return [unit for row in rows for unit in objective.units(row, text, Draw([0, 0, 0], rows))]


@pytest.mark.parametrize("adapter", ["full", "lora", "head"])
@pytest.mark.parametrize("name", [name for name in shelf("objectives").names() if name != "features"])
def test_every_method_runs_on_fake_tensors(name, adapter):
    if (name, adapter) == ("embed", "head"):
        pytest.skip("a body without a head")
    objective = shelf("objectives").make({name: SETTINGS.get(name, {})})
    if hasattr(objective, "learn_labels"):
        objective = objective.learn_labels([{"label": "a"}, {"label": "b"}])
    units = planned_units(name, objective)
    longest = max(len(example) for unit in units for example in unit.examples)
    assert len(units) == 2 and (46 if name != "multitask" else 8) <= longest <= 48
    given = {name: getattr(objective, name) for name in ("kind", "labels", "heads") if hasattr(objective, name)}
    config = architecture(NETWORKS.get(given.get("kind"), "pico"))
    found = simulate(
        lambda: fake_policy(config, shelf("adapters").make(adapter), **given), objective, units,
        make_optimizer=optimizer_of("fp32", False),
        make_helpers=helpers_of(objective, config),
    )  # fmt: skip
    assert found.peak.bytes > found.held > found.weights > 0
    assert set(found.peak.kinds) == set(KINDS)


def test_nothing_fake_stays_behind():
    """Masks and tables that modules keep for later must not be fake in a real run after a plan, nor the other way round."""
    objective, adapter = shelf("objectives").make("sft"), shelf("adapters").make("full")
    units = units_of([30, 30])
    for _ in range(2):
        simulate(lambda: fake_policy(CONFIG, adapter), objective, units, make_optimizer=optimizer_of("fp32", False))
        assert np.isfinite(backward(real_policy(adapter, True), objective, units).loss)


def test_each_factor_moves_its_part():
    """E1: parameters, how many of them train, and the number format each move the part that they should."""

    def parts(adapter="full", precision="fp32", length=64, kind="adamw", **config):
        made = LlamaConfig(**{**CONFIG.to_dict(), **config})
        return simulate(
            lambda: fake_policy(made, shelf("adapters").make(adapter)), shelf("objectives").make("sft"), units_of([length]),
            make_optimizer=optimizer_of(precision, False, kind),
        )  # fmt: skip

    base, small = parts(), parts(adapter="lora")
    number = base.parameters
    assert base.weights == pytest.approx(4 * number, rel=0.01)
    assert base.held - base.weights == pytest.approx(8 * number, rel=0.01)  # Adam's two averages
    assert parts(kind="sgd").held == pytest.approx(base.weights, rel=0.01)
    assert small.held - small.weights < 0.2 * 8 * number and small.trainable < 0.1 * number
    low = parts(precision="bf16")
    assert low.peak.kinds["weights"] == pytest.approx(2 * number, rel=0.01)
    assert low.peak.kinds["masters"] == pytest.approx(4 * number, rel=0.01)
    assert parts(num_hidden_layers=6).weights > base.weights
    assert parts(length=128).peak.kinds["activations"] > 1.5 * base.peak.kinds["activations"]


def test_the_operations_are_counted():
    """A full step is 6 operations a parameter and token (2 forward, 4 backward), and attention on top."""
    made = simulate(
        lambda: fake_policy(CONFIG, shelf("adapters").make("full")), shelf("objectives").make("sft"), units_of([100]),
        make_optimizer=optimizer_of("fp32", False),
    )  # fmt: skip
    matrices = made.parameters - CONFIG.vocab_size * CONFIG.hidden_size  # the embedding is looked up, not multiplied
    assert (made.num_tokens, made.num_passes) == (100, 1)  # not what is read out of a fake tensor
    assert 0.95 < made.flops / (6 * matrices * 100) < 1.25


def test_the_heaviest_pass_alone_stands_for_a_step_of_several():
    units = units_of([10, 50, 20, 20])
    assert [u.num_tokens for u in heaviest(units, None)[0]] == [10, 20, 20, 50]
    largest, more = heaviest(units, 50)
    assert [u.num_tokens for u in largest] == [50] and more
    objective, adapter, make = (
        shelf("objectives").make("sft"),
        shelf("adapters").make("full"),
        optimizer_of("bf16", False),
    )
    given = {"make_optimizer": make, "pass_tokens": 50}
    one = simulate(lambda: fake_policy(CONFIG, adapter), objective, largest, accumulated=more, **given)
    all_of_them = simulate(lambda: fake_policy(CONFIG, adapter), objective, units, **given)
    assert one.peak.bytes == pytest.approx(all_of_them.peak.bytes, rel=0.005)


def test_weights_in_four_bits_are_counted_as_parameters():
    seen = [
        simulate(
            lambda kind=kind: fake_policy(CONFIG, shelf("adapters").make(kind)), shelf("objectives").make("sft"),
            units_of([20]), make_optimizer=optimizer_of("fp32", False),
        )
        for kind in ("lora", "qlora")
    ]  # fmt: skip
    assert seen[0].parameters == seen[1].parameters and seen[1].weights < seen[0].weights


def test_a_value_read_from_a_tensor_is_a_number():
    from torch._subclasses.fake_tensor import FakeTensorMode

    from tunesmith.plan.track import READ, Tracker

    with FakeTensorMode(), Tracker() as tracker:
        assert float(torch.ones(3).sum()) == READ
        assert int(torch.ones(3, dtype=torch.int64).sum()) == int(READ)
    assert tracker.live == 0


def test_a_padded_pass_is_as_large_as_its_padding():
    short, long_ = random_units([4, 4, 4, 4]), random_units([15])
    units = [*short, *long_]
    assert tokens_of(units, padded=False) == 31 and tokens_of(units, padded=True) == 75
    assert [len(u.examples[0]) for u in heaviest(units, 16, padded=True)[0]] == [
        4,
        4,
        4,
        4,
    ]  # 16 places; the long one 15
    assert len(heaviest(units, 75, padded=True)[0]) == 5 and not heaviest(units, 75, padded=True)[1]
