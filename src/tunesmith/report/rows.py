"""What loss_per_row.jsonl says, read in one pass that keeps four bytes a row.

found = read_rows(lines, hardest=8, easiest=5)
found.losses, found.hardest[0]["origin"], found.least_seen
"""

import heapq
from array import array
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tunesmith.report.formats import finite


@dataclass(frozen=True)
class RowLosses:
    """Of the rows that were trained on.

    losses                  every loss that is a number, in the file's order
    hardest, easiest        the rows with the highest losses, highest first, and with the lowest, lowest first
    num                     rows told of;  least_seen, most_seen  how often one was trained on
    """

    losses: "array[float]" = field(default_factory=lambda: array("f"))
    hardest: list[Mapping[str, Any]] = field(default_factory=list)
    easiest: list[Mapping[str, Any]] = field(default_factory=list)
    num: int = 0
    least_seen: int = 0
    most_seen: int = 0


def read_rows(rows: Iterable[Mapping[str, Any]], *, hardest: int, easiest: int) -> RowLosses:
    """One look at each row: {"loss": 2.5, "seen": 3, "origin": "a:1"}."""
    losses = array("f")
    high: list[tuple[float, int, Mapping[str, Any]]] = []
    low: list[tuple[float, int, Mapping[str, Any]]] = []
    num = least = most = 0
    for number, row in enumerate(rows):
        seen = int(row["seen"]) if finite(row.get("seen")) else 1
        least, most = (min(least, seen), max(most, seen)) if num else (seen, seen)
        num += 1
        if not finite(row.get("loss")):
            continue
        loss = float(row["loss"])
        losses.append(loss)
        _keep(high, (loss, -number, row), hardest)
        _keep(low, (-loss, number, row), easiest)
    hard, easy = ([row for *_, row in sorted(kept, key=lambda item: item[:2], reverse=True)] for kept in (high, low))
    return RowLosses(losses, hard, easy, num, least, most)


def _keep(
    heap: list[tuple[float, int, Mapping[str, Any]]], item: tuple[float, int, Mapping[str, Any]], most: int
) -> None:
    """Keep the `most` largest."""
    if len(heap) < most:
        heapq.heappush(heap, item)
    elif item > heap[0]:
        heapq.heapreplace(heap, item)
