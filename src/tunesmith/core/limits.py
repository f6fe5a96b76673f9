"""Impossible values of settings, each with one clear error. Called from `__post_init__` of settings.

>>> above("train.lr", -1.0, 0)
Traceback (most recent call last):
tunesmith.core.errors.SettingError: train.lr is -1.0.
It must be above 0.

None passes everywhere: it means "not set".
"""

from collections.abc import Iterable

from tunesmith.core.errors import SettingError
from tunesmith.core.names import unknown


def above(name: str, value: float | None, limit: float) -> None:
    """The value must be greater than the limit."""
    if value is not None and not value > limit:
        raise SettingError(f"{name} is {value}.", wanted=f"It must be above {limit}.")


def at_least(name: str, value: float | None, limit: float) -> None:
    """The value must be the limit or more."""
    if value is not None and not value >= limit:
        raise SettingError(f"{name} is {value}.", wanted=f"It must be {limit} or more.")


def between(name: str, value: float | None, low: float, high: float) -> None:
    """The value must lie in low..high, both included."""
    if value is not None and not low <= value <= high:
        raise SettingError(f"{name} is {value}.", wanted=f"It must lie between {low} and {high}.")


def one_of(name: str, value: str | None, choices: Iterable[str]) -> None:
    """The value must be one of the choices; the error names the nearest."""
    choices = list(choices)
    if value is not None and value not in choices:
        raise unknown(f"{name}", value, choices)
