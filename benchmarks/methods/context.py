"""What a cell is given: its seed, its folder, training that goes on where it was cut off, and how models are measured."""

import json
import shutil
import time
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

    def folder(self, cell: str = "") -> Path:
        """Where the runs of a cell lie: this one's, or another's of the same seed."""
        return self.out / f"{cell or self.cell}-{self.seed}"

    def run_of(self, cell: str, name: str = "run") -> str:
        """A finished run of another cell; that cell must come before."""
        path = self.folder(cell) / name
        if not path.is_dir():
            raise SystemExit(f"{self.cell} needs {cell}, which has not run: add its part, or run everything.")
        return str(path)

    def rows(self, number: int) -> int:
        """How many rows of a set are used: the number, or a few when smoking."""
        return min(number, 24) if self.smoke else number

    def train(self, name: str = "run", **keys: Any) -> str:
        """Train by the public API into this cell's folder; finished runs are kept, broken ones resumed. Returns the run."""
        import tunesmith

        path = self.folder() / name
        settings = {"model": self.model, "seed": self.seed, "data.seed": 0, **keys}
        if self.smoke:
            settings.update({"train.steps": 2, "train.batch_size": 4, "train.eval_every": 2, "data.dev": 4})
            settings.pop("train.epochs", None)
        began = time.perf_counter()
        if not path.exists():
            done = tunesmith.train(out=str(path), quiet=True, **settings)
        elif (path / "checkpoints").is_dir() and any((path / "checkpoints").iterdir()):
            done = tunesmith.train(resume=str(path), quiet=True)
        else:  # killed before the first checkpoint
            shutil.rmtree(path)
            done = tunesmith.train(out=str(path), quiet=True, **settings)
        seconds = max(done.get("seconds", 0.0), time.perf_counter() - began)
        self.facts[name] = {
            "settings": {key: value for key, value in settings.items() if not key.startswith("data.")},
            "chosen": {key: value for key, value in done.get("chosen", {}).items() if key in ("lr", "steps", "epochs")},
            "seconds": round(seconds, 1), "tokens": done.get("tokens"), "best_dev_loss": done.get("best_dev_loss"),
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


def write_rows(path: Path, rows: Sequence[dict[str, Any]]) -> str:
    """A JSONL file, written once; its path."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        part.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
        part.replace(path)
    return str(path)
