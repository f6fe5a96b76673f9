"""Tunesmith: from a prompt that fails to a model that can be trusted.

    import tunesmith
    run = tunesmith.train(data="faq.json")     # every verb of the command line is a function here
    model = tunesmith.load(run["run"])

Nothing heavy is imported here: a verb imports what it needs when it is called.
"""

import os
import sys
from collections.abc import Iterable
from functools import cache
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")  # nothing is told to anybody


@cache
def _functions() -> frozenset[str]:
    """The functions offered here: each file of api/ that defines a function of its own name."""
    from tunesmith.core.source import defines_function

    folder = Path(__file__).parent / "api"
    return frozenset(path.stem for path in folder.glob("*.py") if defines_function(path, path.stem))


def __getattr__(name: str) -> Any:
    if name.startswith("_") or name not in _functions():
        raise AttributeError(f"module 'tunesmith' has no attribute {name!r}")
    if (Path(__file__).parent / name / "__init__.py").exists():
        return import_module(f"tunesmith.{name}")  # a room with a verb's name: callable, see _Package
    return getattr(import_module(f"tunesmith.api.{name}"), name)


def __dir__() -> Iterable[str]:
    return sorted([*globals(), *_functions()])


class _Package(ModuleType):
    """Some rooms have the name of a verb (`train`). Python binds an imported room to this package's attribute, where the
    verb would be: so such a room can be called, and calling it is the verb. `tunesmith.train(...)` works either way."""

    def __setattr__(self, name: str, value: Any) -> None:
        if isinstance(value, ModuleType) and not name.startswith("_") and name in _functions():
            value.__class__ = _Room
        super().__setattr__(name, value)


class _Room(ModuleType):
    def __call__(self, *args: Any, **keys: Any) -> Any:
        return self.__wrapped__(*args, **keys)

    @property
    def __wrapped__(self) -> Any:  # help() and inspect.signature() follow this to the verb
        name = self.__name__.rpartition(".")[2]
        return getattr(import_module(f"tunesmith.api.{name}"), name)


sys.modules[__name__].__class__ = _Package

if TYPE_CHECKING:  # what type checkers and editors see: a line for each file of api/ (a test holds them equal)
    from tunesmith.api.build import build as build
    from tunesmith.api.chain import chain as chain
    from tunesmith.api.chat import chat as chat
    from tunesmith.api.check import check as check
    from tunesmith.api.compare import compare as compare
    from tunesmith.api.data import data as data
    from tunesmith.api.demo import demo as demo
    from tunesmith.api.eject import eject as eject
    from tunesmith.api.eval import eval as eval
    from tunesmith.api.explain import explain as explain
    from tunesmith.api.list import list as list
    from tunesmith.api.load import load as load
    from tunesmith.api.merge import merge as merge
    from tunesmith.api.new import new as new
    from tunesmith.api.plan import plan as plan
    from tunesmith.api.quantize import quantize as quantize
    from tunesmith.api.report import report as report
    from tunesmith.api.rerun import rerun as rerun
    from tunesmith.api.runs import runs as runs
    from tunesmith.api.teach import teach as teach
    from tunesmith.api.tokenizer import tokenizer as tokenizer
    from tunesmith.api.train import train as train
    from tunesmith.api.where import where as where
