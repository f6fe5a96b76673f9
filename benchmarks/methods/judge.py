"""From figures to words: a claim is confirmed, refuted, or nothing can be said at this scale."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

CONFIRMED, REFUTED, NOT_HERE = "confirmed", "refuted", "not at this scale"


@dataclass(frozen=True)
class Claim:
    """figure of `cell`, less that of `against`, is more than `more_than`."""

    claim: str
    cell: str
    figure: str
    against: str | None = None
    more_than: float = 0.0

    @property
    def mark(self) -> str:
        """Changes when the claim does."""
        return hashlib.sha256(json.dumps(vars(self), sort_keys=True).encode()).hexdigest()[:12]


def claims(path: Path | None = None) -> list[Claim]:
    """All claims of directions.yaml, in its order."""
    text = (path or Path(__file__).with_name("directions.yaml")).read_text(encoding="utf-8")
    return [Claim(**entry) for entry in yaml.safe_load(text)]


def marks(cell: str, every: Sequence[Claim]) -> list[str]:
    """Of the claims a cell's figures decide: what a result keeps, so that a claim changed afterwards shows."""
    return sorted(claim.mark for claim in every if cell in (claim.cell, claim.against))


def values(claim: Claim, results: Mapping[str, Mapping[str, Any]]) -> list[float]:
    """The claim's number, one a seed, of the seeds for which all it needs was measured."""
    found = []
    for key, result in sorted(results.items()):
        cell, _, seed = key.rpartition("/")
        if cell != claim.cell or claim.figure not in result["figures"]:
            continue
        value = float(result["figures"][claim.figure])
        if claim.against is not None:
            other = results.get(f"{claim.against}/{seed}")
            if other is None or claim.figure not in other["figures"]:
                continue
            value -= float(other["figures"][claim.figure])
        found.append(value)
    return found


@dataclass(frozen=True)
class Verdict:
    """Mean over seeds with its 95 % t interval, and the word."""

    value: float
    low: float
    high: float
    seeds: int
    word: str


def verdict(claim: Claim, numbers: Sequence[float]) -> Verdict | None:
    """None without a number. One seed has no interval, so nothing can be said."""
    from tunesmith.stats.intervals import mean_interval

    if not numbers:
        return None
    found = mean_interval(list(numbers))
    word = CONFIRMED if found.low > claim.more_than else REFUTED if found.high < claim.more_than else NOT_HERE
    return Verdict(found.value, found.low, found.high, len(numbers), word)


def lines(results: Mapping[str, Mapping[str, Any]], every: Sequence[Claim]) -> list[list[str]]:
    """A line of the table for each claim: what, figure, mean and interval, seeds, verdict."""
    made = []
    for claim in every:
        found = verdict(claim, values(claim, results))
        figure = f"{claim.cell}.{claim.figure}" + (f" - {claim.against}" if claim.against else "")
        bound = f" > {claim.more_than:g}"
        if found is None:
            made.append([claim.claim, figure + bound, "", "0", "not measured"])
            continue
        span = f"{found.value:+.4g}" + (f" ({found.low:+.4g} to {found.high:+.4g})" if found.seeds > 1 else "")
        measured = [r for key, r in results.items() if key.rpartition("/")[0] in (claim.cell, claim.against)]
        late = any(claim.mark not in result.get("claims", ()) for result in measured)
        made.append([claim.claim, figure + bound, span, str(found.seeds), found.word + (" (claim changed after measuring)" if late else "")])  # fmt: skip
    return made
