"""Floor 1: the shelf of metrics. One file is one metric; its name is the word in the project file.

    metric = ExactMatch(ignore_case=True)
    value = metric.score("Paris", {"answer": "paris"})       # a number, or a dict with the number under "score"
    metric.summary([value, ...])                             # Summary(value, n, low, high, better, extra)

`row["answer"]` is the reference, `row["answers"]`, where there is one, a list of equally good ones. What else a value's dict
holds explains it in the eval file ("reason") or is needed to add rows up. A metric whose score of many rows is not the mean of
their scores (BLEU, macro-F1) also has `over_counts(values)`, see stats/intervals.py. A metric may have `check(row)`, asked for
every row before the first answer is generated, and `needs`, the functions from above that it must be given.
"""

from tunesmith.metrics._values import Summary, mean_summary, number_of, references

__all__ = ["Summary", "mean_summary", "number_of", "references"]
