"""Losses row by row: what is kept of them."""

import random

import numpy as np

from tunesmith.report.rows import read_rows


def test_the_extremes_are_those_of_a_sort_and_every_loss_counts():
    draw = random.Random(0)
    rows = [
        {"row": i, "loss": draw.choice([1.0, 2.5, draw.random()]), "seen": draw.randrange(1, 4)} for i in range(500)
    ]
    found = read_rows(iter(rows), hardest=8, easiest=5)
    ordered = sorted(rows, key=lambda row: -row["loss"])
    assert found.hardest == ordered[:8] and found.easiest == ordered[::-1][:5]
    assert (found.num, len(found.losses), found.least_seen, found.most_seen) == (500, 500, 1, 3)


def test_rows_without_a_loss_are_told_of_and_not_counted_in():
    found = read_rows(
        [{"row": 0, "loss": float("nan"), "seen": 0}, {"row": 1, "loss": 1.5}, {"row": 2}], hardest=2, easiest=2
    )
    assert (found.num, list(found.losses), found.least_seen, found.most_seen) == (3, [1.5], 0, 1)
    assert found.hardest == found.easiest == [{"row": 1, "loss": 1.5}]
    empty = read_rows([], hardest=2, easiest=2)
    assert (empty.num, list(empty.losses), empty.hardest) == (0, [], [])


def test_the_histogram_of_losses_is_counted_in_pieces(monkeypatch):
    from tunesmith.report import learned

    monkeypatch.setattr(learned, "AT_ONCE", 7)
    losses = np.random.default_rng(0).exponential(2.0, 500).astype(np.float32)
    marks = [0.0, 0.5, 1.0, 4.0]
    inside = np.histogram(losses, bins=marks)[0]
    beyond = int((losses > 4.0).sum())
    assert beyond and learned._counted(losses, marks) == [*inside[:-1].tolist(), int(inside[-1]) + beyond]
