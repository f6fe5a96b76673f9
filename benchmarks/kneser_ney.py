"""An interpolated modified Kneser-Ney n-gram model over token ids, counted by sorting.

    model = fit(documents, vocab_size=8192)          # documents: arrays of ids, each ending with its end token
    model.bits(document)                             # cost of each token in bits, shape (time,)

Chen & Goodman 1999, "An empirical study of smoothing techniques for language modeling", section 3 and eq. 26 (three
discounts an order). Each document starts after one start symbol that is never predicted; as in KenLM and SRILM, n-grams
that begin with it keep their plain counts, because nothing can stand to their left. Unigrams are interpolated with the
uniform distribution over the vocabulary, so every id has a probability and there is no unknown token.

An n-gram is stored as one 64-bit key: (rank of its last n-1 tokens) * (vocab + 1) + (its first token). Sorting such
keys order after order gives counts, continuation counts and contexts with no hash table: 20M tokens take about 1 GB.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class Order:
    """The n-grams of one length, sorted by key.

    keys       int64 (num_ngrams,): rank of the suffix in the order below * (vocab + 1) + first token
    counts     int64 (num_ngrams,): how often (highest order, or begins with the start symbol), else distinct left neighbours
    totals     float64 (num_contexts,): sum of `counts` over the n-grams that share their first n-1 tokens
    backoff    float64 (num_contexts,): probability mass handed to the order below
    discounts  float64 (4,): what is taken off a count of 0, 1, 2, and 3 or more
    """

    keys: np.ndarray
    counts: np.ndarray
    totals: np.ndarray
    backoff: np.ndarray
    discounts: np.ndarray


@dataclass(frozen=True, eq=False)
class KneserNey:
    """A fitted model: `orders[k]` holds the (k+1)-grams."""

    vocab_size: int
    orders: tuple[Order, ...]

    def probs(self, document: Sequence[int] | np.ndarray) -> np.ndarray:
        """Probability of each token of one document given up to n-1 before it, float64 (time,)."""
        ids = np.concatenate([[self.vocab_size], np.asarray(document, dtype=np.int64)])
        _check(ids[1:], self.vocab_size)
        probs = np.full(len(ids) - 1, 1.0 / self.vocab_size)
        context = np.zeros(len(ids) - 1, dtype=np.int64)  # rank of the tokens before, one order down; -1 = never seen
        ranks = np.full(len(ids), -1, dtype=np.int64)
        for k, order in enumerate(self.orders):
            ranks = _find(order.keys, _keys(ids, ranks, k, self.vocab_size))
            here = ranks[1:]
            known = context >= 0
            known[known] = order.totals[context[known]] > 0
            count = np.where(here >= 0, order.counts[here], 0)[known]
            taken = order.discounts[np.minimum(count, 3)]
            above = context[known]
            probs[known] = (count - taken) / order.totals[above] + order.backoff[above] * probs[known]
            context = ranks[:-1]
        return probs

    def bits(self, document: Sequence[int] | np.ndarray) -> np.ndarray:
        """Cost of each token of one document in bits, float64 (time,)."""
        return -np.log2(self.probs(document))


def fit(documents: Sequence[np.ndarray] | Sequence[Sequence[int]], *, vocab_size: int, order: int = 5) -> KneserNey:
    """Count `documents` and estimate the discounts of each order.

    >>> model = fit([[0, 1, 0, 1, 2], [0, 1, 2]], vocab_size=4, order=2)
    >>> float(np.round(model.probs([0, 1, 2]).prod(), 2)) > 0.1
    True
    """
    start = vocab_size
    lengths = np.fromiter((len(document) for document in documents), dtype=np.int64)
    ids = np.full(int(lengths.sum()) + len(lengths), start, dtype=np.int32)
    position = 0
    for document in documents:
        _check(np.asarray(document), vocab_size)
        ids[position + 1 : position + 1 + len(document)] = document
        position += 1 + len(document)

    counted: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []  # an order's keys, plain counts, contexts
    ranks = np.full(len(ids), -1, dtype=np.int32)
    for k in range(order):
        below = ranks
        keys = _keys(ids, below, k, vocab_size)
        valid = np.flatnonzero(keys >= 0)
        if not len(valid):  # no document is that long: the model is of a lower order
            break
        by_key = valid[np.argsort(keys[valid])]
        sorted_keys = keys[by_key]
        del keys, valid
        first = np.flatnonzero(np.concatenate([[True], sorted_keys[1:] != sorted_keys[:-1]]))
        plain = np.diff(np.append(first, len(sorted_keys)))
        ranks = np.full(len(ids), -1, dtype=np.int32)
        ranks[by_key] = np.repeat(np.arange(len(first), dtype=np.int32), plain)
        # The context of an n-gram that ends at i is the (n-1)-gram that ends at i - 1; the empty one has rank 0.
        contexts = below[by_key[first] - 1] if k else np.zeros(len(first), dtype=np.int32)
        counted.append((sorted_keys[first], plain, contexts))
        del by_key, sorted_keys

    orders = []
    num_contexts = 1
    for k, (keys, plain, contexts) in enumerate(counted):
        counts = plain
        if k + 1 < len(counted):
            neighbours = np.bincount(counted[k + 1][0] // (vocab_size + 1), minlength=len(keys))
            counts = np.where(keys % (vocab_size + 1) == start, plain, neighbours)
        if k == 0:
            counts = np.where(keys == start, 0, counts)  # the start symbol is a context, never a prediction
        discounts = _discounts(counts)
        totals = np.bincount(contexts, weights=counts, minlength=num_contexts)
        taken = np.bincount(contexts, weights=discounts[np.minimum(counts, 3)], minlength=num_contexts)
        backoff = np.divide(taken, totals, out=np.ones(num_contexts), where=totals > 0)
        orders.append(Order(keys, counts, totals, backoff, discounts))
        num_contexts = len(keys)
    return KneserNey(vocab_size, tuple(orders))


def _check(ids: np.ndarray, vocab_size: int) -> None:
    if len(ids) and not (0 <= int(ids.min()) and int(ids.max()) < vocab_size):
        raise ValueError(f"ids must lie in [0, {vocab_size}), found {int(ids.min())}..{int(ids.max())}")


def _keys(ids: np.ndarray, below: np.ndarray, k: int, vocab_size: int) -> np.ndarray:
    """Key of the (k+1)-gram that ends at each position, -1 where there is none (it would cross a document's start)."""
    if k == 0:
        return ids.astype(np.int64)
    keys = np.full(len(ids), -1, dtype=np.int64)
    keys[k:] = below[k:].astype(np.int64) * (vocab_size + 1) + ids[:-k]
    # An n-gram that holds a start symbol anywhere but in front spans two documents: its suffix began with one.
    crosses = np.zeros(len(ids), dtype=bool)
    for back in range(k):
        crosses[back:] |= ids[: len(ids) - back] == vocab_size
    keys[crosses | (below < 0)] = -1
    return keys


def _find(keys: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Rank of each wanted key, -1 where it is missing."""
    at = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where((wanted >= 0) & (keys[at] == wanted), at, -1)


def _discounts(counts: np.ndarray) -> np.ndarray:
    """D1, D2, D3+ of Chen & Goodman eq. 26. Tiny or odd data can make them undefined; then 0.5, 1, 1.5 as in KenLM."""
    n1, n2, n3, n4 = (int(np.count_nonzero(counts == value)) for value in (1, 2, 3, 4))
    if min(n1, n2, n3) > 0:
        y = n1 / (n1 + 2 * n2)
        discounts = np.array([0.0, 1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3])
        if np.all(discounts[1:] > 0) and np.all(discounts <= [0, 1, 2, 3]):
            return discounts
    return np.array([0.0, 0.5, 1.0, 1.5])
