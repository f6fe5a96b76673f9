"""Two evaluations of the same rows: which is better, by how much, and whether that can be told.

    compare(read_evaluation("runs/a/evals/test"), read_evaluation("runs/b/evals/test"))[0].verdict
    -> "runs/b is better than runs/a by 4.1 points (95 % 1.2 to 7.0), p = .006, n = 770"

Right/wrong: McNemar. Other per-row numbers: sign-flip permutation and BCa bootstrap. What is no mean of rows (macro-F1, BLEU, chrF):
approximate randomisation and paired bootstrap. Several metrics at once: p-values adjusted after Holm.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from tunesmith.core.errors import DataError
from tunesmith.core.names import unknown
from tunesmith.core.shelf import shelf
from tunesmith.evals.files import Evaluation, values_of
from tunesmith.stats.many import holm
from tunesmith.stats.paired import Paired, mcnemar, paired_means, paired_statistic
from tunesmith.stats.words import Better, Lang, verdict


@dataclass(frozen=True)
class Comparison:
    """One metric of B against A. `p_adjusted` is Holm's over the metrics compared together; the verdict uses it."""

    metric: str
    a: str
    b: str
    a_value: float
    b_value: float
    difference: float
    low: float
    high: float
    p: float
    p_adjusted: float
    n: int
    test: str
    better: str
    told_apart: bool
    winner: str
    verdict: str

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def compare(
    a: Evaluation,
    b: Evaluation,
    *,
    metrics: Sequence[str] = (),
    names: tuple[str, str] | None = None,
    lang: Lang = "en",
    resamples: int = 10_000,
    seed: int = 0,
) -> list[Comparison]:
    """Compare the metrics that both have, or those named. Rows are matched by id and must have the same reference answers.

    Raises DataError when the evaluations are not of the same rows, SettingError for a metric that one of them lacks.
    """
    names = names or (a.name, b.name)
    if names[0] == names[1]:
        names = (f"{names[0]} (A)", f"{names[1]} (B)")
    rows_a, rows_b = same_rows(a, b)
    shared = [name for name in a.summary["metrics"] if name in b.summary["metrics"]]
    for name in metrics:
        if name not in shared:
            raise unknown("metric in both evaluations", name, shared)
    chosen = list(metrics) or shared
    if not chosen:
        raise DataError(
            f"{a.name} and {b.name} have no metric in common.",
            wanted=f"A: {', '.join(a.summary['metrics'])}. B: {', '.join(b.summary['metrics'])}.",
        )
    outcomes = [_outcome(name, a, b, rows_a, rows_b, resamples, seed) for name in chosen]
    adjusted = holm([outcome.p for outcome in outcomes])
    return [
        _told(name, a.summary["metrics"][name], b.summary["metrics"][name], outcome, p, names, lang)
        for name, outcome, p in zip(chosen, outcomes, adjusted)
    ]


def same_rows(a: Evaluation, b: Evaluation) -> tuple[list[Mapping[str, Any]], list[Mapping[str, Any]]]:
    """Both evaluations' lines in A's order. Other rows, or other reference answers, are a DataError that counts and names them."""
    if a.summary["rows_hash"] == b.summary["rows_hash"]:
        return list(a.rows), list(b.rows)
    by_id: list[dict[Any, Mapping[str, Any]]] = []
    for each in (a, b):
        ids = {row.get("id"): row for row in each.rows}
        if len(ids) < len(each.rows) or None in ids:
            raise DataError(
                f"{a.name} and {b.name} were not made on the same rows, and those of {each.name} cannot be told by their ids.",
                fix="Evaluate both on the same split.",
            )
        by_id.append(ids)
    in_a, in_b = by_id
    only_a, only_b = [i for i in in_a if i not in in_b], [i for i in in_b if i not in in_a]
    if only_a or only_b:
        named = ", ".join(str((in_a.get(i) or in_b[i]).get("origin") or i) for i in (only_a + only_b)[:3])
        raise DataError(
            f"{a.name} and {b.name} were not made on the same rows: {len(only_a)} are only in the first, {len(only_b)} only in "
            f"the second, {len(in_a) - len(only_a)} in both. For example {named}.",
            wanted="A paired test needs the same rows in both.",
            fix="Evaluate both on the same split with the same eval.rows and data.seed.",
        )
    changed = [i for i in in_a if in_a[i].get("answer") != in_b[i].get("answer")]
    if changed:
        raise DataError(
            f"{len(changed)} rows have another reference answer in {b.name}, for example {in_a[changed[0]].get('origin') or changed[0]}.",
            fix="Evaluate both on the same version of the data.",
        )
    return list(a.rows), [in_b[row.get("id")] for row in a.rows]


def _outcome(
    name: str, a: Evaluation, b: Evaluation, rows_a: Sequence[Any], rows_b: Sequence[Any], resamples: int, seed: int
) -> Paired:
    specs = [each.summary["metrics"][name].get("spec") for each in (a, b)]
    if specs[0] != specs[1]:
        raise DataError(
            f"{name} was computed with other settings in {b.name}.",
            wanted=f"{specs[0]}, found {specs[1]}.",
            fix="Evaluate again with the same metrics: the answers are kept.",
        )
    if not a.summary["metrics"][name].get("mean_of_rows", True):
        if not specs[0]:
            raise DataError(
                f"{name} is no mean of its rows, and on no shelf to be made again.", fix="Name its file in `use`."
            )
        over_counts = shelf("metrics").make(specs[0]).over_counts
        values = [*values_of(rows_a, name), *values_of(rows_b, name)]
        return paired_statistic(over_counts(values), len(rows_a), resamples=resamples, seed=seed)
    numbers_a, numbers_b = (np.array([row["metrics"][name] for row in rows]) for rows in (rows_a, rows_b))
    clusters = [row.get("cluster") for row in rows_a]
    if None not in clusters:
        return paired_means(numbers_a, numbers_b, clusters=clusters, resamples=resamples, seed=seed)
    if np.isin(numbers_a, (0, 1)).all() and np.isin(numbers_b, (0, 1)).all():
        return mcnemar(numbers_a, numbers_b)
    return paired_means(numbers_a, numbers_b, resamples=resamples, seed=seed)


def _told(
    name: str,
    in_a: Mapping[str, Any],
    in_b: Mapping[str, Any],
    outcome: Paired,
    p: float,
    names: tuple[str, str],
    lang: Lang,
) -> Comparison:
    better: Better = in_a.get("better", "higher")
    # shares are told in points; anything that can leave 0..1 in its own numbers
    share = all(
        0 <= value <= 1
        for each in (in_a, in_b)
        for value in (each["value"], each["low"], each["high"])
        if value is not None
    )
    unit = "points" if share and better == "higher" else ""
    apart = p < 0.05 and not outcome.low <= 0 <= outcome.high
    ahead = names[1] if (outcome.difference > 0) == (better == "higher") else names[0]
    return Comparison(
        metric=name,
        a=names[0],
        b=names[1],
        a_value=in_a["value"],
        b_value=in_b["value"],
        difference=outcome.difference,
        low=outcome.low,
        high=outcome.high,
        p=outcome.p,
        p_adjusted=p,
        n=outcome.n,
        test=outcome.test,
        better=better,
        told_apart=apart,
        winner=ahead if apart else "",
        verdict=verdict(outcome, a=names[0], b=names[1], better=better, unit=unit, lang=lang, p=p),
    )
