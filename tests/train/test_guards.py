"""Guards: NaN, divergence, and being asked to stop."""

import math
import os
import signal
import threading

import pytest

from tunesmith.core.errors import TrainingError
from tunesmith.train.guards import Asked, DivergenceGuard


def feed(losses, guard=None, grad_norm=1.0):
    guard = guard or DivergenceGuard()
    for number, loss in enumerate(losses, start=1):
        guard.check(number=number, loss=loss, grad_norm=grad_norm, lr=0.1, origins=["a.jsonl:1", "b.jsonl:2"])
    return guard


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_a_loss_that_is_no_number(loss):
    with pytest.raises(TrainingError, match=rf"loss became {loss} at step 2 .*a.jsonl:1, b.jsonl:2") as caught:
        feed([2.0, loss])
    assert "Start a new run" in caught.value.fix  # --resume takes no keys


def test_a_gradient_that_is_no_number():
    with pytest.raises(TrainingError, match=r"gradient became inf at step 1 while the loss was 2"):
        feed([2.0], grad_norm=math.inf)


def test_noise_is_no_divergence():
    feed([3 + (i % 7) * 0.3 for i in range(300)])
    feed([0.01 * (1 + i % 3) for i in range(300)])
    feed([10 / (i + 1) for i in range(300)])


def test_a_rising_loss_is():
    with pytest.raises(TrainingError, match="diverged: the loss rose"):
        feed([2.0] * 30 + [2.0 + 0.5 * i for i in range(60)])


def test_its_state_goes_on():
    losses = [2.0 + 0.1 * (i % 5) for i in range(40)]
    whole, half = feed(losses), feed(losses[:17])
    assert feed(losses[17:], DivergenceGuard(state=half.state)).state == whole.state


def test_a_second_signal_stops_at_once():
    with Asked() as asked:
        assert not asked
        os.kill(os.getpid(), signal.SIGINT)
        assert asked
        assert asked.name == "SIGINT"
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_outside_the_main_thread_signals_are_left_alone():
    before, found = signal.getsignal(signal.SIGTERM), []

    def work():
        with Asked() as asked:
            found.append(bool(asked))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [False]
    assert signal.getsignal(signal.SIGTERM) == before
