"""A small classifier over vectors as plain numbers: what scikit-learn fitted, kept and used without it, and without pickle.

fitted = Fitted.read(folder)           # features.json, features.safetensors
fitted.scores(vectors)                 # (texts, labels) probabilities
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tunesmith.core.errors import ModelError

NAME = "features"


@dataclass(frozen=True, eq=False)
class Fitted:
    """facts: head (logistic | knn | mlp), labels, and its few numbers; tensors: its arrays, float32."""

    facts: Mapping[str, Any]
    tensors: Mapping[str, np.ndarray]

    def scores(self, vectors: np.ndarray) -> np.ndarray:
        """Probabilities, float64 (texts, labels)."""
        rows = (np.asarray(vectors, dtype=np.float64) - self.tensors["mean"]) / self.tensors["spread"]
        if self.facts["head"] == "knn":
            return self._by_neighbours(rows)
        layers = int(self.facts["layers"])
        for number in range(layers):
            rows = rows @ self.tensors[f"weight_{number}"].astype(np.float64) + self.tensors[f"bias_{number}"]
            rows = np.maximum(rows, 0.0) if number < layers - 1 else rows
        rows = np.exp(rows - rows.max(axis=1, keepdims=True))
        return rows / rows.sum(axis=1, keepdims=True)

    def _by_neighbours(self, rows: np.ndarray) -> np.ndarray:
        """Share of each label among the nearest kept vectors by cosine."""
        kept, owner = self.tensors["vectors"].astype(np.float64), self.tensors["owner"].astype(np.int64)
        kept = kept / np.maximum(np.linalg.norm(kept, axis=1, keepdims=True), 1e-12)
        rows = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
        number = min(int(self.facts["neighbours"]), len(kept))
        votes = np.zeros((len(rows), len(self.facts["labels"])))
        for start in range(0, len(rows), 256):
            near = np.argsort(-(rows[start : start + 256] @ kept.T), axis=1, kind="stable")[:, :number]
            for place, owners in enumerate(owner[near], start=start):
                votes[place] = np.bincount(owners, minlength=votes.shape[1]) / number
        return votes

    def save(self, folder: Path) -> Path:
        """Write features.json and features.safetensors."""
        from safetensors.numpy import save_file

        folder.mkdir(parents=True, exist_ok=True)
        save_file(
            {name: np.ascontiguousarray(array) for name, array in self.tensors.items()}, folder / f"{NAME}.safetensors"
        )
        text = json.dumps({"format": 1, **self.facts}, ensure_ascii=False, indent=2)
        (folder / f"{NAME}.json").write_text(text + "\n", encoding="utf-8")
        return folder

    @staticmethod
    def read(folder: Path) -> "Fitted":
        """What `save` wrote. ModelError where it is not there or damaged."""
        from safetensors.numpy import load_file

        try:
            facts = json.loads((folder / f"{NAME}.json").read_text(encoding="utf-8"))
            return Fitted(facts, load_file(folder / f"{NAME}.safetensors"))
        except Exception as error:  # SafetensorError has no public base class
            raise ModelError(f"the classifier in {folder} cannot be read: {error}", fix="Train it again.") from error
