"""What we say to the person who made a mistake: what was found, what was wanted, what to do.

raise DataError('faq.jsonl:812 has no "answer". Found: question, reply.', fix="Say which column: data.columns.answer: reply")

The command line prints such an error without a traceback and ends with exit code 2. Anything else that reaches it is our
bug: traceback, exit code 1.
"""


class UserError(Exception):
    """A mistake we can explain. `found` is what is there, `wanted` what should be, `fix` what to do."""

    def __init__(self, found: str, *, wanted: str = "", fix: str = "") -> None:
        super().__init__(found)
        self.found, self.wanted, self.fix = found, wanted, fix

    def __str__(self) -> str:
        return "\n".join(part for part in (self.found, self.wanted, self.fix) if part)


class ProjectError(UserError):
    """The project file or a key on the command line cannot be understood."""


class SettingError(UserError):
    """A setting has an unknown name, a wrong type or an impossible value."""


class DataError(UserError):
    """A file or a row of data cannot be used as it is."""


class ModelError(UserError):
    """A model or adapter cannot be loaded, or cannot do what was asked."""


class TrainingError(UserError):
    """Training stopped for a cause we can name: NaN, divergence, nothing to train on."""


class SpaceError(UserError):
    """Not enough disk or memory for what was asked."""
