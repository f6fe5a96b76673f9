"""A run that is stopped anywhere and goes on ends with the same bits as one that was not."""

import errno
import json

import pytest
import torch

from tunesmith.adapters.full import Full
from tunesmith.adapters.lora import Lora
from tunesmith.core.errors import SpaceError, TrainingError
from tunesmith.train import checkpoint
from tunesmith.train.guards import DivergenceGuard

ADAPTERS = {"full": Full(), "lora": Lora(rank=2), "lora_dropout": Lora(rank=2, dropout=0.3)}


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("optimizer", ["adamw", "adam", "sgd", "muon"])
@pytest.mark.parametrize("adapter", ["full", "lora"])
def test_resume_mid_epoch_is_bit_exact(train, events, same_weights, adapter, optimizer, precision):
    settings = {
        "adapter": ADAPTERS[adapter],
        "optimizer": optimizer,
        "precision": precision,
        "momentum": 0.9,
        "warmup": 2,
    }
    settings |= {"weight_decay": 0.01, "eval_every": 4}
    whole, uninterrupted = train("whole", steps=8, **settings)
    assert whole.status == "finished"
    for stop in (2, 5):  # an epoch is 3 steps
        first, _ = train(f"cut-{stop}", steps=8, stop_after=stop, **settings)
        assert (first.status, first.steps) == ("stopped", stop)
        again, model = train(f"cut-{stop}", steps=8, resume=True, **settings)
        assert again.status == "finished"
        assert same_weights(model, uninterrupted)
        assert (again.last_loss, again.best_dev_loss, again.tokens) == (
            whole.last_loss,
            whole.best_dev_loss,
            whole.tokens,
        )
        figures = [
            [(e["step"], e["loss"], e["grad_norm"], e["lr"]) for e in events(n, "step")]
            for n in ("whole", f"cut-{stop}")
        ]
        assert figures[0] == figures[1]


def test_dropout_goes_on_as_it_would_have(train, same_weights):
    settings = {"adapter": ADAPTERS["lora_dropout"], "checkpointing": True}
    _, uninterrupted = train("whole", **settings)
    train("cut", stop_after=2, **settings)
    _, model = train("cut", resume=True, **settings)
    assert same_weights(model, uninterrupted)


def test_momentum_zero_resumes_too(train, same_weights):
    _, uninterrupted = train("whole", optimizer="sgd", momentum=0.0)
    train("cut", optimizer="sgd", momentum=0.0, stop_after=3)
    assert same_weights(train("cut", optimizer="sgd", momentum=0.0, resume=True)[1], uninterrupted)


def test_rows_seen_and_their_losses_go_on(train, run_folder):
    train("whole", steps=9)
    train("cut", steps=9, stop_after=4)
    train("cut", steps=9, resume=True)
    whole, cut = (run_folder(name).path.joinpath("loss_per_row.jsonl").read_text() for name in ("whole", "cut"))
    assert whole == cut
    assert [json.loads(line)["seen"] for line in whole.splitlines()] == [3] * 10


def test_a_finished_run_goes_on_when_more_steps_are_asked_for(train, events, same_weights):
    settings = {"schedule": "constant", "warmup": 0, "eval_every": None}
    _, uninterrupted = train("whole", steps=9, **settings)
    first, _ = train("longer", steps=4, **settings)
    assert (first.status, first.steps) == ("finished", 4)
    again, model = train("longer", steps=9, resume=True, **settings)
    assert (again.status, again.steps) == ("finished", 9)
    assert same_weights(model, uninterrupted)
    assert [e["step"] for e in events("longer", "step")] == list(range(1, 10))


def test_resuming_what_is_finished_gives_the_result_again(train, same_weights):
    first, model = train("run")
    again, same = train("run", resume=True)
    assert (again.status, again.steps, again.best_dev_loss) == ("finished", first.steps, first.best_dev_loss)
    assert same_weights(model, same)


def test_resuming_before_the_first_checkpoint_starts_anew(train, same_weights, run_folder):
    _, uninterrupted = train("whole")
    run_folder("killed").journal("events.jsonl").append({"kind": "start"})
    outcome, model = train("killed", resume=True)
    assert outcome.steps == 6
    assert same_weights(model, uninterrupted)


def test_the_guard_reads_its_state_back_from_json():
    """Before the tenth step its best is infinite, which JSON knows as a word only."""
    from tunesmith.core.files import to_json

    guard = DivergenceGuard()
    for number in range(5):
        guard.check(number=number, loss=3.0, grad_norm=1.0, lr=0.1, origins=[])
    again = DivergenceGuard(state=json.loads(to_json(guard.state)))
    for number in range(5, 15):
        again.check(number=number, loss=3.0, grad_norm=1.0, lr=0.1, origins=[])
    assert again.state["best"] == pytest.approx(3.0)


def test_patience_that_ran_out_just_before_a_kill_ends_the_run(train, run_folder, events, same_weights):
    settings = {"steps": 40, "lr": 0.5, "eval_every": 1, "early_stopping": 2, "keep": 3}
    whole, uninterrupted = train("whole", **settings)
    assert whole.steps < 40
    train("cut", **settings)
    place = run_folder("cut").path / "checkpoints"
    last = place / f"step-{whole.steps:06d}" / "progress.json"
    progress = json.loads(last.read_text())
    assert progress["progress"]["patience_left"] == 0
    progress["progress"]["done"] = ""  # as if killed between the evaluation's checkpoint and the end
    last.write_text(json.dumps(progress))
    again, model = train("cut", resume=True, **settings)
    assert (again.status, again.steps) == ("finished", whole.steps)
    assert same_weights(model, uninterrupted)


def test_a_kill_between_the_two_renames_loses_nothing(tmp_path):
    tensors = {"x": torch.arange(3.0)}
    checkpoint.save(tmp_path, step=7, tensors=tensors, progress={"a": 1}, keep=1, best=None)
    checkpoint.save(tmp_path, step=7, tensors=tensors, progress={"a": 2}, keep=1, best=None)
    assert [p.name for p in tmp_path.iterdir()] == ["step-000007"]
    (tmp_path / "step-000007").rename(tmp_path / ".step-000007.old")
    step, progress = checkpoint.latest(tmp_path)
    read = dict(checkpoint.each(tmp_path, step))
    assert (step, progress["a"], read["x"].tolist()) == (7, 2, [0, 1, 2])


def test_a_damaged_checkpoint_is_named(train, run_folder):
    train("run", stop_after=3)
    place = run_folder("run").path / "checkpoints" / "step-000003" / "state.safetensors"
    place.write_bytes(place.read_bytes()[:100])
    with pytest.raises(TrainingError, match=r"step-000003 cannot be read"):
        train("run", resume=True)


def test_a_half_written_checkpoint_is_not_taken(tmp_path):
    checkpoint.save(tmp_path, step=3, tensors={"x": torch.ones(2)}, progress={}, keep=2, best=None)
    (tmp_path / "step-000009").mkdir()
    (tmp_path / ".step-000010.part").mkdir()
    assert checkpoint.latest(tmp_path)[0] == 3


def test_a_full_disk_while_a_checkpoint_is_written_is_told_and_leaves_the_last_one(tmp_path, monkeypatch):
    tensors = {"a": torch.ones(3)}
    checkpoint.save(tmp_path, step=1, tensors=tensors, progress={}, keep=2, best=None)

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(checkpoint, "write", full)
    with pytest.raises(SpaceError, match="the disk is full: .*step-000002"):
        checkpoint.save(tmp_path, step=2, tensors=tensors, progress={}, keep=2, best=None)
    assert checkpoint.steps_in(tmp_path) == [1] and not list(tmp_path.glob(".*"))
