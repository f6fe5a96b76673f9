"""What to say about rows longer than the limit.

print(too_long_report(lengths, 512))   # a histogram, and the one key that settles it
"""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from tunesmith.core.errors import DataError

POLICIES = ("error", "drop", "split", "trim_prompt")
ONE_KEY = (
    "Choose one: length={longest} (all fit), too_long=drop, too_long=trim_prompt (keep the end of the prompt and the "
    "whole answer), too_long=split (raw text)."
)


class TooLong(DataError):
    """A row has more tokens than fit. `num_tokens` and `limit` say how many."""

    def __init__(self, num_tokens: int, limit: int, why: str = "") -> None:
        super().__init__(
            f"The row has {num_tokens} tokens, {limit} fit.", wanted=why, fix=ONE_KEY.format(longest=num_tokens)
        )
        self.num_tokens, self.limit = num_tokens, limit


def too_long_report(lengths: Sequence[int], limit: int, bins: int = 10) -> str:
    """A histogram of row lengths in tokens around `limit`, and what to do.

    too_long_report([10, 20, 300], 256)  ->  "1 of 3 rows (33.3 %) are longer than 256 tokens; the longest has 300. ..."
    """
    values = np.asarray(lengths, dtype=np.int64)
    if not len(values):
        return "There are no rows."
    longest = int(values.max())
    num_over = int((values > limit).sum())
    verb = "is" if num_over == 1 else "are"
    found = (
        f"{num_over:,} of {len(values):,} rows ({num_over / len(values):.1%}) {verb} longer than {limit:,} tokens; the "
        f"longest has {longest:,}, the median {int(np.median(values)):,}."
    )
    lines = [
        found,
        "",
        *_histogram(values, limit, longest, bins),
        "",
        ONE_KEY.format(longest=longest),
    ]
    nearly_all = int(np.quantile(values, 0.99, method="higher"))
    if limit < nearly_all < longest:
        lines.append(f"length={nearly_all} takes 99 % of the rows.")
    return "\n".join(lines)


def _histogram(values: np.ndarray, limit: int, longest: int, bins: int) -> list[str]:
    step = max(1, -(-limit // max(1, bins - 2)))  # the limit is an edge, what is over it has bars of its own
    edges = sorted({*range(0, limit, step), limit})
    while edges[-1] < longest and len(edges) < bins + 4:
        edges.append(edges[-1] + max(step, edges[-1] // 2))
    edges[-1] = max(edges[-1], longest)
    counts = [int(((values > low) & (values <= high)).sum()) for low, high in pairwise(edges)]
    counts[0] += int((values == 0).sum())
    most = max(counts) or 1
    width = len(f"{edges[-1]:,}")
    lines = []
    for low, high, count in zip(edges, edges[1:], counts):
        bar = "█" * max(1 if count else 0, round(40 * count / most))
        mark = "  <- too long" if low >= limit and count else ""
        lines.append(f"{low + 1:>{width},} - {high:>{width},} | {bar} {count:,}{mark}")
    return lines
