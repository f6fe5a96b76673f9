"""DoRA against PEFT and the paper: row norms, the identity at the start, gradients with constant norms, files both ways."""

import peft
import pytest
import torch

from tunesmith.adapters._dora import DoraLinear
from tunesmith.adapters.dora import Dora
from tunesmith.adapters.store import merge
from tunesmith.core.errors import SettingError
from tunesmith.testing import check_adapter

CASES = {
    "llama": ("llama", {"rank": 4}),
    "rslora": ("llama", {"rank": 4, "alpha": 3.0, "rslora": True, "targets": ("q_proj", "down_proj")}),
    "tied_head": ("tied", {"rank": 2, "targets": ("lm_head", "v_proj")}),
    "conv1d": ("gpt2", {"rank": 4, "rank_pattern": {"c_fc": 2}}),
}
ENDINGS = {"lora_A.weight": "lora_A", "lora_B.weight": "lora_B", "lora_magnitude_vector.weight": "magnitude"}


def own(name):
    name = name.removeprefix("base_model.model.")
    return next(name.removesuffix(theirs) + ours for theirs, ours in ENDINGS.items() if name.endswith(theirs))


@pytest.mark.parametrize("case", CASES)
def test_peft_reads_our_files_with_our_logits_and_gradients(case, ours_in_peft, logits, near):
    name, settings = CASES[case]
    model, opened, _ = ours_in_peft(Dora(**settings), name, own)
    wanted = logits(model.net)
    assert near(logits(merge(opened).net), wanted)


def test_what_peft_trained_is_read(peft_in_ours):
    peft_in_ours(peft.LoraConfig(task_type="CAUSAL_LM", r=3, use_dora=True, target_modules="all-linear"), "llama")


@pytest.mark.parametrize("case", CASES)
def test_merged_rows_have_the_norms_m(case, new_model, shake):
    name, settings = CASES[case]
    model, adapter = new_model(name), Dora(**settings)
    names = adapter.attach(model.net, seed=1)
    shake(model.net)
    wanted = {name: model.net.get_submodule(name).magnitude.detach().abs() for name in names}
    adapter.merge(model.net)
    for name in names:
        layer = model.net.get_submodule(name)
        weight = layer.weight.T if type(layer).__name__ == "Conv1D" else layer.weight
        assert torch.allclose(torch.linalg.vector_norm(weight, dim=1), wanted[name], rtol=1e-5)


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
@pytest.mark.parametrize("case", CASES)
def test_the_first_logits_are_the_bases_bit_by_bit(case, dtype, new_model, logits):
    name, settings = CASES[case]
    model, base = new_model(name, dtype), new_model(name, dtype)
    Dora(**settings, dropout=0.1).attach(model.net)
    assert torch.equal(logits(model.net), logits(base.net))


def test_gradients_are_those_of_the_formula_with_constant_norms():
    torch.manual_seed(0)
    layer = DoraLinear(torch.nn.Linear(7, 5).double(), rank=3, scale=1.5, dropout=0.0)
    for parameter in layer.parameters():
        parameter.data.normal_()
    layer.weight.requires_grad_(False)
    x = torch.randn(4, 7, dtype=torch.float64, requires_grad=True)
    v = layer.weight + 1.5 * layer.lora_B @ layer.lora_A
    wanted = x @ (layer.magnitude[:, None] * v / v.norm(dim=1, keepdim=True).detach()).T + layer.bias
    parts = (x, layer.lora_A, layer.lora_B, layer.magnitude)
    expected = torch.autograd.grad(wanted.square().sum(), parts)
    out = layer(x)
    assert torch.allclose(out, wanted, atol=1e-12)
    for got, want in zip(torch.autograd.grad(out.square().sum(), parts), expected):
        assert torch.allclose(got, want, atol=1e-10)
    layer.train()
    layer.dropout = 1e-12  # the path beside the weight, with a mask that drops nothing
    for got, want in zip(torch.autograd.grad(layer(x).square().sum(), parts), expected):
        assert torch.allclose(got, want, atol=1e-8)


def test_settings_without_sense_are_told():
    with pytest.raises(SettingError):
        Dora(rank=0)


@pytest.mark.parametrize("adapter", [Dora(), Dora(rank=2, dropout=0.2, targets=("lm_head", "q_proj"))])
def test_keeps_what_the_shelf_promises(adapter):
    check_adapter(adapter)
