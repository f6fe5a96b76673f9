"""Vectors of texts from a model, and how well they find what belongs together.

    vectors = embed(model, ["a text", "another"])            # float32 (texts, dim), length 1
    evaluate_search(model, rows, folder=run.file("evals"), name="test")

Rows are pairs or groups, as `method: embed` learns from. Each text of a group, and each first text of a pair, asks for its
partners among all texts of the rows. BM25 over the same texts stands beside: what words alone would have found.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tunesmith.core.errors import DataError
from tunesmith.evals.files import write_evaluation
from tunesmith.evals.run import fingerprint
from tunesmith.metrics import mean_summary
from tunesmith.model.vectors import vectors as mean_states
from tunesmith.retrieve.bm25 import Bm25, pick
from tunesmith.retrieve.vectors import nearest, recall_at, reciprocal_rank
from tunesmith.text.encode import Text
from tunesmith.text.example import Unit


def embed(
    model: Any,
    texts: Sequence[str],
    *,
    pass_tokens: int = 8192,
    length: int | None = None,
    shown: Callable[[int, int], None] | None = None,
) -> np.ndarray:
    """One vector of length 1 a text, float32 (texts, dim): the mean of its last hidden states. Any kind of model but seq2seq.

    Texts longer than `length` (default: what the model reads) are cut at their end.
    """
    import torch

    policy = model.policy
    text = Text(model.tokenizer, length=min(length or model.context, model.context), too_long="trim_prompt")
    units = [Unit((text.whole(words)[0],)) for words in texts]
    order = sorted(range(len(units)), key=lambda i: -units[i].num_tokens)
    out: np.ndarray | None = None
    training, start = model.net.training, 0
    model.net.eval()
    try:
        while start < len(order):
            chosen = order[start : start + max(1, pass_tokens // units[order[start]].num_tokens)]
            with torch.no_grad():
                states = mean_states(policy, policy.batch([units[i] for i in chosen])).float()
                states = torch.nn.functional.normalize(states, dim=1).cpu().numpy()
            out = np.empty((len(units), states.shape[1]), dtype=np.float32) if out is None else out
            out[chosen] = states
            start += len(chosen)
            if shown is not None:
                shown(start, len(order))
    finally:
        model.net.train(training)
    return np.empty((0, 0), dtype=np.float32) if out is None else out


def search_task(rows: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[int], list[set[int]]]:
    """(all different texts, places of those that ask, the places each shall find)."""
    place: dict[str, int] = {}
    partners: dict[int, set[int]] = {}

    def at(text: str) -> int:
        return place.setdefault(text, len(place))

    for row in rows:
        if "texts" in row:
            group = sorted({at(text) for text in row["texts"]})
            for one in group:
                partners.setdefault(one, set()).update(set(group) - {one})
        elif row.get("score") is None or float(row["score"]) >= 0.5:
            one, two = at(row["text"]), at(row["text2"])
            if one != two:
                partners.setdefault(one, set()).add(two)
        else:
            at(row["text"]), at(row["text2"])
    asking = sorted(one for one, wanted in partners.items() if wanted)
    if not asking:
        raise DataError("no row holds two different texts that belong together", wanted="Pairs or groups of texts.")
    return list(place), asking, [partners[one] for one in asking]


def evaluate_search(
    model: Any,
    rows: Sequence[Mapping[str, Any]],
    *,
    folder: str | Path,
    name: str,
    length: int | None = None,
    shown: Callable[[int, int], None] | None = None,
    facts: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Recall at 1 and 10 and mean reciprocal rank of the vectors, beside BM25's recall at 10; written like any evaluation."""
    texts, asking, right = search_task(rows)
    started = time.perf_counter()
    found = embed(model, texts, length=length, shown=shown)
    seconds = time.perf_counter() - started
    places = _without_self(nearest(found[asking], found, 101)[0], asking)
    index = Bm25(texts)
    words = np.full((len(asking), 10), -1, dtype=np.int64)
    for row, one in enumerate(asking):
        hits = [hit.position for hit in pick(index, texts[one], 11) if hit.position != one][:10]
        words[row, : len(hits)] = hits
    each = {
        "recall_at_10": recall_at(places, right, 10), "recall_at_1": recall_at(places, right, 1),
        "reciprocal_rank": reciprocal_rank(places, right), "bm25_recall_at_10": recall_at(words, right, 10),
    }  # fmt: skip
    lines = [
        {
            "id": str(one), "origin": None, "prompt": texts[one], "answer": sorted(texts[i] for i in right[number]),
            "prediction": texts[int(places[number, 0])], "metrics": {key: float(values[number]) for key, values in each.items()},
        }
        for number, one in enumerate(asking)
    ]  # fmt: skip
    summaries = {
        key: {**mean_summary(values.tolist()).as_dict(), "spec": None, "mean_of_rows": True}
        for key, values in each.items()
    }
    return write_evaluation(
        Path(folder),
        name,
        lines,
        {
            "metrics": summaries,
            "texts": len(texts),
            "model": {"name": str(model.name), "hash": fingerprint(model.net)},
            "seconds_per_text": seconds / len(texts),
            "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            **(facts or {}),
        },
    )


def _without_self(places: np.ndarray, asking: Sequence[int]) -> np.ndarray:
    """Each query's list without the query itself; where it was not found, without the last."""
    kept = []
    for row, one in zip(places, asking):
        others = row[row != one]
        kept.append(others[: places.shape[1] - 1])
    return np.stack(kept)
