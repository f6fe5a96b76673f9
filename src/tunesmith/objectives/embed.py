"""Embeddings: texts that belong together get vectors that point the same way, others do not.

Rows are pairs of texts (question and answer, sentence and paraphrase) or groups of texts of one meaning. Contrastive: among all
texts of the step the right partner shall be the nearest (InfoNCE; van den Oord et al. 2018, arXiv 1807.03748; in-batch negatives:
Henderson et al. 2017, arXiv 1705.00652). Use it for search, clustering and finding outliers where ready vectors do not know your
field. A larger batch_size gives more negatives; pass_tokens never changes the result (Gao et al. 2021, arXiv 2101.06983).

Formula: loss = -log(exp(cos(a, b) / temperature) / sum over texts c of exp(cos(a, c) / temperature)), for a text a and
its partner b.

임베딩: 뜻이 같은 글은 벡터가 같은 쪽을, 다른 글은 다른 쪽을 보게 합니다. 글의 쌍(질문과 답, 문장과 바꿔 쓴 문장)이나 같은 뜻의
글 묶음으로 배우며, 한 단계의 모든 글 가운데 제 짝이 가장 가깝게 합니다(InfoNCE). 검색·군집·이상치 찾기에 씁니다. batch_size가
크면 오답이 많아져 더 잘 배웁니다. 나누어 계산해도(pass_tokens) 결과는 같습니다.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch

from tunesmith.core.errors import DataError, SettingError
from tunesmith.model.vectors import vectors
from tunesmith.objectives._contract import Loss
from tunesmith.text.example import Unit


class Left(list[Unit]):
    """No Units, and why in `dropped`: what the journal of dropped rows says."""

    def __init__(self, units: list[Unit], reason: str) -> None:
        super().__init__(units)
        self.dropped = (reason,)


_FAR = -1e9  # what a candidate that is no negative counts as


@dataclass(frozen=True)
class Embed:
    """Cross-entropy of finding a text's partner among all others of the step, averaged over its pairs, both ways."""

    shape: ClassVar[tuple[str, ...]] = ("pair", "group")
    kind: ClassVar[str] = "embed"
    per: ClassVar[Mapping[str, str]] = {"partner": "asked"}
    figures: ClassVar[Mapping[str, str]] = {
        "loss": "mean cross-entropy of finding the partner among the step's texts, in nats\n\n"
        "스텝의 텍스트 가운데 짝을 찾는 평균 교차 엔트로피(냇)",
        "accuracy": "share of texts whose partner is the nearest of the step's texts\n\n"
        "스텝의 텍스트 가운데 짝이 가장 가까운 텍스트의 비율",
        "apart": "mean cosine of partners minus mean cosine of strangers\n\n"
        "짝의 평균 코사인에서 남남의 평균 코사인을 뺀 값",
    }

    temperature: float = 0.05
    """What cosines are divided by: small values look at the hardest strangers most (Gao et al. 2021, arXiv 2104.08821: 0.05).

    코사인을 나누는 값입니다. 작을수록 가장 헷갈리는 글에 집중합니다."""
    both_ways: bool = True
    """Of a pair, the second text also has to find the first; False: only the first searches, as for questions and answers.

    쌍의 둘째 글도 첫째 글을 찾게 합니다. False면 첫째만 찾습니다(질문이 답을 찾을 때)."""
    pairs_of_group: int = 1
    """Pairs drawn from each group of texts.

    글 묶음마다 뽑는 쌍의 수입니다."""
    min_score: float = 0.5
    """Rows with a score (likeness from 0 to 1) below this are not learned from.

    점수(비슷한 정도, 0~1)가 이보다 낮은 쌍은 배우지 않습니다."""

    def __post_init__(self) -> None:
        if self.temperature <= 0:
            raise SettingError(f"temperature is {self.temperature}.", wanted="More than 0.")
        if self.pairs_of_group < 1:
            raise SettingError(f"pairs_of_group is {self.pairs_of_group}.", wanted="At least 1.")

    def units(self, row: Mapping[str, Any], text: Any, draw: np.random.Generator) -> list[Unit]:
        """One Unit for each pair: two Examples, and the row's negatives if it names some. Column `kin` says who belongs together."""
        origin = row.get("origin", "")
        if "texts" in row:
            texts = list(dict.fromkeys(row["texts"]))
            pairs: list[tuple[str, str, list[str]]] = []
            if len(texts) < 2:
                return Left([], "fewer than two different texts")
            for _ in range(self.pairs_of_group):
                one, two = draw.choice(len(texts), size=2, replace=False)
                pairs.append((texts[int(one)], texts[int(two)], []))
            kin = str(row["group"]) if row.get("group") is not None else "\n".join(sorted(texts))
        else:
            if row.get("score") is not None and float(row["score"]) < self.min_score:
                return Left([], f"score below {self.min_score:g}")
            pairs = [(row["text"], row["text2"], list(row.get("negatives") or []))]
            kin = row["text2"]
        return [unit for pair in pairs for unit in self._unit(*pair, kin, text, origin)]

    def _unit(self, one: str, two: str, others: list[str], kin: str, text: Any, origin: str) -> list[Unit]:
        examples = []
        for place, words in enumerate((one, two, *others)):
            made = text.whole(words)
            if not made:
                return Left([], made.dropped[0])
            if len(made[0]) < 2:
                raise DataError(
                    f"{origin}: the text {words!r} is one token, too short for a vector.", fix="Leave the row out."
                )
            related = _number(kin if place < 2 else words)
            asked = float(place == 0 or (place == 1 and self.both_ways))
            columns = {"kin_a": related[0], "kin_b": related[1], "asked": asked, "role": float(min(place, 2))}
            examples.append(replace(made[0], columns={**made[0].columns, **columns}))
        return [Unit(tuple(examples), origin=origin)]

    def shared(self, policy: Any, batch: Any, helpers: Any) -> dict[str, torch.Tensor]:
        """Before the step: the vector of every text of it, with what it says of itself."""
        return {"texts": self._rows(policy, batch)}

    def loss(self, policy: Any, batch: Any, helpers: Any) -> Loss:
        """The value is that of this pass's texts; the gradient also of what they are to all others, as strangers and partners."""
        own = self._rows(policy, batch)
        before = (getattr(helpers, "shared", None) or {}).get("texts")
        place = getattr(helpers, "place", None)
        if before is None or place is None or place.stop - place.start != len(own):
            whole, start = own, 0
        else:
            before = before.to(own.dtype)
            whole, start = torch.cat([before[: place.start], own, before[place.stop :]]), place.start
        each, near, apart = self._search(whole)
        mine = slice(start, start + len(own))
        value = each[mine].sum()
        if len(whole) > len(own):
            # others' losses move with our vectors too: their gradient is added here, their value where they are at home
            others = torch.cat([each[:start], each[start + len(own) :]]).sum()
            value = value + (others - others.detach())
        asked = own[:, 2].detach()
        count = asked.sum()
        stats = {
            "loss": (each[mine].sum().detach(), count),
            "accuracy": (near[mine].sum(), count),
            "apart": (apart[mine].sum(), count),
        }
        searches = torch.stack([each[mine].detach(), asked], dim=1)
        of_unit = searches.new_zeros(batch.num_units, 2).index_add(0, batch.unit, searches)
        return Loss({"partner": value}, stats, per_unit=of_unit[:, 0] / of_unit[:, 1])  # without a search 0 / 0, NaN

    def _rows(self, policy: Any, batch: Any) -> torch.Tensor:
        """(examples, 5 + dim): kin (two numbers), asked, the Unit's partner (offset), weight, and the vector of length 1."""
        states = torch.nn.functional.normalize(vectors(policy, batch), dim=1)
        columns = batch.columns
        role = columns["role"]
        partner = (role == 0).to(states.dtype) - (role == 1).to(
            states.dtype
        )  # the first's partner follows, the second's precedes
        weight = (batch.per_example(batch.weight) > 0).to(states.dtype)
        facts = [columns["kin_a"], columns["kin_b"], columns["asked"] * weight, partner, weight]
        return torch.cat([torch.stack([fact.to(states.dtype) for fact in facts], dim=1), states], dim=1)

    def _search(self, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """(loss, 1.0 where the partner is nearest, cosine above strangers') of each text, 0 for those that do not search."""
        kin, asked, partner, weight, states = (
            rows[:, :2].detach(),
            rows[:, 2].detach(),
            rows[:, 3],
            rows[:, 4],
            rows[:, 5:],
        )
        places = torch.arange(len(rows), device=rows.device)
        right = places + partner.detach().long()
        cosines = states @ states.T
        related = (kin[:, None] == kin[None]).all(-1) | (weight.detach()[None] == 0)
        strangers = ~related
        allowed = strangers.scatter(1, right[:, None], True)
        scores = torch.where(allowed, cosines / self.temperature, torch.full_like(cosines, _FAR))
        each = -torch.log_softmax(scores, dim=1).gather(1, right[:, None])[:, 0] * asked
        near = (scores.argmax(1) == right).to(rows.dtype) * asked
        among = strangers.to(rows.dtype)
        mean = (cosines * among).sum(1) / among.sum(1).clamp_min(1.0)
        apart = (cosines.gather(1, right[:, None])[:, 0] - mean) * asked
        return each, near.detach(), apart.detach()


def _number(words: str) -> tuple[float, float]:
    """A text as two whole numbers below 2^24, which float32 holds exactly."""
    digest = hashlib.sha256(words.encode()).digest()
    return float(int.from_bytes(digest[:3], "big")), float(int.from_bytes(digest[3:6], "big"))
