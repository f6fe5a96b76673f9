"""Which way of tuning: from how many rows there are, what fits, and how far the task is from what the base knows.

>>> recommend(rows=400, fits=("lora", "qlora"), distance="near").adapter
'lora'

Few rows move few weights well, and what a stronger base knows counts for more: an adapter on the largest base that fits. Many rows of a
far task want all weights, on a base small enough for that. The borders are rules of thumb, told with the reasons; `tunesmith ladder`
and a comparison on held-out rows decide.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

FEW, MANY = (
    50,
    20_000,
)  # rows: below the one prompting is usually better, above the other full tuning pays where it fits


@dataclass(frozen=True)
class Advice:
    """adapter: what to train, None = do not tune yet; reasons: why, each a sentence."""

    adapter: str | None
    reasons: tuple[str, ...]


def recommend(*, rows: int, fits: Sequence[str], distance: Literal["near", "far"] = "near") -> Advice:
    """What to train with `rows` rows when the adapters `fits` fit into memory.

    distance  near: the base can nearly do it (form, style, labels); far: another language, field or skill
    """
    reasons: list[str] = []
    if rows < FEW:
        reasons.append(
            f"{rows:,} rows teach little: put them into the prompt as examples first, and keep some to measure with."
        )
        return Advice(None, tuple(reasons))
    if not fits:
        return Advice(None, ("Nothing fits: take a smaller base, or shorter rows.",))
    reasons.append(f"{rows:,} rows: " + ("many" if rows >= MANY else "few beside the weights of the base") + ".")
    if "full" in fits and distance == "far" and rows >= MANY:
        reasons.append(
            "The task is far from the base and there are rows enough to move all weights, which fit: full tuning learns most."
        )
        return Advice("full", tuple(reasons))
    if distance == "far" and rows >= MANY:
        reasons.append(
            "Full tuning would learn most and does not fit: full tuning of a smaller base is worth a comparison."
        )
    elif distance == "far":
        reasons.append(
            "The task is far from the base, but so few rows would be learned by heart: continued pre-training on raw text may help first."
        )
    else:
        reasons.append("The base nearly knows the task: an adapter keeps the rest of what it knows.")
        if rows >= MANY and "full" not in fits:
            reasons.append(
                "So many rows can also pay for full tuning of a smaller base, which does not need this memory: compare them."
            )
    for adapter, why in (
        ("lora", "LoRA comes close to full tuning at a fraction of the memory."),
        ("qlora", "LoRA does not fit with 16-bit weights; over four-bit ones it does, and is slower."),
        ("head", "Only the head fits; it learns new labels, not new skills."),
    ):
        if adapter in fits:
            return Advice(adapter, (*reasons, why))
    return Advice(fits[0], tuple(reasons))
