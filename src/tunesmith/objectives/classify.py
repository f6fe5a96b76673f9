"""Classification: a head on the model's body gives each label a score; the body learns with it.

Rows are texts, or pairs of texts, with a label (problem: single), a list of labels (multi) or a number (regression). The head
reads the last token of a decoder, the first of an encoder, as transformers' ...ForSequenceClassification does (Devlin et al.
2018, arXiv 1810.04805, section 4.1). Use it when the answer is one of few names: faster and surer than to generate the name.

Formula: single: -log softmax(W h)_label; multi: mean over labels of -log sigmoid((2 y - 1)(W h)_label); regression: (W
h - y)^2. Each summed over the texts and divided by their weight; h is the state that the head reads.

분류: 모델 몸통 위의 헤드가 라벨마다 점수를 매기고, 몸통도 함께 배웁니다. 글(또는 글 두 개)에 라벨 하나(single), 여러 개(multi),
또는 수(regression)가 붙은 자료를 씁니다. 디코더는 마지막 토큰, 인코더는 첫 토큰의 상태를 읽습니다. 답이 몇 개의 이름 가운데
하나라면 이름을 생성하게 하는 것보다 빠르고 확실합니다.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch.nn import functional as F

from tunesmith.core.errors import DataError, SettingError
from tunesmith.core.names import nearest
from tunesmith.objectives._contract import Loss
from tunesmith.text.example import Unit, weighed

MOST_LABELS = 1000


@dataclass(frozen=True)
class Classify:
    """Cross-entropy of the label, averaged over the texts of a step; for several labels the mean over them, for numbers the square."""

    shape: ClassVar[str] = "text+label"
    kind: ClassVar[str] = "classify"
    # each text has its weight on one token, where its score is read
    weighted: ClassVar[bool] = True
    per: ClassVar[Mapping[str, str]] = {"label": "tokens"}
    figures: ClassVar[Mapping[str, str]] = {
        "loss": "mean loss of a text: cross-entropy in nats (of several labels, the mean over them), or squared error\n\n"
        "텍스트의 평균 손실: 교차 엔트로피(냇, 레이블이 여럿이면 그 평균) 또는 제곱 오차",
        "accuracy": "share of texts whose likeliest label is right; with several labels, share of right decisions\n\n"
        "가장 그럴듯한 레이블이 맞은 텍스트의 비율. 레이블이 여럿이면 맞은 판단의 비율",
        "error": "mean distance between the number given and the right one\n\n내놓은 수와 정답의 평균 거리",
    }

    problem: Literal["single", "multi", "regression"] = "single"
    """single = each text has one label; multi = any number of them; regression = a number.

    single은 글마다 라벨 하나, multi는 여러 개, regression은 수입니다."""
    labels: tuple[str, ...] = ()
    """Names of the labels, in the order of the scores. Empty takes those of the training rows, sorted.

    라벨 이름을 점수의 순서대로 적습니다. 비우면 훈련 자료에 있는 라벨을 정렬해 씁니다."""
    smoothing: float = 0.0
    """Share of the target spread over all labels (label smoothing), for problem: single.

    목표 확률 가운데 모든 라벨에 고르게 나눠 줄 몫입니다(라벨 스무딩). single에만 씁니다."""

    def __post_init__(self) -> None:
        if not 0 <= self.smoothing < 1:
            raise SettingError(f"smoothing is {self.smoothing}.", wanted="From 0 to less than 1.")
        if self.smoothing and self.problem != "single":
            raise SettingError("smoothing is for problem: single.", fix="Leave it out.")
        if self.problem == "regression" and len(self.labels) > 1:
            raise SettingError("regression gives one number.", fix="Leave labels out.")

    def learn_labels(self, rows: Iterable[Mapping[str, Any]]) -> "Classify":
        """The same with `labels` as the training rows name them, sorted (numbers by size); given ones stay."""
        if self.labels:
            return self
        if self.problem == "regression":
            return replace(self, labels=("number",))
        found: set[str] = set()
        for row in rows:
            found.update(self._names(row))
            if len(found) > MOST_LABELS:
                raise DataError(
                    f"the rows have more than {MOST_LABELS:,} different labels, such as {', '.join(sorted(found)[:3])}",
                    wanted="Few names that come again. For numbers: problem=regression.",
                    fix="Say which column is the label:  data.columns.label=COLUMN",
                )
        if len(found) < 2:
            raise DataError(
                f"the training rows have only the label {next(iter(found), None)!r}",
                wanted="At least two different labels.",
            )
        return replace(self, labels=tuple(sorted(found, key=_by_size)))

    def network(self, rows: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
        """What the network has to be: a score for each label."""
        return {"labels": self.learn_labels(rows).labels, "problem": self.problem}

    def units(self, row: Mapping[str, Any], text: Any, draw: np.random.Generator) -> list[Unit]:
        """One Unit: the text, or the pair joined by the model's separator, with its label as columns."""
        columns = self._columns(row)
        made = []
        for example in text.whole(row["text"], row.get("text2")):
            made.append(replace(weighed(example, row), columns={**example.columns, **columns}))
        return [Unit((example,), origin=row.get("origin", "")) for example in made]

    def loss(self, policy: Any, batch: Any, helpers: Any) -> Loss:
        """Sum over the texts of weight x the loss of their label."""
        scores = policy.scores(batch)
        weight = batch.per_example(batch.weight)
        columns = {name: value.to(scores.dtype) for name, value in batch.columns.items() if name.startswith("label")}
        if self.problem == "single":
            each = F.cross_entropy(scores, columns["label"].long(), reduction="none", label_smoothing=self.smoothing)
            right = (scores.argmax(1) == columns["label"].long()).to(weight.dtype)
        elif self.problem == "multi":
            wanted = torch.stack([columns[f"label_{number}"] for number in range(len(self.labels))], dim=1)
            each = F.binary_cross_entropy_with_logits(scores, wanted, reduction="none").mean(1)
            right = ((scores > 0) == (wanted > 0.5)).to(weight.dtype).mean(1)
        else:
            each = (scores[:, 0] - columns["label"]) ** 2
            right = (scores[:, 0] - columns["label"]).abs()
        figure = "error" if self.problem == "regression" else "accuracy"
        total, count = (each * weight).sum(), weight.sum()
        stats = {"loss": (total.detach(), count), figure: ((right * weight).sum().detach(), count)}
        return Loss({"label": total}, stats, -each.detach().index_select(0, batch.example))

    def _names(self, row: Mapping[str, Any]) -> list[str]:
        """The labels of a row as names."""
        label = row.get("label")
        several = isinstance(label, (list, tuple))
        if label is None or (several and self.problem != "multi"):
            found = "no label" if label is None else "a list of labels"
            fix = "" if label is None else "For several labels a text: problem=multi."
            raise DataError(f"{row.get('origin', 'a row')} has {found}.", wanted="One label.", fix=fix)
        return [str(one) for one in label] if several else [str(label)]

    def _columns(self, row: Mapping[str, Any]) -> dict[str, float]:
        if self.problem == "regression":
            try:
                value = float(row.get("label"))  # type: ignore[arg-type]
            except (TypeError, ValueError):
                value = float("nan")
            if not np.isfinite(value):
                raise DataError(f"its label is {row.get('label')!r}, no number.", wanted="A number.")
            return {"label": value}
        places = {label: number for number, label in enumerate(self.labels)}
        names = self._names(row)
        for name in names:
            if name not in places:
                close = nearest(name, places)
                raise DataError(
                    f"its label {name!r} is none of the {len(places)} that are learned",
                    wanted=f"Nearest: {', '.join(close)}." if close else "",
                    fix="A label needs training rows of its own; or name all labels: method={classify: {labels: [...]}}",
                )
        if self.problem == "single":
            return {"label": places[names[0]]}
        return {f"label_{number}": float(label in names) for label, number in places.items()}


def _by_size(label: str) -> tuple[int, float, str]:
    """Numbers by their size, before words by their letters."""
    try:
        return 0, float(label), label
    except ValueError:
        return 1, 0.0, label
