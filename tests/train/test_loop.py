"""The loop: which Units a step gets, how often each row is seen, schedule and counts by optimiser step."""

from collections import Counter

import numpy as np
import pytest
import torch

from tunesmith.objectives.sft import Sft
from tunesmith.train.feed import epoch_order, units_of_step
from tunesmith.train.loop import loop, steps_per_epoch
from tunesmith.train.optim import Optimizer
from tunesmith.train.schedule import learning_rate

from_step = [units_of_step(k, 10, 4, seed=3).tolist() for k in range(9)]


def test_the_order_is_fixed_by_seed_and_step():
    assert from_step == [units_of_step(k, 10, 4, seed=3).tolist() for k in range(9)]
    assert units_of_step(7, 10, 4, seed=3).tolist() == from_step[7]  # no step before it was asked
    assert from_step[:3] != [units_of_step(k, 10, 4, seed=4).tolist() for k in range(3)]
    assert from_step[:3] != from_step[3:6]  # shuffled anew each epoch


@pytest.mark.parametrize(("rows", "batch"), [(10, 4), (10, 5), (10, 1), (3, 16), (7, 7)])
def test_n_epochs_see_each_row_n_times(rows, batch):
    per_epoch = steps_per_epoch(rows, batch)
    assert per_epoch == -(-rows // batch)
    seen = Counter(int(i) for k in range(3 * per_epoch) for i in units_of_step(k, rows, batch, seed=0))
    assert seen == {i: 3 for i in range(rows)}


def test_in_file_order_when_asked():
    assert epoch_order(5, 0, 3, shuffle=False).tolist() == [0, 1, 2, 3, 4]
    for number in (0, 1, 2, 7, 70_001, 131_072):
        wanted = np.random.default_rng([3, 1, 0x0DE]).permutation(number)
        found = epoch_order(number, 3, 1)
        assert found.dtype == np.int32 and np.array_equal(found, wanted)
    assert units_of_step(3, 10, 4, 0, shuffle=False).tolist() == [0, 1, 2, 3]


def steps_of(model, units, **settings):
    optimizer = Optimizer(model.net.named_parameters(), kind="sgd")
    return list(loop(model.policy, Sft(), units, optimizer, **{"steps": 5, "batch_size": 4, "lr": 0.1, **settings}))


def test_counts_optimiser_steps_not_passes(pico, make_units):
    units = make_units([6, 9, 12, 7, 5, 10, 8, 11, 6, 13])
    steps = steps_of(pico(), units, pass_tokens=10, warmup=2)
    assert [s.number for s in steps] == [1, 2, 3, 4, 5]
    assert [s.lr for s in steps] == [learning_rate(step=i, steps=5, lr=0.1, warmup=2) for i in range(5)]
    assert min(s.stats.num_passes for s in steps) > 1
    assert [s.epoch for s in steps] == pytest.approx([k / 3 for k in range(1, 6)])
    assert sum(s.stats.num_units for s in steps[:3]) == 10


def test_pass_tokens_never_change_the_result(pico, make_units):
    units = make_units([6, 9, 12, 7, 5, 10, 8, 11, 6, 13])
    runs = {}
    for size in (None, 1, 20, 64):
        model = pico()
        steps = steps_of(model, units, pass_tokens=size)
        runs[size] = ([s.stats.loss for s in steps], [s.grad_norm for s in steps])
    for size in (1, 20, 64):
        for ours, canonical in zip(runs[size], runs[None]):
            assert ours == pytest.approx(canonical, rel=2e-5)


def test_seeded_from_the_step_alone(pico, make_units):
    """What happens to the global random state between steps does not matter."""
    from tunesmith.adapters.lora import Lora

    units, weights = make_units([6, 9, 12, 7]), []
    for noise in (False, True):
        model = pico()
        Lora(rank=2, dropout=0.5).attach(model.net)
        optimizer = Optimizer(model.net.named_parameters())
        for _ in loop(model.policy, Sft(), units, optimizer, steps=4, batch_size=2, lr=0.01):
            if noise:
                torch.manual_seed(99)
                np.random.seed(99)
        weights.append(torch.cat([p.flatten() for p in optimizer.parameters]))
    assert torch.equal(*weights)
