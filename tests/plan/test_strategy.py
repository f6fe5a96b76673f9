"""Advice on what to train: each of rows, memory and distance moves it, with the reason told."""

import pytest

from tunesmith.plan.strategy import recommend


@pytest.mark.parametrize(
    ("rows", "fits", "distance", "adapter"),
    [
        (20, ("full", "lora"), "near", None),
        (400, ("full", "lora", "qlora"), "near", "lora"),
        (400, ("full", "lora"), "far", "lora"),
        (100_000, ("full", "lora"), "far", "full"),
        (100_000, ("full", "lora"), "near", "lora"),
        (100_000, ("lora", "qlora"), "far", "lora"),
        (400, ("qlora",), "near", "qlora"),
        (400, ("head",), "near", "head"),
        (400, (), "near", None),
    ],
)
def test_each_factor_moves_the_advice(rows, fits, distance, adapter):
    advice = recommend(rows=rows, fits=fits, distance=distance)
    assert advice.adapter == adapter
    assert advice.reasons and all(reason.endswith(".") for reason in advice.reasons)


@pytest.mark.parametrize("distance", ["near", "far"])
def test_many_rows_and_little_memory_name_a_smaller_base(distance):
    """C37: much data -> full tuning of a smaller one; not where all weights fit, nor with few rows."""
    smaller = "full tuning of a smaller base"
    assert smaller in " ".join(recommend(rows=100_000, fits=("lora", "qlora"), distance=distance).reasons)
    assert smaller not in " ".join(recommend(rows=100_000, fits=("full", "lora"), distance=distance).reasons)
    assert smaller not in " ".join(recommend(rows=400, fits=("lora",), distance=distance).reasons)
