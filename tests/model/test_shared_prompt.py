"""A prompt that answers share is computed once: same log-probs and gradients as written out in full, fewer tokens."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from tunesmith.model.load import load
from tunesmith.model.policy import Policy
from tunesmith.text.example import Example, Unit, together


def group(draw, prompt, answers):
    start = draw.integers(3, 200, size=prompt).tolist()
    made = []
    for size in answers:
        ids = [*start, *draw.integers(3, 200, size=size).tolist()]
        made.append(Example.of(ids, [0] * prompt + [1] * size))
    return together(made, "rows:1")


@pytest.fixture
def units():
    draw = np.random.default_rng(0)
    single = Unit((Example.of(range(5, 17), [0, 0] + [1] * 10),), origin="rows:2")
    return [group(draw, 9, (3, 7, 1)), single, group(draw, 4, (5, 5)), group(draw, 160, (2, 30))]


def gradients(policy, units):
    batch = policy.batch(units)
    logp = policy.logprobs(batch)
    (logp * torch.linspace(0.5, 2.0, len(logp), dtype=logp.dtype)).sum().backward()
    gradient = torch.cat([p.grad.flatten() for p in policy.net.parameters()])
    policy.net.zero_grad()
    return logp.detach(), gradient, batch


@pytest.mark.parametrize("lean", [True, False], ids=["lean", "module"])
def test_shared_and_written_out_are_the_same(units, lean):
    net = load("pico", dtype="fp64", seed=1).net.requires_grad_(True)
    policy = Policy(net, lean=lean)
    shared, written = gradients(policy, units), gradients(policy, [replace(u, shared_prompt=0) for u in units])
    padded = gradients(Policy(net, layout="padded"), units)
    assert shared[2].num_tokens == sum(u.num_tokens for u in units) < written[2].num_tokens
    # on the module's path rotary angles are made in fp32, and a longer row rounds them otherwise
    assert (shared[0] - written[0]).abs().max() < (1e-12 if lean else 1e-6)
    assert (shared[1] - written[1]).abs().max() < (1e-10 if lean else 1e-3)
    assert (shared[0] - padded[0]).abs().max() < 1e-6
    assert (shared[1] - padded[1]).abs().max() < 1e-3


def test_changing_one_answer_moves_no_other(units):
    policy = Policy(load("pico", dtype="fp64", seed=1).net)
    before = policy.hidden(policy.batch(units))
    first, second, third = units[0].examples
    changed = replace(
        units[0], examples=(first, replace(second, ids=np.where(second.weights > 0, 7, second.ids)), third)
    )
    after = policy.hidden(policy.batch([changed, *units[1:]]))
    moved = (before != after).any(dim=1).nonzero()[:, 0].tolist()
    assert moved == list(range(9 + 3, 9 + 3 + 7))  # prompt, first answer, then the seven tokens that were changed


def test_last_lengths_and_sums_by_example(units):
    policy = Policy(load("pico", seed=1).net)
    batch = policy.batch(units)
    flat = batch.ids.flatten()
    assert flat[batch.last].tolist() == [int(e.ids[-1]) for u in units for e in u.examples]
    assert batch.lengths.tolist() == [e.num_trained for u in units for e in u.examples]
    assert batch.per_example(torch.ones(len(batch.target))).tolist() == batch.lengths.tolist()


def test_what_is_trained_on_is_never_shared():
    same = [5, 6, 7, 8]
    unit = together([Example.of([*same, 9], [0, 0, 1, 1, 1]), Example.of([*same, 10], [0, 0, 1, 1, 1])])
    assert unit.shared_prompt == 2
    whole = together([Example.of(same, [0, 0, 0, 0]), Example.of(same, [0, 0, 0, 0])])
    assert whole.shared_prompt == 3  # each keeps a token of its own
    assert together([Example.of([4, 6], [0, 1]), Example.of([5, 6], [0, 1])]).shared_prompt == 0
