"""What a person types, as the messages a run was trained on: its templates (data.prompt, data.system) put around the words.

    asking = Asking(prompt="Please classify: {{ question }}", system="Answer with one label.")
    asking.messages("Where is my card?")
        # [{"role": "system", "content": "Answer with one label."}, {"role": "user", "content": "Please classify: Where is my card?"}]

A template of several columns takes them as a JSON object: {"question": "...", "language": "..."}; `notice` says so.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunesmith.core.errors import DataError
from tunesmith.data.messages import BadRow
from tunesmith.data.shapes import columns_read, templates

WORDS = "prompt"  # what the words are called in a JSON object where no template of the prompt names them


@dataclass(frozen=True)
class Asking:
    """A run's templates for the user's and the system's message; "" where it has none.

    plain_system  the system message is words as they are, not a template
    """

    prompt: str = ""
    system: str = ""
    plain_system: bool = False

    @staticmethod
    def of(folder: Path, system: str | None = None) -> "Asking":
        """That of the run in `folder`, or of nothing where it is no run; `system` is said in place of the run's own."""
        data: Any = None
        if (folder / "project.yaml").is_file():
            from tunesmith.core.project import read_project

            data = read_project(folder / "project.yaml").get("data")
        data = data if isinstance(data, Mapping) else {}
        own = system is None
        return Asking(data.get("prompt") or "", (data.get("system") if own else system) or "", plain_system=not own)

    @property
    def columns(self) -> list[str]:
        """The columns that have to be known, in the order in which they are read. One alone is what a person types."""
        needs = [*_columns(self.prompt), *([] if self.prompt or not self._system_columns else [WORDS])]
        return list(dict.fromkeys((*needs, *self._system_columns)))

    @property
    def notice(self) -> str:
        """What to tell a person before the first message; "" when typed words are all that is needed."""
        if len(self.columns) < 2:
            return ""
        shape = json.dumps(dict.fromkeys(self.columns, "..."), ensure_ascii=False)
        return (
            f"This run was trained on prompts made of {len(self.columns)} columns: {', '.join(self.columns)}. Ask the same way: {shape}\n"
            "Plain words are sent as they are, which is not what it was trained on."
        )

    def messages(self, words: str, *, first: bool = True) -> list[dict[str, Any]]:
        """The messages for what was typed; `first` puts the system's before them. DataError when a template fails on it."""
        record = self._record(words)
        made: list[dict[str, Any]] = []
        if first and self.system and all(column in record for column in self._system_columns):
            said = self.system if self.plain_system else _rendered("system", self.system, record)
            made.append({"role": "system", "content": said})
        needs = _columns(self.prompt)
        if needs and all(column in record for column in needs):
            words = _rendered("prompt", self.prompt, record)
        elif not needs and self._system_columns and WORDS in record:
            words = str(record[WORDS])
        return [*made, {"role": "user", "content": words}]

    @property
    def _system_columns(self) -> list[str]:
        return [] if self.plain_system else _columns(self.system)

    def _record(self, words: str) -> dict[str, Any]:
        if words.lstrip().startswith("{"):
            try:
                given = json.loads(words)
            except ValueError:
                given = {}
            if self.columns and all(column in given for column in self.columns):
                return dict(given)
        return {self.columns[0]: words} if len(self.columns) == 1 else {}


def _columns(template: str) -> list[str]:
    found = columns_read(template)
    return sorted(found or (), key=lambda name: (template.find(name), name))


def _rendered(word: str, template: str, record: Mapping[str, Any]) -> str:
    try:
        return templates(**{word: template})[word](record)
    except BadRow as error:
        raise DataError(error.detail, fix="Ask with the columns the run was trained on.") from None
