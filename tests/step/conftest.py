"""A pico in float64 for exact sums, and one in fp32."""

import pytest

from tunesmith.model.load import load


@pytest.fixture(scope="session")
def pico64():
    return load("pico", dtype="fp64", seed=1)


@pytest.fixture(scope="session")
def pico32():
    return load("pico", seed=1)
