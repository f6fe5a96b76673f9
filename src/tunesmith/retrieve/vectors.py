"""What vectors of texts are good for: the nearest of many, groups of like ones, and those that fit nowhere.

>>> vectors = np.array([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]])
>>> nearest(vectors[:1], vectors, 2)[0].tolist()
[[0, 1]]

Vectors come from elsewhere (`embed` in evals/vectors.py, any service): one row a text. Likeness is the cosine of the angle between two.
"""

from collections.abc import Sequence

import numpy as np

from tunesmith.core.errors import SettingError


def unit_length(vectors: np.ndarray) -> np.ndarray:
    """Each row divided by its length; a row of zeros stays."""
    vectors = np.atleast_2d(np.asarray(vectors, dtype=np.float64))
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


def nearest(queries: np.ndarray, vectors: np.ndarray, most: int = 10) -> tuple[np.ndarray, np.ndarray]:
    """(places (queries, most) of the vectors nearest to each query, best first; their cosines). Ties go to the earlier one."""
    queries, vectors = unit_length(queries), unit_length(vectors)
    most = min(most, len(vectors))
    if most < 1:
        raise SettingError(f"{most} nearest of {len(vectors)} vectors.", wanted="At least one of each.")
    places = np.empty((len(queries), most), dtype=np.int64)
    cosines = np.empty((len(queries), most))
    for start in range(0, len(queries), 256):
        found = queries[start : start + 256] @ vectors.T
        best = np.argsort(-found, axis=1, kind="stable")[:, :most]
        places[start : start + 256] = best
        cosines[start : start + 256] = np.take_along_axis(found, best, axis=1)
    return places, cosines


def cluster(vectors: np.ndarray, number: int | None = None, *, most: int = 12, seed: int = 0) -> np.ndarray:
    """The group of each vector, int (rows,): k-means on the sphere; group 0 is the largest.

    number  how many groups; None tries 2 to `most` and takes the clearest (silhouette; Rousseeuw 1987)
    """
    from sklearn.cluster import KMeans
    from sklearn.metrics import silhouette_score

    rows = unit_length(vectors)
    if number is not None and not 1 <= number <= len(rows):
        raise SettingError(f"{number} groups of {len(rows)} vectors.", wanted=f"From 1 to {len(rows)}.")

    def grouped(k: int) -> np.ndarray:
        return KMeans(k, n_init=10, random_state=seed).fit_predict(rows)

    if number is None:
        tried = [grouped(k) for k in range(2, min(most, len(rows) - 1) + 1)]
        if not tried:
            return np.zeros(len(rows), dtype=np.int64)
        found = max(tried, key=lambda groups: silhouette_score(rows, groups) if len(set(groups)) > 1 else -1.0)
    else:
        found = grouped(number)
    sizes = np.bincount(found)
    rank = np.argsort(np.argsort(-sizes, kind="stable"), kind="stable")
    return rank[found].astype(np.int64)


def outliers(vectors: np.ndarray, *, share: float | None = None, neighbours: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """(places of the vectors that fit nowhere, strangest first; how far each vector lies from its neighbours, (rows,)).

    Far is 1 - mean cosine of the `neighbours` nearest others. Without `share` a vector counts as strange when it is farther
    than three robust standard deviations (1.4826 x median absolute deviation) from the median; with it, that share is named.
    """
    rows = unit_length(vectors)
    if len(rows) < 3:
        raise SettingError(f"{len(rows)} vectors.", wanted="At least three, to say which one is strange.")
    _, cosines = nearest(rows, rows, min(neighbours, len(rows) - 1) + 1)
    far = 1.0 - cosines[:, 1:].mean(axis=1)  # the first is the vector itself, or an equal one
    order = np.argsort(-far, kind="stable")
    if share is not None:
        return order[: round(share * len(rows))], far
    middle = np.median(far)
    spread = 1.4826 * np.median(np.abs(far - middle))
    return order[far[order] > middle + 3 * max(spread, 1e-9)], far


def recall_at(places: np.ndarray, right: Sequence[set[int]], most: int) -> np.ndarray:
    """Share of each query's right vectors among the first `most` found, (queries,); at most `most` can be found."""
    found = [len(set(row[:most].tolist()) & wanted) / min(most, len(wanted)) for row, wanted in zip(places, right)]
    return np.array(found, dtype=float)


def reciprocal_rank(places: np.ndarray, right: Sequence[set[int]]) -> np.ndarray:
    """1 / rank of the first right vector of each query, 0 where none was found, (queries,)."""
    ranks = []
    for row, wanted in zip(places, right):
        hits = [rank for rank, place in enumerate(row.tolist(), start=1) if place in wanted]
        ranks.append(1.0 / hits[0] if hits else 0.0)
    return np.array(ranks, dtype=float)
