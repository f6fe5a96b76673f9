"""Floor 7: the shared checkers. What our own tests run on every item of a shelf, anyone can run on theirs.

    from tunesmith.testing import check_metric
    from mine import Mine

    def test_mine():
        check_metric(Mine())

A checker raises AssertionError that says what does not hold.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

_HOMES = {
    "check_metric": "metrics",
    "check_step": "steps",
    "check_objective": "objectives",
    "check_adapter": "adapters",
}


def __getattr__(name: str) -> Any:
    # on use: the checkers of objectives and adapters need torch, the others do not
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


if TYPE_CHECKING:
    from tunesmith.testing.adapters import check_adapter as check_adapter
    from tunesmith.testing.metrics import check_metric as check_metric
    from tunesmith.testing.objectives import check_objective as check_objective
    from tunesmith.testing.steps import check_step as check_step
