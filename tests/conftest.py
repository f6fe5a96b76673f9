"""What tests of several rooms share: Units of random tokens, transformers' loss of them, gradients by name."""

import os
import signal

import numpy as np
import pytest

from tunesmith.core.shelf import USE
from tunesmith.text.example import Example, Unit

# A shell starts what runs in its background with Ctrl-C ignored, and children inherit that: tests of Ctrl-C need it back.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

VOCAB = 288  # of pico


@pytest.fixture(autouse=True)
def users_files_leave_with_the_test(monkeypatch):
    """What a test puts on the shelves by `use:` (an environment variable, for worker processes) is gone after it."""
    monkeypatch.setenv(USE, os.environ.get(USE, "{}"))


@pytest.fixture(scope="session")
def make_units():
    """make_units([5, 9]) -> one Unit a length, random tokens, the first third a prompt that is not trained on."""

    def make(lengths, seed=0, prompt=1 / 3, vocab=VOCAB):
        draw = np.random.default_rng(seed)
        units = []
        for number, length in enumerate(lengths):
            ids = draw.integers(3, vocab - 1, size=length)
            weights = np.where(np.arange(length) < int(length * prompt), 0.0, 1.0)
            units.append(Unit((Example.of(ids.tolist(), weights.tolist()),), origin=f"rows.jsonl:{number + 1}"))
        return units

    return make


@pytest.fixture(scope="session")
def labels_loss():
    """labels_loss(net, units) -> transformers' loss over all trained-on tokens together, document by document."""

    import torch  # here: most rooms are tested without it

    def loss(net, units):
        total, count = 0.0, 0
        for unit in units:
            for example in unit.examples:
                ids = torch.tensor(example.ids, dtype=torch.int64)[None]
                labels = torch.where(torch.tensor(example.weights)[None] > 0, ids, -100)
                total = total + net(input_ids=ids, labels=labels, use_cache=False).loss * example.num_trained
                count += example.num_trained
        return total / count

    return loss


@pytest.fixture(scope="session")
def gradients():
    """gradients(net) -> {name: gradient}, zeros where there is none; forgets them in the net."""

    import torch

    def take(net):
        found = {n: torch.zeros_like(p) if p.grad is None else p.grad.clone() for n, p in net.named_parameters()}
        net.zero_grad(set_to_none=True)
        return found

    return take
