"""How much answers vary when they are drawn again: evaluations of the same rows by the same model, each from another seed.

    spread([read_evaluation("runs/a/evals/test"), read_evaluation("runs/a/evals/samples/test-2")])
    -> {"n": 2, "agreement": {"value": 0.84, "n": 770, ...}, "metrics": {"exact_match": {"mean", "deviation", "least", "most"}}}

Agreement is the share of pairs of answers to one row that are the same words: 1 says that the draw changes nothing. The deviation
of a score over draws is noise that its interval over rows does not hold; it comes from the model, not from the choice of rows.
"""

from collections import Counter
from collections.abc import Sequence
from statistics import fmean, stdev
from typing import Any

from tunesmith.core.errors import DataError
from tunesmith.evals.compare import same_rows
from tunesmith.evals.files import Evaluation
from tunesmith.metrics import mean_summary


def spread(evaluations: Sequence[Evaluation]) -> dict[str, Any]:
    """Agreement of the answers with its interval over rows, and mean, deviation (n - 1), least and most of each score.

    Raises DataError when there are fewer than two, or when their rows are not the same.
    """
    if len(evaluations) < 2:
        raise DataError("One draw has no spread.", wanted="Two evaluations or more of the same rows.")
    first, draws = evaluations[0], len(evaluations)
    said = [[line["prediction"] for line in same_rows(first, each)[1]] for each in evaluations]
    pairs = draws * (draws - 1)
    agreed = [
        sum(times * (times - 1) for times in Counter(" ".join(answer.split()) for answer in answers).values()) / pairs
        for answers in zip(*said, strict=True)
    ]
    metrics = {}
    for name in first.summary["metrics"]:
        values = [float(each.summary["metrics"][name]["value"]) for each in evaluations]
        metrics[name] = {"mean": fmean(values), "deviation": stdev(values), "least": min(values), "most": max(values)}
    return {"n": draws, "agreement": mean_summary(agreed).as_dict(), "metrics": metrics}
