"""What a cell is given: its seed, its folder, training that goes on where it was cut off, and how models are measured."""

import hashlib
import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass
class Context:
    """One cell of one seed. `smoke` = the one-layer model, a few rows, two steps: does it run at all?"""

    cell: str
    seed: int
    model: str
    out: Path
    smoke: bool = False
    facts: dict[str, Any] = field(default_factory=dict)
    """what was trained with which settings, for the results"""
    starts: dict[str, str] = field(default_factory=dict)
    """the base's weights and what other cells' runs that this one uses were trained with: where one changes, all is made anew"""

    def folder(self, cell: str = "") -> Path:
        """Where the runs of a cell lie: this one's, or another's of the same seed."""
        return self.out / f"{cell or self.cell}-{self.seed}"

    def run_of(self, cell: str, name: str = "run") -> str:
        """A finished run of another cell; that cell must come before."""
        path = self.folder(cell) / name
        if not path.is_dir():
            raise SystemExit(f"{self.cell} needs {cell}, which has not run: add its part, or run everything.")
        self.starts[f"{cell}/{name}"] = digest(path.with_suffix(".json").read_text(encoding="utf-8"))
        return str(path)

    def rows(self, number: int) -> int:
        """How many rows of a set are used: the number, or a few when smoking."""
        return min(number, 24) if self.smoke else number

    def train(self, name: str = "run", **keys: Any) -> str:
        """Train by the public API into this cell's folder. Returns the run.

        A finished run is kept and a broken one resumed, unless it was trained with other settings, rows or starts: it is removed.
        """
        import tunesmith

        path = self.folder() / name
        settings = {"model": self.model, "seed": self.seed, "data.seed": 0, **keys}
        if self.smoke:
            settings.update({"train.steps": 2, "train.batch_size": 4, "train.eval_every": 2, "data.dev": 4})
            settings.pop("train.epochs", None)
        noted, wanted = path.with_suffix(".json"), json.dumps([settings, self.starts], sort_keys=True, default=str)
        resumes = path.exists() and noted.exists() and noted.read_text(encoding="utf-8") == wanted
        resumes = resumes and any((path / "checkpoints").glob("*"))  # not killed before the first one
        if path.exists() and not resumes:
            shutil.rmtree(path)
        noted.parent.mkdir(parents=True, exist_ok=True)
        noted.write_text(wanted, encoding="utf-8")
        given = {"resume": str(path)} if resumes else {"out": str(path), **settings}
        done = tunesmith.train(quiet=True, **given)
        if done["status"] != "finished":  # by Ctrl-C or SIGTERM: half a training has no figures
            raise SystemExit(f"{path} was {done['status']} before its end; the same command goes on with it.")
        memory = path / "memory.json"  # a method without a loop writes none
        self.facts[name] = {
            "settings": {key: value for key, value in settings.items() if not key.startswith("data.")},
            "chosen": {key: value for key, value in done.get("chosen", {}).items() if key in ("lr", "steps", "epochs")},
            "seconds": done["seconds"], "tokens": done.get("tokens"), "best_dev_loss": done.get("best_dev_loss"),
            "memory": json.loads(memory.read_text(encoding="utf-8")) if memory.exists() else {},
        }  # fmt: skip
        return str(path)

    def open(self, name: str = "") -> Any:
        """A model ready to answer: a run with its adapter merged, or the base."""
        import tunesmith

        return tunesmith.load(name or self.model, merge=True)

    def test_rows(self, run: str) -> list[dict[str, Any]]:
        """The test rows of a run as the data room made them; reading them is counted."""
        from tunesmith.core.runs import RunFolder
        from tunesmith.data.rows import RowFile

        folder = RunFolder.open(run)
        folder.count_test_read(by=f"benchmark {self.cell}")
        return list(RowFile(folder.file("data/test.jsonl")))


def digest(text: str) -> str:
    """A short name for a text: the same for the same one."""
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def write_rows(path: Path, rows: Sequence[dict[str, Any]]) -> str:
    """A JSONL file named by its content too (bank-test-1a2b3c4d.jsonl): other rows never stand under an old name. Its path."""
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    path = path.with_stem(f"{path.stem}-{digest(text)}")
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(f".{os.getpid()}.part")  # another cell may write the same file now
        part.write_text(text, encoding="utf-8")
        part.replace(path)
    return str(path)


def spread(rows: Sequence[Any], number: int) -> list[Any]:
    """`number` of the rows, evenly over all: of a file sorted by its sources the first ones are no fair sample."""
    number = min(number, len(rows))
    return [rows[place * len(rows) // number] for place in range(number)]
