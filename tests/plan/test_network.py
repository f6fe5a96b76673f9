"""Networks from their configuration alone: parameter counts are the published ones, names lead to configurations."""

import json

import pytest
from torch._subclasses.fake_tensor import FakeTensorMode

from tunesmith.core.errors import ModelError
from tunesmith.plan.network import architecture, context, fake_network, known

# The counts of the released checkpoints' safetensors files.
PARAMETERS = {
    "Llama-2-7B": 6_738_415_616, "Llama-2-13B": 13_015_864_320, "Llama-3.1-8B": 8_030_261_248, "Llama-3.1-70B": 70_553_706_496,
    "Llama-3.2-1B": 1_235_814_400, "Llama-3.2-3B": 3_212_749_824, "Mistral-7B-v0.3": 7_248_023_552,
    "Qwen3-0.6B": 596_049_920, "Qwen3-8B": 8_190_735_360, "Qwen2.5-0.5B": 494_032_768, "Qwen2.5-7B": 7_615_616_512,
}  # fmt: skip


def test_every_known_model_has_a_published_count():
    assert set(known()) == set(PARAMETERS)


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameters_are_those_of_the_released_model(name):
    with FakeTensorMode(allow_non_fake_inputs=True):
        net = fake_network(architecture(name))
    assert sum(parameter.numel() for parameter in net.parameters()) == PARAMETERS[name]


@pytest.mark.parametrize("name", ["Llama-3.1-8B", "meta-llama/Llama-3.1-8B-Instruct", "llama-3.1-8b"])
def test_a_known_model_by_its_names(name):
    assert architecture(name).intermediate_size == 14336
    assert context(architecture(name)) == 131072


def test_a_folder_a_file_and_a_dict(tmp_path):
    numbers = {
        "model_type": "llama",
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
    }
    (tmp_path / "config.json").write_text(json.dumps(numbers))
    for given in (tmp_path, tmp_path / "config.json", numbers):
        assert architecture(given).hidden_size == 64


@pytest.mark.parametrize("given", ["no-such-model", {"hidden_size": 64}, {"model_type": "no-such-type"}])
def test_what_is_no_model_is_refused(given):
    with pytest.raises(ModelError):
        architecture(given)


def test_the_nearest_known_name_is_told():
    with pytest.raises(ModelError, match="Qwen3-8B"):
        architecture("Qwen3-9B")
