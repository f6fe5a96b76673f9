"""What every run of LLaMA-Factory shares: an import that needs no GPU libraries, and a meter that starts once its model is loaded."""

import importlib
import sys
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from benchmarks.training_speed.measure import Meter


def without_sound() -> None:
    """It imports torchaudio whatever it trains, and the registry's build of that wants CUDA's libraries: where it cannot be loaded an empty
    module stands in, which only rows with sound would miss."""
    try:
        importlib.import_module("torchaudio")
    except (ImportError, OSError):
        stand_in = ModuleType("torchaudio")
        stand_in.__spec__ = ModuleSpec("torchaudio", None)
        sys.modules["torchaudio"] = stand_in


class Started:
    """Takes the place of a workflow's `load_model`: keeps the model and starts the meter when it is there."""

    def __init__(self, workflow: Any) -> None:
        self.load_model, workflow.load_model = workflow.load_model, self
        self.meter: Meter
        self.model: Any = None

    def __call__(self, *args: Any, **rest: Any) -> Any:
        self.model = self.load_model(*args, **rest)
        self.meter = Meter()
        return self.model
