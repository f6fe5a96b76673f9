"""tunesmith.load: a model ready to answer, by name, folder or run (Python only)."""

from pathlib import Path
from typing import Any


def load(name: str | Path | Any, *, precision: str = "fp32", device: str = "cpu", merge: bool = False) -> Any:
    """A model with its tokenizer: `mini`, a folder, a run's folder, an adapter's, or a Hugging Face name.

    merge  put an adapter's update into the weights: the same answers, faster

    model = tunesmith.load("runs/train-1"); model.answer("How do I activate my card?")
    """
    from tunesmith.adapters.store import merge as merged
    from tunesmith.adapters.store import open_run

    model = open_run(name, dtype=precision, device=device)
    return merged(model) if merge else model
