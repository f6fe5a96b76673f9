"""Features: the model reads every text once and stays as it is; a small classifier learns from the vectors it gives.

Rows are texts, or pairs, with a label. A vector is the mean of a text's last hidden states; a logistic regression, the nearest
neighbours or a small network (scikit-learn) learn labels from vectors (feature-based transfer; Devlin et al. 2018, arXiv
1810.04805, section 5.3). Seconds instead of minutes, no gradient, no change of the model: use it first with few rows, and as what tuning
has to beat.

Formula: v = mean over tokens of the last hidden states; logistic: minimise -sum log softmax(W v)_label + |W|^2 / (2 C).

특징 추출: 모델은 글을 한 번씩 읽기만 하고 바뀌지 않습니다. 나온 벡터로 작은 분류기(로지스틱 회귀, 최근접 이웃, 작은 신경망)를
학습합니다. 몇 초면 되고 기울기도 필요 없어, 자료가 적을 때 먼저 해 보고 미세 조정이 넘어야 할 기준으로 삼습니다.
"""

import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from tunesmith.core.errors import SettingError
from tunesmith.model.vectors import vectors
from tunesmith.objectives._fitted import Fitted
from tunesmith.objectives.classify import Classify
from tunesmith.text.example import Unit


@dataclass(frozen=True)
class Features:
    """Vectors extracted once, then a classifier of scikit-learn; its numbers are saved, not its objects."""

    shape: ClassVar[str] = "text+label"
    kind: ClassVar[str] = "embed"
    per: ClassVar[Mapping[str, str]] = {}
    figures: ClassVar[Mapping[str, str]] = {
        "accuracy": "share of texts whose likeliest label is right\n\n가장 그럴듯한 레이블이 맞은 텍스트의 비율",
        "majority": "share that the most frequent label alone would get right\n\n가장 잦은 레이블만 답해도 맞는 비율",
    }

    head: Literal["logistic", "knn", "mlp"] = "logistic"
    """What learns from the vectors: logistic regression, nearest neighbours by cosine, or one hidden layer.

    벡터에서 배우는 분류기: 로지스틱 회귀, 코사인 최근접 이웃, 은닉층 하나짜리 신경망."""
    strength: float = 1.0
    """Logistic: how freely it follows the rows; smaller holds its weights nearer to 0 (scikit-learn's C).

    로지스틱 회귀가 자료를 얼마나 자유롭게 따르는지입니다. 작을수록 가중치를 0에 가깝게 잡습니다(C)."""
    neighbours: int = 5
    """knn: how many neighbours vote.

    knn에서 투표할 이웃의 수입니다."""
    hidden: int = 64
    """mlp: units of the hidden layer.

    mlp 은닉층의 크기입니다."""
    labels: tuple[str, ...] = ()
    """Names of the labels. Empty takes those of the training rows, sorted.

    라벨 이름입니다. 비우면 훈련 자료에 있는 라벨을 정렬해 씁니다."""

    def __post_init__(self) -> None:
        if self.strength <= 0 or min(self.neighbours, self.hidden) < 1:
            raise SettingError(
                f"strength is {self.strength}, neighbours {self.neighbours}, hidden {self.hidden}.",
                wanted="strength above 0, the others at least 1.",
            )

    @property
    def weighted(self) -> bool:
        """Whether data.weight counts: the logistic regression alone can weigh rows."""
        return self.head == "logistic"

    def learn_labels(self, rows: Iterable[Mapping[str, Any]]) -> "Features":
        """The same with `labels` as the training rows name them."""
        return replace(self, labels=Classify(labels=self.labels).learn_labels(rows).labels)

    def units(self, row: Mapping[str, Any], text: Any, draw: np.random.Generator) -> list[Unit]:
        """One Unit: the text, its label's number as column `label`."""
        return Classify(labels=self.labels).units(row, text, draw)

    def extract(
        self, policy: Any, units: Sequence[Unit], *, folder: Path | None = None, pass_tokens: int = 8192
    ) -> np.ndarray:
        """float32 (units, dim), one vector a Unit; kept in `folder` under a hash of the weights and the ids, made only once."""
        import torch

        place = None if folder is None else folder / f"vectors-{_key(policy, units)}.npy"
        if place is not None and place.is_file():
            return np.load(place, allow_pickle=False)
        order = sorted(range(len(units)), key=lambda i: -units[i].num_tokens)
        rows: list[np.ndarray] = [np.zeros(0)] * len(units)
        training, start = policy.net.training, 0
        policy.net.eval()
        try:
            while start < len(order):
                chosen = order[start : start + max(1, pass_tokens // max(1, units[order[start]].num_tokens))]
                with torch.no_grad():
                    found = vectors(policy, policy.batch([units[i] for i in chosen])).float().cpu().numpy()
                for i, vector in zip(chosen, found):
                    rows[i] = vector
                start += len(chosen)
        finally:
            policy.net.train(training)
        whole = np.stack(rows).astype(np.float32)
        if place is not None:
            place.parent.mkdir(parents=True, exist_ok=True)
            part = place.with_suffix(f".{os.getpid()}.part.npy")  # runs side by side may write the same
            np.save(part, whole, allow_pickle=False)
            part.replace(place)
        return whole

    def fit(
        self, policy: Any, units: Sequence[Unit], *, folder: Path | None = None, seed: int = 0, pass_tokens: int = 8192
    ) -> Fitted:
        """Read all Units once and fit the classifier. No weight of the model changes."""
        rows = self.extract(policy, units, folder=folder, pass_tokens=pass_tokens)
        owner = np.array([int(unit.examples[0].columns["label"]) for unit in units])
        weights = np.array([float(unit.examples[0].weights.sum()) for unit in units])
        mean, spread = rows.mean(axis=0), rows.std(axis=0)
        spread = np.where(spread > 1e-6, spread, 1.0).astype(np.float32)
        scaled = (rows.astype(np.float64) - mean) / spread
        kept: dict[str, np.ndarray] = {"mean": mean, "spread": spread}
        facts: dict[str, Any] = {"head": self.head, "labels": list(self.labels)}
        if self.head == "knn":
            kept |= {"vectors": scaled.astype(np.float32), "owner": owner.astype(np.int32)}
            return Fitted({**facts, "neighbours": self.neighbours}, kept)
        layers = (
            self._logistic(scaled, owner, weights) if self.head == "logistic" else self._network(scaled, owner, seed)
        )
        for number, (weight, bias) in enumerate(layers):
            kept |= {f"weight_{number}": weight.astype(np.float32), f"bias_{number}": bias.astype(np.float32)}
        return Fitted({**facts, "layers": len(layers)}, kept)

    def figures_of(
        self, fitted: Fitted, policy: Any, units: Sequence[Unit], *, folder: Path | None = None
    ) -> dict[str, float]:
        """Accuracy on Units, and what always naming their most frequent label would get."""
        owner = np.array([int(unit.examples[0].columns["label"]) for unit in units])
        said = fitted.scores(self.extract(policy, units, folder=folder)).argmax(axis=1)
        return {"accuracy": float((said == owner).mean()), "majority": float(np.bincount(owner).max() / len(owner))}

    def _logistic(
        self, rows: np.ndarray, owner: np.ndarray, weights: np.ndarray
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        from sklearn.linear_model import LogisticRegression

        made = LogisticRegression(C=self.strength, max_iter=2000).fit(rows, owner, sample_weight=weights)
        if len(made.classes_) == 2:  # one column for two labels: the first one's score is 0
            weight, bias = made.coef_[0], made.intercept_[0]
            columns = np.stack([np.zeros_like(weight), weight], axis=1), np.array([0.0, bias])
        else:
            columns = made.coef_.T, made.intercept_
        return [self._all_labels(*columns, made.classes_)]

    def _network(self, rows: np.ndarray, owner: np.ndarray, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
        from sklearn.neural_network import MLPClassifier

        made = MLPClassifier((self.hidden,), max_iter=500, random_state=seed).fit(rows, owner)
        weight, bias = made.coefs_[1], made.intercepts_[1]
        if len(made.classes_) == 2:
            weight, bias = np.concatenate([np.zeros_like(weight), weight], axis=1), np.array([0.0, bias[0]])
        return [(made.coefs_[0], made.intercepts_[0]), self._all_labels(weight, bias, made.classes_)]

    def _all_labels(self, weight: np.ndarray, bias: np.ndarray, found: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Columns for every label; one that no row has is never chosen."""
        whole, offset = np.zeros((len(weight), len(self.labels))), np.full(len(self.labels), -1e9)
        whole[:, found], offset[found] = weight, bias
        return whole, offset


def _key(policy: Any, units: Sequence[Unit]) -> str:
    """A hash of the network's weights and of everything that is read."""
    digest = hashlib.blake2b(digest_size=12)
    for name, value in policy.net.state_dict().items():
        digest.update(name.encode() + value.detach().cpu().contiguous().float().numpy().tobytes())
    for unit in units:
        for example in unit.examples:
            digest.update(np.asarray(example.ids, dtype=np.int32).tobytes())
            digest.update(np.asarray(example.columns.get("types", ()), dtype=np.int32).tobytes() + b"|")
    return digest.hexdigest()
