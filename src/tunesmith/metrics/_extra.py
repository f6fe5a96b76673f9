"""A library of the `eval` extra, imported when a metric needs it."""

import importlib
from types import ModuleType

from tunesmith.core.errors import SettingError


def library(module: str, package: str, metric: str) -> ModuleType:
    """The imported module, or a SettingError that names the extra to install."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise SettingError(
            f'The metric "{metric}" needs {package}, which is not installed ({error}).',
            fix='Install it: pip install "tunesmith[eval]"',
        ) from None
