"""What packing changed in what a model says, on the same tokens: perplexity before and after, KL, logits.

    found = compare(model.policy, packed.policy, units)
    found.perplexity_before, found.perplexity_after, found.kl

KL(before || after) = sum over the vocabulary of p (log p - log q), in nats a token, 0 where nothing changed. It sees every probability,
so it tells small damage from luck sooner than perplexity or a score does. Both networks are asked pass by pass; logits are
made in chunks and never kept.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from tunesmith.core.errors import DataError, ModelError
from tunesmith.stats.intervals import bca
from tunesmith.step.step import passes_of
from tunesmith.text.example import Unit

FEW = 8  # texts; fewer give no interval
_AT_ONCE = 1 << 22  # logits in float64 held at once, of each model


@dataclass(frozen=True)
class Change:
    """Figures over `tokens` predicted tokens of `texts` texts. Intervals are 95 %, over texts; None with fewer than 8.

    perplexity_ratio  after / before;  kl  mean nats a token, and its 99th percentile and largest
    same_choice       share of tokens whose likeliest next token is the same
    largest_logit_change   largest absolute difference of any logit
    """

    tokens: int
    texts: int
    perplexity_before: float
    perplexity_after: float
    perplexity_ratio: float
    ratio_low: float | None
    ratio_high: float | None
    kl: float
    kl_low: float | None
    kl_high: float | None
    kl_99: float
    kl_most: float
    same_choice: float
    largest_logit_change: float

    def as_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


@torch.no_grad()
def compare(before: Any, after: Any, units: Sequence[Unit], *, pass_tokens: int = 2048) -> Change:
    """Ask two policies of one architecture the same Units; tokens of weight 0 (prompts) are read and not counted."""
    sums = np.zeros((len(units), 4))  # tokens, nats before, nats after, KL of each text
    each: list[np.ndarray] = []
    same, largest = 0, 0.0
    for chosen in passes_of(before, units, pass_tokens):
        some = [units[i] for i in chosen]
        one, two = before.batch(some), after.batch(some)
        states = before.predicting(one), after.predicting(two)
        owner = torch.tensor(chosen)[one.unit[one.example].cpu()].numpy()
        for part in range(0, len(owner), max(1, _AT_ONCE // int(before.config.vocab_size))):
            rows = slice(part, part + max(1, _AT_ONCE // int(before.config.vocab_size)))
            logits = [p.logits(s[rows]).double() for p, s in zip((before, after), states)]
            largest = max(largest, float((logits[0] - logits[1]).abs().max()))
            same += int((logits[0].argmax(1) == logits[1].argmax(1)).sum())
            logp, logq = (torch.log_softmax(values, dim=1) for values in logits)
            kl = (logp.exp() * (logp - logq)).sum(1)
            target = one.target[rows, None]
            nats = torch.stack(
                [torch.ones_like(kl), -logp.gather(1, target)[:, 0], -logq.gather(1, target)[:, 0], kl], 1
            )
            np.add.at(sums, owner[rows], nats.cpu().numpy())
            each.append(kl.cpu().numpy())
    return _change(sums[sums[:, 0] > 0], np.concatenate(each) if each else np.zeros(0), same, largest)


def compare_probabilities(before: np.ndarray, after: np.ndarray) -> dict[str, Any]:
    """The same of a classifier's probabilities (rows, labels): mean KL with its interval, and how many labels stay."""
    p, q = (np.clip(np.asarray(values, dtype=np.float64), 1e-12, 1.0) for values in (before, after))
    kl = (p * (np.log(p) - np.log(q))).sum(1)
    low, high = _interval(kl, np.ones(len(kl)))
    return {
        "rows": len(kl), "kl": float(kl.mean()), "kl_low": low, "kl_high": high, "kl_most": float(kl.max()),
        "same_choice": float((p.argmax(1) == q.argmax(1)).mean()),
    }  # fmt: skip


def _change(sums: np.ndarray, kl: np.ndarray, same: int, largest: float) -> Change:
    tokens, old, new, total = sums.sum(0) if len(sums) else np.zeros(4)
    if not tokens:
        raise DataError("There is no token to measure on.", wanted="Texts of two tokens, or rows with answers.")
    if not np.isfinite([old, new, total]).all():
        raise ModelError(
            "The logits are not numbers any more.", fix="Leave the layers out that break: keep=NAME, or take bits=8."
        )
    low, high = _interval(sums[:, 2] - sums[:, 1], sums[:, 0])
    kl_low, kl_high = _interval(sums[:, 3], sums[:, 0])
    return Change(
        tokens=int(tokens), texts=len(sums), perplexity_before=math.exp(old / tokens),
        perplexity_after=math.exp(new / tokens), perplexity_ratio=math.exp((new - old) / tokens),
        ratio_low=None if low is None else math.exp(low), ratio_high=None if high is None else math.exp(high),
        kl=float(total / tokens), kl_low=kl_low, kl_high=kl_high, kl_99=float(np.quantile(kl, 0.99)), kl_most=float(kl.max()),
        same_choice=float(same / tokens), largest_logit_change=largest,
    )  # fmt: skip


def _interval(values: np.ndarray, sizes: np.ndarray) -> tuple[float | None, float | None]:
    """95 % interval of sum(values) / sum(sizes) over texts."""
    if len(values) < FEW:
        return None, None
    found = bca(lambda counts: counts @ values / (counts @ sizes), len(values), resamples=2000)
    return found.low, found.high
