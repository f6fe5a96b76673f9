"""Masked pre-training: some tokens of a text are hidden, and the encoder guesses them from both sides.

Rows are texts. Of each piece 15 % of the tokens are chosen; of those 80 % are shown as the mask token, 10 % as a random one,
10 % as they are (Devlin et al. 2018, arXiv 1810.04805, section 3.1), without next-sentence prediction (Liu et al. 2019, arXiv
1907.11692). Use it to make an encoder, or to continue one on a field's own texts, before classify or embed.

Formula: loss = -sum over the chosen tokens of log p(token | the text as shown) / their number.

마스크 사전 학습: 글의 토큰 일부를 가리고, 인코더가 양쪽 문맥으로 그 토큰을 맞힙니다. 토큰의 15 %를 골라 80 %는 마스크로, 10 %는
아무 토큰으로, 10 %는 그대로 보여 줍니다(BERT). classify나 embed에 앞서 인코더를 만들거나 그 분야의 글로 더 배우게 할 때 씁니다.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from tunesmith.core.errors import ModelError, SettingError
from tunesmith.objectives._contract import Loss
from tunesmith.text.example import Unit


@dataclass(frozen=True)
class Masked:
    """Cross-entropy of the hidden tokens, averaged over all of them in a step."""

    shape: ClassVar[str] = "text"
    kind: ClassVar[str] = "masked"
    weighted: ClassVar[bool] = True
    too_long: ClassVar[tuple[str, ...]] = ("split",)  # a text longer than the context is read in pieces
    per: ClassVar[Mapping[str, str]] = {"hidden": "tokens"}
    figures: ClassVar[Mapping[str, str]] = {
        "loss": "mean cross-entropy of the hidden tokens, in nats\n\n가린 토큰의 평균 교차 엔트로피(냇)",
        "accuracy": "share of hidden tokens that got a probability above one half\n\n"
        "확률이 절반을 넘은 가린 토큰의 비율",
    }

    share: float = 0.15
    """Share of a text's tokens that are to be guessed.

    글의 토큰 가운데 맞혀야 할 비율입니다."""
    masked: float = 0.8
    """Of those, the share shown as the mask token.

    그 가운데 마스크 토큰으로 보이는 비율입니다."""
    random: float = 0.1
    """Of those, the share shown as a random token; what is left is shown as it is.

    그 가운데 아무 토큰으로 바뀌는 비율입니다. 나머지는 그대로 보입니다."""
    copies: int = 1
    """How often each text is taken, hidden differently each time (BERT took 10).

    글마다 서로 다르게 가린 사본을 몇 벌 만들지 정합니다(BERT는 10벌)."""

    def __post_init__(self) -> None:
        if not 0 < self.share < 1:
            raise SettingError(f"share is {self.share}.", wanted="Between 0 and 1.")
        if min(self.masked, self.random) < 0 or self.masked + self.random > 1:
            raise SettingError(f"masked + random is {self.masked + self.random:g}.", wanted="At most 1, none below 0.")
        if self.copies < 1:
            raise SettingError(f"copies is {self.copies}.", wanted="At least 1.")

    def units(self, row: Mapping[str, Any], text: Any, draw: np.random.Generator) -> list[Unit]:
        """One Unit for each piece of the text and copy; column `shown` holds what the network sees."""
        tokenizer = text.tokenizer
        if tokenizer.mask is None:
            raise ModelError("this tokenizer has no mask token", wanted="mask_token in tokenizer_config.json.")
        units = []
        before, after = len(tokenizer.prefix_ids), len(tokenizer.suffix_ids)
        for piece in text.whole_pieces(row["text"]):
            places = np.arange(max(before, 1), len(piece) - after)  # the first token of all is never guessed
            if not len(places):
                continue
            for _ in range(self.copies):
                chosen = np.sort(draw.choice(places, size=max(1, round(self.share * len(places))), replace=False))
                shown, weights = piece.ids.copy(), np.zeros(len(piece), dtype=np.float32)
                fate = draw.random(len(chosen))
                shown[chosen[fate < self.masked]] = tokenizer.mask
                strange = chosen[(fate >= self.masked) & (fate < self.masked + self.random)]
                shown[strange] = draw.choice(_plain_ids(tokenizer), size=len(strange))
                weights[chosen] = float(row.get("weight", 1.0))
                example = replace(piece, weights=weights, columns={**piece.columns, "shown": shown})
                units.append(Unit((example,), origin=row.get("origin", "")))
        return units

    def loss(self, policy: Any, batch: Any, helpers: Any) -> Loss:
        """Sum of weight x -log p over the hidden tokens."""
        total, logp = policy.nll(batch)
        weight = batch.weight.sum()
        above = ((logp > -0.6931472) * batch.weight).sum()
        return Loss({"hidden": total}, {"loss": (total.detach(), weight), "accuracy": (above, weight)}, logp)


def _plain_ids(tokenizer: Any) -> np.ndarray:
    """The ids of all tokens that are no control tokens."""
    ids = np.arange(tokenizer.vocab_size)
    return ids[~np.isin(ids, list(tokenizer.control_tokens.values()))]
