"""Optimiser states in a file: equal weights, little in memory, checkpoints that go on; what it refuses."""

import gc

import pytest
import torch
from safetensors.torch import load_file

from tunesmith.core.errors import SettingError
from tunesmith.train.offload import Away
from tunesmith.train.optim import Optimizer
from tunesmith.train.pages import Pages
from tunesmith.train.run import refuse
from tunesmith.train.settings import TrainSettings
from tunesmith.train.shard import Sharded


@pytest.fixture
def every_state(monkeypatch):
    """pico's matrices are small: all states go."""
    monkeypatch.setattr(Pages.__init__, "__kwdefaults__", {"least": 1024})
    monkeypatch.setattr("tunesmith.train.states8.LEAST", 256)


@pytest.mark.parametrize(
    "settings",
    [
        {"optimizer": "adamw", "weight_decay": 0.1},
        {"optimizer": "sgd", "momentum": 0.9, "l2": 0.01},
        {"optimizer": "muon", "momentum": 0.9},
        {"precision": "bf16"},
        {"precision": "bf16", "masters": "kahan"},
        {"states": "8bit"},
        {"update_in_backward": True, "clip": None, "pass_tokens": 1 << 16},
    ],
    ids=lambda settings: "-".join(map(str, settings)),
)
def test_weights_are_those_of_the_ordinary_way_bit_by_bit(
    train, same_weights, events, run_folder, every_state, settings
):
    _, usual = train("a", steps=3, **settings)
    _, moved = train("b", steps=3, offload_states="disk", **settings)
    assert same_weights(usual, moved)
    for one, other in zip(events("a", "step"), events("b", "step"), strict=True):
        assert one["loss"] == other["loss"] and one["grad_norm"] == other["grad_norm"]
    held = {name: run_folder(name).read_json("memory.json")["optimizer"] for name in ("a", "b")}
    assert 0 < held["b"] < held["a"] / 20, "only the states of norms are left in memory"
    assert not list(run_folder("b").path.glob("*.scratch"))


@pytest.mark.parametrize("states", ["fp32", "8bit"])
def test_a_run_is_resumed_with_or_without_it(train, same_weights, every_state, states, run_folder):
    _, straight = train("a", states=states)
    for name, before, after in (("b", "disk", "disk"), ("c", "disk", "none"), ("d", "none", "disk")):
        train(name, states=states, offload_states=before, stop_after=3)
        _, resumed = train(name, states=states, offload_states=after, resume=True)
        assert same_weights(straight, resumed), (before, after)


def test_a_checkpoint_holds_the_states_that_are_away(train, every_state, run_folder):
    train("a", steps=2)
    train("b", steps=2, offload_states="disk")
    one, other = (load_file(next(run_folder(name).path.glob("checkpoints/step-*2/state.safetensors"))) for name in "ab")
    wanted = {name.split(".", 2)[2]: value for name, value in one.items() if name.startswith("state.")}
    found = {name.split(".", 2)[2]: value for name, value in other.items() if name.startswith("state.")}
    assert len(found) == len(wanted) > 20 and all(torch.equal(found[name], wanted[name]) for name in wanted)


def test_the_file_does_not_grow_and_the_states_of_one_are_fetched_at_a_time(tmp_path):
    weights = [torch.nn.Parameter(torch.randn(300, 100)) for _ in range(4)]
    pages = Pages("disk", tmp_path / "s", least=1024)
    optimizer = Optimizer([(f"w{i}", w) for i, w in enumerate(weights)], pages=pages)
    here: list[int] = []
    usual = optimizer._update

    def update(masters, inners, lr):
        every = (v for inner in optimizer.inner for s in inner.state.values() for v in s.values())
        here.append(sum(torch.is_tensor(v) and v.ndim > 0 for v in every))
        usual(masters, inners, lr)

    optimizer._update = update
    ends = []
    for _ in range(3):
        for weight in weights:
            weight.grad = torch.randn_like(weight)
        optimizer.step(lr=1e-3)
        gc.collect()
        ends.append(pages._file.end)
    assert max(here) == 2, "mean and variance of the one that is updated"
    assert ends == [ends[0]] * 3 and ends[0] <= (4 * 2 + 2) * 300 * 100 * 4 and not list(tmp_path.iterdir())
    assert optimizer.num_state_bytes() == optimizer.predicted_state_bytes() == 0
    assert optimizer.num_checkpoint_bytes() == 3 * 4 * 300 * 100 * 4


@pytest.mark.parametrize("shape", [(40, 30), (1000,)])
def test_what_is_seen_without_fetching_is_what_went_out(tmp_path, shape):
    pages = Pages("disk", tmp_path / "s", least=0)
    made = [torch.randn(shape) for _ in range(5)]
    away = [Away(each, pages._file) for each in made]
    assert all(torch.equal(one.seen(), each) and torch.equal(one.back(), each) for one, each in zip(away, made))


def test_what_cannot_be_is_refused(tmp_path):
    with pytest.raises(SettingError, match="sgd without momentum keeps no states"):
        TrainSettings(offload_states="disk", optimizer="sgd", momentum=0.0)
    with pytest.raises(SettingError, match="offload_states is pinned, which moves optimiser states from a GPU"):
        refuse(
            update_in_backward=False,
            offload="none",
            offload_states="pinned",
            states="fp32",
            shard="none",
            kernels="torch",
            processes=1,
            cuda=False,
        )
    with pytest.raises(SettingError, match="states are cut in memory only"):
        Sharded([], stage="optimizer", pages=Pages("disk", tmp_path / "s"))
    with pytest.raises(SettingError, match="offload_states 'tape' is not known"):
        Pages("tape", tmp_path / "s")
