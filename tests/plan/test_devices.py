"""Names of cards and memory sizes."""

import pytest

from tunesmith.core.errors import SettingError
from tunesmith.plan.devices import GIB, bytes_of, device


def test_a_size_is_a_card_without_a_known_speed():
    found = device("12GB")
    assert found.memory == 12 * GIB and not found.flops and found.cuda


@pytest.mark.parametrize("name", ["T4", "t4", "NVIDIA T4", "colab"])
def test_a_card_by_its_names(name):
    assert device(name).name == "T4" and not device(name).bf16


def test_a_card_has_less_than_its_name_says():
    assert device("A100-40").memory < 40 * GIB and device("H100").memory < 80 * GIB


def test_a_processor_s_process_has_no_context():
    found = device("cpu:700MB")
    assert (found.name, found.memory, found.cuda) == ("cpu", 700 << 20, False)


def test_unknown_names_are_refused_with_the_nearest():
    with pytest.raises(SettingError, match="h100"):
        device("H10")


@pytest.mark.parametrize(("text", "size"), [("16", 16 * GIB), ("1.5GB", 1.5 * GIB), ("512mb", GIB // 2), ("big", None)])
def test_sizes(text, size):
    assert bytes_of(text) == size
