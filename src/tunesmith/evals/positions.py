"""Loss by position: does a model make use of what stands far back?

    before = by_position(load("mini", rope={"kind": "yarn", "factor": 4}), texts, length=4096)
    after = by_position(open_run("runs/long"), texts, length=4096)
    print(compare([("stretched", before), ("tuned", after)]))

Each text is read once, as one sequence; the mean -log p of its tokens is taken by how far from the start they stand. A model that reads
its whole context gets better (or stays) towards the end; one beyond its context gets much worse. The same tokens are compared, so
differences are paired by text.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tunesmith.core.errors import DataError, SpaceError
from tunesmith.stats.intervals import mean_interval
from tunesmith.text.example import Example, Unit


@dataclass(frozen=True, eq=False)
class ByPosition:
    """Sums of -log p by stretch of positions.

    edges   (stretches + 1,): stretch i holds the tokens at positions edges[i] to edges[i + 1] - 1; the first token is predicted by nobody
    nats    float64 (texts, stretches);  tokens  int64 (texts, stretches)
    """

    edges: tuple[int, ...]
    nats: np.ndarray
    tokens: np.ndarray

    def loss(self) -> np.ndarray:
        """Mean nats per token in each stretch, (stretches,); nan where no text reaches."""
        total, count = self.nats.sum(0), self.tokens.sum(0)
        return np.divide(total, count, out=np.full(len(total), np.nan), where=count > 0)

    def minus(self, other: "ByPosition") -> list[tuple[float, float, float]]:
        """This loss minus another's over the same texts: (difference, low, high) in each stretch, 95 % over texts."""
        if self.edges != other.edges or not np.array_equal(self.tokens, other.tokens):
            raise DataError("The losses are of other texts or positions.", fix="Measure both with the same arguments.")
        found = []
        for stretch in range(len(self.edges) - 1):
            reached = self.tokens[:, stretch] > 0
            if reached.sum() < 2:
                found.append((float("nan"),) * 3)
                continue
            count = self.tokens[reached, stretch]
            each = (self.nats[reached, stretch] - other.nats[reached, stretch]) / count
            spread = mean_interval(each)
            found.append((spread.value, spread.low, spread.high))
        return found

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "edges": list(self.edges),
            "loss": [None if np.isnan(value) else float(value) for value in self.loss()],
            "tokens": self.tokens.sum(0).tolist(),
            "texts": len(self.tokens),
        }


def by_position(
    model: Any, texts: Iterable[str], *, length: int | None = None, stretches: int = 8, pass_tokens: int = 8192
) -> ByPosition:
    """Measure a model on the first `length` tokens of each text (None = the model's context), in `stretches` equal parts.

    Raises SpaceError when that exceeds the model's context, DataError when no text has two tokens.
    """
    import torch

    context = model.context
    length = context if length is None else length
    if length > context:
        raise SpaceError(
            f"length is {length:,}, the model reads {context:,} tokens.",
            fix="Stretch its context: rope: {kind: yarn, factor: 4}",
        )
    edges = tuple(int(edge) for edge in np.linspace(0, length, stretches + 1).round())
    start = list(model.tokenizer.prefix_ids)
    examples = []
    for text in texts:
        ids = [*start, *model.tokenizer.encode(text)][:length]
        if len(ids) > 1:
            examples.append(Example.of(ids, [1.0] * len(ids)))
    if not examples:
        raise DataError("There is no text to measure.", wanted="At least one text of two tokens.")
    nats = np.zeros((len(examples), stretches))
    tokens = np.zeros((len(examples), stretches), dtype=np.int64)
    training = [module for module in model.net.modules() if module.training]
    model.net.eval()
    try:
        with torch.no_grad():
            for chosen in _passes(examples, pass_tokens):
                batch = model.policy.batch([Unit((examples[number],)) for number in chosen])
                logp = model.policy.logprobs(batch).double().cpu().numpy()
                at = 0
                for number in chosen:
                    size = len(examples[number]) - 1
                    stretch = np.searchsorted(edges, np.arange(1, size + 1), side="right") - 1
                    np.add.at(nats[number], stretch, -logp[at : at + size])
                    np.add.at(tokens[number], stretch, 1)
                    at += size
    finally:
        for module in training:
            module.training = True
    return ByPosition(edges, nats, tokens)


def compare(measured: Sequence[tuple[str, ByPosition]]) -> str:
    """The losses as a table, a line a stretch; from the second on with the difference from the first and its interval."""
    first = measured[0][1]
    width = max(len(name) for name, _ in measured)
    differences = [one.minus(first) for _, one in measured]
    lines = [f"{'tokens':>13}  " + "  ".join(f"{name:>{max(width, 8)}}" for name, _ in measured)]
    for stretch, (low, high) in enumerate(zip(first.edges, first.edges[1:])):
        cells = "  ".join(f"{one.loss()[stretch]:>{max(width, 8)}.3f}" for _, one in measured)
        told = [d[stretch] for d in differences[1:]]
        notes = "".join(f"   {value:+.3f} ({below:+.3f} to {above:+.3f})" for value, below, above in told)
        lines.append(f"{low:>6,}-{high - 1:<6,}  {cells}{notes}")
    return "\n".join(lines)


def _passes(examples: Sequence[Example], pass_tokens: int) -> list[list[int]]:
    passes: list[list[int]] = []
    held = 0
    for number, example in enumerate(examples):
        if passes and held + len(example) <= pass_tokens:
            passes[-1].append(number)
            held += len(example)
        else:
            passes.append([number])
            held = len(example)
    return passes
