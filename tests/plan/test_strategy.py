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
