"""Distillation with soft labels: learn the teacher's whole distribution at every token of the answers.

Rows are conversations, best written by the teacher itself. At each token of an answer the student is pulled to what the
teacher would have said there, all tokens weighed (Hinton et al. 2015, arXiv 1503.02531; divergences: Agarwal et al. 2024, arXiv
2306.13649). The teacher runs beside the student (`teacher: RUN`), or its likeliest tokens are stored in the rows (`with_top`).
Teacher and student must have one tokenizer; with different ones let the teacher write the answers and use sft. For answers
the student itself gives, see gkd. Use it to put what a large model does into a small one.

Formula: loss = alpha T^2 D(softmax(teacher / T), softmax(student / T)) + (1 - alpha) (-log p(token)), summed over the
answers' tokens and divided by their weight; D is KL(teacher || student), KL(student || teacher) or beta KL(teacher ||
m) + (1 - beta) KL(student || m) with the mixture m.

증류: 답의 토큰마다 교사 모델의 확률 분포 전체를 배웁니다. 교사를 옆에서 함께 돌리거나, 행에 저장해 둔 상위 토큰 확률을 씁니다. 두 모델의
토크나이저가 같아야 합니다. 다르면 교사가 쓴 답으로 sft를 하세요.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch

from tunesmith.core.errors import DataError, SettingError
from tunesmith.objectives._contract import Loss
from tunesmith.objectives._divergence import Kind, divergence, from_top
from tunesmith.objectives.sft import Sft
from tunesmith.text.example import Example, Unit

NO_TOKEN = -1e4  # log p of the head's rows that belong to no token: e to it is 0, and 0 times it is 0


@dataclass(frozen=True)
class Distill:
    """Divergence of the student's next-token distributions from the teacher's, averaged over the answers' tokens."""

    teacher: str | None = None
    """The teacher: a model or a run. Null = the rows bring its likeliest tokens.

    교사 모델이나 실행. null이면 행에 저장된 교사의 상위 토큰을 씁니다."""

    divergence: Kind = "forward"
    """forward: cover all the teacher says; reverse: keep to what it says most; jsd: between the two.

    forward는 교사가 말할 만한 것을 모두 덮고, reverse는 가장 그럴듯한 것에 집중하며, jsd는 그 사이입니다."""

    beta: float = 0.5
    """The teacher's share of the mixture that jsd measures from.

    jsd의 혼합 분포에서 교사의 몫."""

    temperature: float = 2.0
    """Both distributions are softened by it; the loss is multiplied by its square.

    두 분포를 부드럽게 하는 온도. 손실에는 그 제곱을 곱합니다."""

    alpha: float = 1.0
    """Share of the teacher's distribution in the loss; the rest is cross-entropy of the answers' tokens.

    손실에서 교사 분포의 몫. 나머지는 답 토큰의 교차 엔트로피입니다."""

    shape: ClassVar[str] = "chat"
    weighted: ClassVar[bool] = True
    per: ClassVar[Mapping[str, str]] = {"soft": "tokens", "hard": "tokens"}
    figures: ClassVar[Mapping[str, str]] = {
        "loss": "mean cross-entropy of the answers' tokens, in nats; of dev rows the training loss, the teacher's part with it\n\n"
        "답 토큰의 평균 교차 엔트로피(냇). 개발 행에서는 교사 몫까지 든 학습 손실",
        "divergence": "mean divergence from the teacher at the temperature, times its square, in nats\n\n"
        "그 온도에서 교사와의 평균 발산에 온도의 제곱을 곱한 값(냇)",
        "agreement": "share of the answers' tokens at which student and teacher hold the same token likeliest\n\n"
        "학생과 교사가 같은 토큰을 가장 그럴듯하게 본 답 토큰의 비율",
    }

    def __post_init__(self) -> None:
        check_soft(self.temperature, self.beta)
        if not 0 <= self.alpha <= 1:
            raise SettingError(f"alpha is {self.alpha}.", wanted="Between 0 and 1.")

    @property
    def helpers(self) -> tuple[str, ...]:
        """The teacher, unless its tokens are in the rows."""
        return ("teacher",) if self.teacher else ()

    def units(self, row: Mapping[str, Any], text: Any, draw: np.random.Generator) -> list[Unit]:
        """As sft; where no teacher is named, with the tokens that the row stores."""
        units = Sft().units(row, text, draw)
        return units if self.teacher else _with_stored(units, row, text.tokenizer.vocab_size)

    def loss(self, policy: Any, batch: Any, helpers: Any) -> Loss:
        """alpha x divergence + (1 - alpha) x cross-entropy over the trained-on tokens of `batch`."""
        soft, logp, same = self._read(policy, batch, helpers)
        weight = batch.weight
        terms = {"soft": self.alpha * (soft * weight).sum()}
        if self.alpha < 1:
            terms["hard"] = (1 - self.alpha) * -(logp * weight).sum()
        return Loss(terms, soft_stats(soft, logp, same, weight), logp.detach())

    def _read(self, policy: Any, batch: Any, helpers: Any) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        settings: dict[str, Any] = {"kind": self.divergence, "beta": self.beta, "temperature": self.temperature}
        settings["hard"] = self.alpha < 1
        if self.teacher:
            return against(policy, batch, helpers.teacher, **settings)
        columns = batch.columns
        k = sum(name.startswith("teacher_id_") for name in columns)
        ids = torch.stack([columns[f"teacher_id_{i}"].long() for i in range(k)], dim=1)
        logps = torch.stack([columns[f"teacher_logp_{i}"] for i in range(k)], dim=1)

        def compare(
            logits: torch.Tensor, target: torch.Tensor, ids: torch.Tensor, logps: torch.Tensor, vocab: torch.Tensor
        ) -> torch.Tensor:
            nobody = torch.arange(logits.shape[-1], device=logits.device) >= vocab[:, None]
            ours = logits.masked_fill(nobody, NO_TOKEN)
            theirs = from_top(ids, logps.to(ours.dtype), vocab[:, None], logits.shape[-1]).masked_fill(nobody, NO_TOKEN)
            return _compared(ours, theirs, target, **settings)

        vocab = columns["teacher_vocab"][batch.example]
        found = policy.over_logits(batch, compare, batch.target, ids, logps, vocab)
        return found[:, 0], found[:, 1], found[:, 2].detach()


def against(
    policy: Any, batch: Any, teacher: Any, *, kind: Kind, beta: float, temperature: float, hard: bool = False
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Against a live teacher, per trained-on token: (divergence, the student's log p of it, whether both like one token best).

    The teacher's hidden states are kept, its logits made beside the student's, a chunk of tokens at a time.
    hard  whether log p has a gradient, too
    """

    def compare(logits: torch.Tensor, target: torch.Tensor, hidden: torch.Tensor) -> torch.Tensor:
        ours = logits[:, : teacher.vocab]
        theirs = teacher.logits(hidden).to(ours.dtype)
        return _compared(ours, theirs, target, kind=kind, beta=beta, temperature=temperature, hard=hard)

    found = policy.over_logits(batch, compare, batch.target, teacher.predicting(batch, policy.front))
    return found[:, 0], found[:, 1], found[:, 2].detach()


def _compared(
    ours: torch.Tensor, theirs: torch.Tensor, target: torch.Tensor, *, hard: bool, **settings: Any
) -> torch.Tensor:
    soft = divergence(ours, theirs, **settings)
    with torch.set_grad_enabled(hard and torch.is_grad_enabled()):
        logp = ours.gather(1, target[:, None])[:, 0] - ours.logsumexp(-1)
    same = (ours.argmax(-1) == theirs.argmax(-1)).to(ours.dtype)
    return torch.stack([soft, logp, same], dim=1)


def soft_stats(
    soft: torch.Tensor, logp: torch.Tensor, same: torch.Tensor, weight: torch.Tensor
) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """The figures of a distilled batch."""
    count = weight.sum()
    return {
        "loss": (-(logp.detach() * weight).sum(), count),
        "divergence": ((soft.detach() * weight).sum(), count),
        "agreement": ((same * weight).sum(), count),
    }


def check_soft(temperature: float, beta: float) -> None:
    """Refuse settings that no divergence is made of."""
    if temperature <= 0:
        raise SettingError(
            f"temperature is {temperature}.", wanted="More than 0; 1 leaves the distributions as they are."
        )
    if not 0 < beta < 1:
        raise SettingError(
            f"beta is {beta}.",
            wanted="Between 0 and 1, both excluded.",
            fix="The ends have names: divergence forward or reverse.",
        )


# -- the teacher's tokens in the rows -------------------------------------------------------------------------------


def with_top(rows: Iterable[Mapping[str, Any]], text: Any, teacher: Any, k: int = 16) -> Iterator[dict[str, Any]]:
    """The rows with the teacher's k likeliest tokens at every trained-on token, under columns.teacher_top.

    teacher  of model/teacher.py. A row that is too long for `text` under its policy comes without it being asked: [] Units.
    """
    for row in rows:
        units = Sft().units(row, text, np.random.default_rng(0))
        stored: dict[str, Any] = {"model": teacher.name, "vocab": teacher.vocab, "tokens": [], "ids": [], "logps": []}
        if units:
            batch = teacher.policy.batch(units)
            ids, logps = teacher.top(batch, k)
            stored["tokens"] = batch.target.tolist()
            stored["ids"] = ids.tolist()
            stored["logps"] = [[round(value, 5) for value in values] for values in logps.tolist()]
        yield {**row, "columns": {**row.get("columns", {}), "teacher_top": stored}}


def _with_stored(units: list[Unit], row: Mapping[str, Any], vocab: int) -> list[Unit]:
    """Put the stored tokens beside the tokens they were stored for."""
    stored = row.get("columns", {}).get("teacher_top")
    if stored is None:
        raise DataError(
            "The row brings no distributions of a teacher.",
            wanted="columns.teacher_top, as tunesmith.objectives.distill.with_top writes it.",
            fix="Or name a teacher that runs beside: method.distill.teacher=RUN",
        )
    trained = [int(t) for unit in units for e in unit.examples for t in e.ids[e.weights != 0]]
    if stored["tokens"] != trained or stored["vocab"] != vocab:
        raise DataError(
            f"The teacher's distributions are those of {len(stored['tokens'])} other tokens (of {stored['vocab']:,} there are); "
            f"the answer has {len(trained)} (of {vocab:,}).",
            fix="They were stored with another tokenizer, template or length: store them again.",
        )
    ids, logps = np.asarray(stored["ids"], np.float32), np.asarray(stored["logps"], np.float32)
    out, at = [], 0
    for unit in units:
        examples = []
        for example in unit.examples:
            num = example.num_trained
            examples.append(_beside(example, ids[at : at + num], logps[at : at + num], vocab))
            at += num
        out.append(replace(unit, examples=tuple(examples)))
    return out


def _beside(example: Example, ids: np.ndarray, logps: np.ndarray, vocab: int) -> Example:
    columns: dict[str, Any] = {**example.columns, "teacher_vocab": vocab}
    for i in range(ids.shape[1]):
        for name, values in ((f"teacher_id_{i}", ids[:, i]), (f"teacher_logp_{i}", logps[:, i])):
            columns[name] = np.zeros(len(example), dtype=np.float32)
            columns[name][example.weights != 0] = values
    return replace(example, columns=columns)
