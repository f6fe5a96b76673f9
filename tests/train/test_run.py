"""A run with everything around the loop: evaluation, the best kept, guards, disk, signals, what is journalled."""

import json
import os
import signal
from collections import namedtuple

import numpy as np
import pytest
import torch

from tunesmith.adapters.full import Full
from tunesmith.adapters.lora import Lora
from tunesmith.core.errors import SpaceError, TrainingError
from tunesmith.objectives.dpo import Dpo
from tunesmith.objectives.orpo import Orpo
from tunesmith.objectives.sft import Sft
from tunesmith.objectives.simpo import Simpo
from tunesmith.step.step import backward
from tunesmith.testing.objectives import ROWS, step_of
from tunesmith.text.example import Example, Unit
from tunesmith.train import checkpoint
from tunesmith.train.run import dev_figures, seconds_per_step


def test_counted_updates_are_those_predicted(train, events, run_folder):
    outcome, _ = train(steps=9, batch_size=4)  # 10 rows: 3 steps an epoch
    start, end = events(kind="start")[0], events(kind="end")[0]
    assert start["steps_per_epoch"] == 3
    assert end["predicted_updates"] == end["counted_updates"] == len(events(kind="step")) == outcome.steps == 9
    assert [e["step"] for e in events(kind="eval")] == [3, 6, 9]
    assert end["tokens"] == 3 * (6 + 9 + 12 + 7 + 5 + 10 + 8 + 11 + 6 + 13)
    rows = [json.loads(line) for line in (run_folder().path / "loss_per_row.jsonl").read_text().splitlines()]
    assert [row["seen"] for row in rows] == [3] * 10
    assert [row["origin"] for row in rows] == [f"rows.jsonl:{i}" for i in range(1, 11)]


def test_equal_seeds_give_equal_runs_and_other_seeds_others(train, same_weights, events):
    first, again, other = (train(n, seed=s)[1] for n, s in (("a", 1), ("b", 1), ("c", 2)))
    assert same_weights(first, again)
    assert not same_weights(first, other)
    assert [e["loss"] for e in events("a", "step")] == [e["loss"] for e in events("b", "step")]


def test_the_dev_loss_is_weighted_by_tokens_whatever_the_pass(pico, make_units):
    """The mean over tokens, not over rows or passes: equal to a sum by hand for every size."""
    model, units = pico(), make_units([4, 31, 6, 17, 9, 5, 22], seed=5)
    model.net.eval()
    total = sum(float(model.policy.nll(model.policy.batch([u]))[0].detach()) for u in units)
    wanted = total / sum(u.examples[0].num_trained for u in units)
    for pass_tokens, rows in ((1, 256), (30, 256), (None, 256), (None, 1), (None, 3)):
        found = dev_figures(model.policy, Sft(), units, pass_tokens=pass_tokens, rows=rows)
        assert found["loss"] == pytest.approx(wanted, rel=1e-6)
    shuffled = [units[i] for i in (3, 0, 6, 1, 5, 2, 4)]
    assert dev_figures(model.policy, Sft(), shuffled, pass_tokens=20)["loss"] == pytest.approx(wanted, rel=1e-6)


@pytest.mark.parametrize(
    "objective",
    [Orpo(weight=0.7), Dpo(sft_weight=0.5), Simpo(sft_weight=0.5), Dpo()],
    ids=["orpo", "dpo+sft", "simpo+sft", "dpo"],
)
def test_the_dev_loss_is_the_training_loss_term_by_term(objective):
    """On the same rows, with answers of unlike lengths: the same terms, each over its own denominator."""
    objective, model, units, helpers = step_of(objective, ROWS["preference"])
    wanted = backward(model.policy, objective, units, helpers=helpers).loss
    for pass_tokens, rows in ((None, 256), (1, 256), (100, 2)):
        found = dev_figures(model.policy, objective, units, pass_tokens=pass_tokens, rows=rows, helpers=helpers)
        assert found["loss"] == pytest.approx(wanted, rel=1e-9)


def test_evaluating_changes_nothing(train, run_folder):
    """Evaluation, sampling and saving do not touch the random numbers or the weights of training."""

    def on_eval(step):
        torch.rand(step)
        np.random.rand(3)
        return {}

    settings = {"adapter": Lora(rank=2, dropout=0.3)}
    train("plain", dev=None, **settings)
    train("watched", eval_every=1, save_every=1, on_eval=on_eval, early_stopping=100, **settings)
    places = [run_folder(name).path / "checkpoints" for name in ("watched", "plain")]
    watched, plain = (dict(checkpoint.each(place, checkpoint.latest(place)[0])) for place in places)
    assert all(torch.equal(watched[name], plain[name]) for name in plain)


def test_early_stopping_keeps_the_best(train, events, run_folder, pico, make_units, same_weights):
    settings = {"lr": 0.3, "steps": 60, "eval_every": 2, "early_stopping": 3}
    outcome, model = train("run", **settings)
    evals = events("run", "eval")
    losses = {e["step"]: e["dev_loss"] for e in evals}
    assert outcome.steps < 60
    assert outcome.best_step == min(losses, key=losses.get)
    assert outcome.steps == outcome.best_step + 3 * 2
    assert outcome.best_dev_loss == losses[outcome.best_step]
    assert (
        dev_figures(model.policy, Sft(), make_units([9, 6, 14], seed=2), pass_tokens=None)["loss"]
        == outcome.best_dev_loss
    )
    _, shorter = train("short", **{**settings, "steps": 60, "stop_after": outcome.best_step})
    assert same_weights(model, shorter)
    assert events("run", "early_stop")[0]["best_step"] == outcome.best_step
    assert outcome.best_step in checkpoint.steps_in(run_folder("run").path / "checkpoints")


@pytest.mark.parametrize("keep", [1, 3])
def test_the_last_k_and_the_best_are_kept(train, run_folder, events, keep):
    outcome, _ = train(steps=8, eval_every=1, keep=keep, lr=0.3)
    kept = checkpoint.steps_in(run_folder().path / "checkpoints")
    assert kept == sorted({*range(9 - keep, 9), outcome.best_step})


def test_a_base_under_lora_keeps_every_byte(train, pico, same_weights):
    before = {n: p.detach().clone() for n, p in pico().net.named_parameters()}
    _, model = train(adapter=Lora(rank=2), weight_decay=0.1)
    after = dict(model.net.named_parameters())
    assert all(torch.equal(before[n], after[n]) for n in before)
    assert all(p.grad is None for n, p in after.items() if "lora" not in n)


def test_full_training_moves_every_parameter(train, pico):
    before = {n: p.detach().clone() for n, p in pico().net.named_parameters()}
    _, model = train(adapter=Full())
    assert [n for n, p in model.net.named_parameters() if torch.equal(p, before[n])] == []


def test_nan_stops_with_the_cause(train, pico, events, run_folder):
    model = pico()
    model.net.model.embed_tokens.weight.data[40] = float("nan")
    bad = Unit((Example.of([33, 40, 35], [0, 1, 1]),), origin="bad.jsonl:7")
    with pytest.raises(TrainingError, match=r"loss became nan at step 1 .*bad.jsonl:7") as caught:
        train(model=model, units=[bad], dev=None)
    assert "train.lr" in caught.value.fix
    assert checkpoint.steps_in(run_folder().path / "checkpoints") == []


def test_divergence_stops_with_the_cause_and_the_checkpoint_before_it_stays(train, run_folder):
    with pytest.raises(TrainingError, match=r"diverged: the loss rose from .* \(learning rate ") as caught:
        train(lr=3.0, steps=100, eval_every=None, dev=None, warmup=30, schedule="constant")
    assert "warmup" in caught.value.fix
    assert checkpoint.steps_in(run_folder().path / "checkpoints")


def test_a_dev_loss_that_is_no_number_stops(train, pico, make_units, events):
    model = pico()
    bad = Unit((Example.of([33, 40, 35], [0, 1, 1]),))
    units = [Unit((Example.of([33, 34, 35, 36], [0, 1, 1, 1]),))]

    def only_when_measuring(module, inputs, out):
        return out if torch.is_grad_enabled() else out * float("nan")

    model.net.model.embed_tokens.register_forward_hook(only_when_measuring)
    with pytest.raises(TrainingError, match="dev loss became nan at step 1, while the training loss was"):
        train(model=model, units=units, dev=[bad], steps=1)
    (error,) = events(kind="error")  # the page says why, and loggers close
    assert error["step"] == 1 and "dev loss became nan" in error["message"]


def test_too_little_disk_is_told_before_anything_is_written(train, monkeypatch, run_folder):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(checkpoint.shutil, "disk_usage", lambda _: usage(10**9, 10**9, 1000))
    with pytest.raises(SpaceError, match="are free"):
        train()
    assert checkpoint.steps_in(run_folder().path / "checkpoints") == []


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize(
    "settings", [{"optimizer": "adamw"}, {"optimizer": "sgd", "momentum": 0.9}, {"optimizer": "muon"}]
)
def test_the_forecast_is_what_a_checkpoint_takes(train, events, run_folder, precision, settings):
    train(precision=precision, steps=2, adapter=Full(), **settings)
    forecast = events(kind="start")[0]["checkpoint_bytes"]
    taken = (checkpoint.folder_of(run_folder().path / "checkpoints", 2) / "state.safetensors").stat().st_size
    assert taken == pytest.approx(forecast, rel=0.05)


@pytest.mark.parametrize("harm", ["changed", "lost"])
def test_a_first_checkpoint_that_does_not_read_back_stops_the_run(train, monkeypatch, harm):
    real = checkpoint.each

    def harmed(folder, step, start=("",)):
        tensors = dict(real(folder, step, start))
        name = next(n for n in tensors if n.startswith("param."))
        tensors[name] = tensors[name] + 1
        if harm == "lost":
            del tensors[name]
        yield from tensors.items()

    monkeypatch.setattr(checkpoint, "each", harmed)
    with pytest.raises(
        TrainingError, match="does not read back: .*" + {"changed": "differs", "lost": "not in it"}[harm]
    ):
        train()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_and_leaves_and_the_run_goes_on(train, same_weights, number, events):
    _, uninterrupted = train("whole")
    before = signal.getsignal(number)

    def shoot(event):
        if event["kind"] == "step" and event["step"] == 2:
            os.kill(os.getpid(), number)

    outcome, _ = train("run", listeners=[shoot])
    assert (outcome.status, outcome.steps) == ("stopped", 2)
    assert events("run", "stopped")[0]["by"] == number.name
    assert signal.getsignal(number) == before
    again, model = train("run", resume=True)
    assert again.status == "finished"
    assert same_weights(model, uninterrupted)
    assert events("run", "stopped") == []  # the journal reads as if nothing had happened


def test_while_the_pause_file_is_there_training_waits(train, tmp_path, monkeypatch, events, same_weights):
    from tunesmith.train import run

    _, uninterrupted = train("whole")
    file = tmp_path / "pause"
    file.touch()
    waited = []
    monkeypatch.setattr(run.time, "sleep", lambda s: (waited.append(s), len(waited) == 3 and file.unlink()))
    _, model = train("run", pause_file=file)
    assert len(waited) == 3
    assert [e["step"] for e in events("run", "pause")] == [1]
    assert same_weights(model, uninterrupted)


def test_nothing_to_train_on_is_told(train):
    with pytest.raises(TrainingError, match="training split is empty"):
        train(units=[])
    nothing = [Unit((Example.of([33, 34, 35], [0, 0, 0]),), origin="faq.jsonl:3")]
    with pytest.raises(TrainingError, match=r"no token of this step is trained on.*faq.jsonl:3"):
        train("other", units=nothing, dev=None)


def test_no_parameter_that_trains_is_told(train, pico):
    model = pico()
    model.net.requires_grad_(False)
    with pytest.raises(TrainingError, match="no parameter trains"):
        train(model=model)


def test_memory_is_told_by_part(train, run_folder, pico):
    _, model = train(adapter=Full(), steps=2)
    parts = json.loads((run_folder().path / "memory.json").read_text())
    size = 4 * sum(p.numel() for p in model.net.parameters())
    assert (parts["weights"], parts["gradients"], parts["optimizer"], parts["masters"]) == (size, size, 2 * size, 0)
    assert parts["process_peak"] > size
    train("low", adapter=Full(), steps=2, precision="bf16", optimizer="sgd", momentum=0.0)
    parts = json.loads((run_folder("low").path / "memory.json").read_text())
    assert (parts["weights"], parts["masters"], parts["optimizer"]) == (size // 2, size, 0)


def test_timing_steps_leaves_weights_and_gradients_alone(pico, make_units, same_weights):
    model = pico()
    assert (
        seconds_per_step(model.policy, Sft(), make_units([5, 6, 7]), batch_size=2, pass_tokens=None, seed=0, tries=1)
        > 0
    )
    assert same_weights(model, pico())
    assert all(p.grad is None for p in model.net.parameters())


def test_bf16_trains_like_fp32(train, events):
    """Same data, same seed: mixed precision follows the fp32 losses within what bf16 resolves."""
    train("fp32", adapter=Full(), steps=12, lr=3e-3)
    train("bf16", adapter=Full(), steps=12, lr=3e-3, precision="bf16")
    wide, low = ([e["loss"] for e in events(name, "step")] for name in ("fp32", "bf16"))
    assert low == pytest.approx(wide, rel=0.02)
    assert wide[-1] < wide[0]


def test_checkpointing_gives_equal_runs(train, same_weights):
    adapter = Lora(rank=2, dropout=0.2)
    _, plain = train("plain", adapter=adapter)
    _, recomputed = train("recomputed", adapter=adapter, checkpointing=True)
    assert same_weights(plain, recomputed)
