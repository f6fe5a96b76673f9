"""The rows of a project, read for a plan before any run: how long they are, how many steps and tokens they make.

    found = read_ahead(project, root, objective, source="mini", config=config, context=1024)
    found.length, found.per_epoch, found.steps(project.train, None)

They are prepared as `train` prepares them, in a folder that goes away. Of many rows some, evenly drawn, are made into tokens.
"""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

MOST = 2000  # rows that are made into tokens; the counts of more are those of so many, scaled


@dataclass(frozen=True, eq=False)
class Ahead:
    """objective: as the rows taught it; units: of the rows that were read; num_units: of all.

    length     tokens of the longest Example that is trained on, answers still to be sampled included
    tokens     of one pass over all rows; None for methods that sample, whose answers nobody knows yet
    per_epoch  updates in one epoch;  tokenizer  whose tokens were counted: the model's own, or mini's where that is not here
    """

    objective: Any
    units: Sequence[Any]
    num_rows: int
    num_units: int
    length: int
    tokens: int | None
    per_epoch: int
    tokenizer: str

    def step_tokens(self, batch_size: int) -> float | None:
        """Tokens of a step over all devices."""
        return None if self.tokens is None else self.tokens / self.num_units * min(batch_size, self.num_units)

    def steps(self, train: Any, seconds: float | None) -> int | None:
        """Updates of the whole run; None where they hang on a time budget and on a speed that is not known. seconds: of a step."""
        from tunesmith.train import defaults

        if train.minutes is not None and not seconds:
            return None
        return defaults.steps(
            per_epoch=self.per_epoch,
            epochs=train.epochs,
            steps=train.steps,
            minutes=train.minutes,
            seconds_each=seconds,
        )[0]

    def as_dict(self) -> dict[str, Any]:
        return {
            "rows": self.num_rows, "units": self.num_units, "read": min(self.num_rows, MOST), "longest": self.length,
            "tokens_an_epoch": self.tokens, "steps_an_epoch": self.per_epoch, "tokenizer": self.tokenizer,
        }  # fmt: skip


def read_ahead(project: Any, root: Path, objective: Any, *, source: str, config: Any, context: int) -> Ahead:
    """Prepare a project's rows and make them into Units.

    source   the base: an embedded name or a folder, whose tokenizer is taken;  config  its configuration;  context  what it reads
    Raises what `train` raises of rows that cannot be learned from.
    """
    from tunesmith.api.build import Lost, check_shape, data_settings, encode
    from tunesmith.api.rewards import step_helpers
    from tunesmith.core.errors import DataError
    from tunesmith.core.shelf import shelf
    from tunesmith.data.prepare import prepare
    from tunesmith.text.encode import Text

    data, train = project.data, project.train
    with tempfile.TemporaryDirectory() as place:
        prepared = prepare(
            Path(place), seed=data.seed, root=root, kinds=getattr(objective, "shape", "chat"),
            helpers=step_helpers(root, project.device), **data_settings(data),
        )  # fmt: skip
        check_shape(objective, prepared, project)
        rows = prepared.train
        if hasattr(objective, "learn_labels"):
            objective = objective.learn_labels(rows)
        tokenizer, whose = _tokenizer(source, config, getattr(objective, "kind", "causal"))
        virtual = getattr(shelf("adapters").make(project.adapter, "adapter"), "virtual", 0)
        text = Text(
            tokenizer, length=min(project.length or context, context) - virtual,
            too_long=project.too_long or ("split" if prepared.kind == "text" else "error"), reasoning=project.reasoning,
        )  # fmt: skip
        number = len(rows)
        chosen = rows if number <= MOST else [rows[i * number // MOST] for i in range(MOST)]
        units = list(encode(chosen, objective, text, project.seed, Lost()))
    if not units:
        raise DataError("no training example is left after tokenising", fix="Look: tunesmith data --show 3")
    whole = max(1, round(len(units) * number / len(chosen)))
    samples = hasattr(objective, "collect")
    longest = max(len(example) for unit in units for example in unit.examples)
    per_epoch = ceil(whole / train.batch_size)
    if samples:
        collected = min(objective.collect_size or train.batch_size, whole)
        per_epoch = ceil(whole / collected) * ceil(collected / train.batch_size) * objective.reuse
    return Ahead(
        objective, units, number, whole, min(context, longest + (objective.max_tokens if samples else 0)),
        None if samples else round(sum(unit.num_tokens for unit in units) * number / len(chosen)), per_epoch, whose,
    )  # fmt: skip


def _tokenizer(source: str, config: Any, kind: str) -> tuple[Any, str]:
    """(the base's tokenizer, "own"); mini's, "mini", for a model that is only known by its configuration."""
    from tunesmith.model import embedded, kinds
    from tunesmith.model.load import load, made_as, read_tokenizer

    if source in embedded.CONFIGS:
        return load(source, kind=made_as(source)).tokenizer, "own"
    folder = embedded.folder(source) if source in embedded.NAMES else Path(source)
    own = any((folder / name).is_file() for name in ("tokenizer.json", "tokenizer_config.json"))
    made = read_tokenizer(folder if own else embedded.folder("mini"))
    kinds.set_up_tokenizer(made, SimpleNamespace(config=config), kind)  # type: ignore[arg-type]
    return made, "own" if own else "mini"
