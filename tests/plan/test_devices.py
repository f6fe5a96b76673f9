"""Names of cards and memory sizes."""

import pytest

from tunesmith.core.errors import SettingError
from tunesmith.plan.devices import GIB, GPUS, bytes_of, device, named


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


@pytest.mark.parametrize(
    ("said", "like"),
    [
        ("NVIDIA H200", "h200"), ("NVIDIA H100 80GB HBM3", "h100"), ("Tesla T4", "t4"), ("NVIDIA A100-SXM4-40GB", "a100-40"), ("NVIDIA A100-SXM4-80GB", "a100"), ("NVIDIA A10G", "a10"),
        ("NVIDIA GeForce RTX 4090", "rtx-4090"), ("NVIDIA GeForce RTX 4060 Ti", "rtx-4060-ti"), ("NVIDIA L40S", "l40s"),
    ],
)  # fmt: skip
def test_a_card_that_is_there_has_the_speeds_of_the_one_it_is_called_after(said, like):
    found = named(said, 1 << 34, bf16=False)
    assert found.flops == GPUS[like].flops and found.workspace == GPUS[like].workspace
    assert (found.name, found.memory, found.bf16, found.cuda) == (said, 1 << 34, False, True)


def test_a_card_nobody_knows_has_its_memory_and_no_speeds():
    found = named("NVIDIA Graphics Device", 1 << 34, bf16=True)
    assert not found.flops and found.memory == 1 << 34 and found.cuda
