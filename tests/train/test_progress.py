"""Progress for a person who waits."""

import io
import sys
from types import SimpleNamespace

import pytest

from tunesmith.train.loggers import loggers, scalars
from tunesmith.train.progress import Progress, duration, step_line
from tunesmith.train.watch import Sign

STEP = {
    "kind": "step", "step": 12, "steps": 300, "epoch": 0.1, "loss": 2.31, "lr": 1e-3, "tokens_per_second": 3120.4,
    "memory_bytes": 1_200_000_000, "eta": 130.0, "grad_norm": 0.5,
}  # fmt: skip


@pytest.mark.parametrize(
    ("seconds", "words"), [(9.6, "10 s"), (90, "1 min 30 s"), (3600, "1 h 0 min"), (7_379, "2 h 2 min")]
)
def test_durations(seconds, words):
    assert duration(seconds) == words


def test_a_line_has_speed_memory_loss_and_what_is_left():
    line = step_line(STEP)
    for part in ("step 12/300", "loss 2.3100", "3,120 tokens/s", "1.20 GB", "2 min 10 s left"):
        assert part in line


def test_steps_are_told_now_and_then_and_what_matters_always():
    out = io.StringIO()
    tell = Progress(out)
    for number in range(1, 301):
        tell({**STEP, "step": number})
    tell({"kind": "eval", "step": 300, "dev_loss": 1.5, "improved": True, "figures": {"loss": 1.5}})
    tell({"kind": "out_of_memory", "step": 300, "part": "backward", "pass_tokens": 4096, "before": 8192})
    tell({"kind": "early_stop", "step": 300, "best_step": 200})
    lines = out.getvalue().splitlines()
    assert [line.split()[1] for line in lines] == ["1/300", "300/300", "300:", "ran", "early"]
    assert "backward pass of step 300" in lines[3] and "4,096 tokens from now on, not 8,192" in lines[3]
    assert lines[2] == "step 300: dev loss 1.5000  (best so far)"


@pytest.mark.parametrize(
    ("event", "line"),
    [
        ({"part": "evaluation", "pass_tokens": 4096}, "in the evaluation after step 3: its passes hold 4,096 tokens"),
        ({"part": "rollouts", "prompts": 4096}, "in the rollouts of step 3: 4,096 prompts are answered at once"),
    ],
)
def test_where_memory_ran_out_is_told(event, line):
    out = io.StringIO()
    Progress(out)({"kind": "out_of_memory", "step": 3, "before": 8192, **event})
    assert line in out.getvalue() and "not 8,192" in out.getvalue()


def test_an_evaluation_tells_the_methods_accuracy_beside_its_loss():
    out = io.StringIO()
    Progress(out)(
        {"kind": "eval", "step": 9, "dev_loss": 0.25, "improved": False, "figures": {"loss": 0.25, "accuracy": 0.873}}
    )
    assert out.getvalue() == "step 9: dev loss 0.2500  accuracy 87.3%\n"


def test_a_warning_is_told_with_what_to_do():
    out = io.StringIO()
    sign = Sign("kl", 7, "the KL divergence to the starting model is 12, the limit 10", "Raise kl.", {})
    Progress(out)({"kind": "warning", **vars(sign)})
    first, second = out.getvalue().splitlines()
    assert first == f"warning at step 7: {sign.message}" and second.strip() == "Raise kl."


@pytest.mark.parametrize("kind", ["end", "stopped", "error"])
def test_loggers_are_closed_however_a_run_ends(kind, tmp_path, monkeypatch):
    calls = []

    def note(name):
        return lambda *given, **named: calls.append((name, *given, *named.values()))

    class Path:
        path = tmp_path

        def file(self, name):
            return tmp_path / name

    writer = SimpleNamespace(add_scalar=note("scalar"), close=note("tensorboard"))
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", SimpleNamespace(SummaryWriter=lambda place: writer))
    mlflow = SimpleNamespace(
        set_tracking_uri=str, start_run=lambda run_name: None, log_metrics=note("metrics"), end_run=note("mlflow")
    )
    monkeypatch.setitem(sys.modules, "mlflow", mlflow)
    run = SimpleNamespace(log=note("log"), finish=note("wandb"))
    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(init=lambda **facts: run))
    listeners = loggers(["tensorboard", "mlflow", "wandb"], Path())
    for listen in listeners:
        listen({"kind": "start"})
        listen({"kind": kind, "message": "the loss became nan"})
    status = "FAILED" if kind == "error" else "FINISHED"
    assert calls == [("tensorboard",), ("mlflow", status), ("wandb", int(kind == "error"))]


def test_loggers_get_the_numbers_of_steps_and_evaluations():
    assert scalars(STEP)["train/loss"] == 2.31
    assert scalars({"kind": "eval", "dev_loss": 1.5, "figures": {"accuracy": 0.5}}) == {
        "dev/loss": 1.5,
        "dev/accuracy": 0.5,
    }
    assert scalars({"kind": "start"}) == {}
    assert loggers([], None) == []


def test_korean_words():
    out = io.StringIO()
    tell = Progress(out, lang="ko")
    tell(STEP)
    tell({"kind": "eval", "step": 300, "dev_loss": 1.5, "improved": True, "figures": {"loss": 1.5, "accuracy": 0.75}})
    tell({"kind": "early_stop", "step": 300, "best_step": 200})
    assert out.getvalue().splitlines() == [
        "12/300단계  에폭 0.10  손실 2.3100  lr 1.00e-03  초당 3,120토큰  1.20 GB  2분 10초 남음",
        "300단계: dev 손실 1.5000  정확도 75.0%  (지금까지 최고)",
        "300단계에서 일찍 멈췄습니다. dev 손실은 200단계에서 가장 낮았습니다",
    ]
