"""What is made again for the backward pass is the same, to the bit, is made no oftener than needed, and is not kept meanwhile."""

import weakref
from contextlib import nullcontext

import pytest
import torch

from tunesmith.adapters.lora import Lora
from tunesmith.model import lean
from tunesmith.model.again import as_given, looked_at, made_again
from tunesmith.model.batch import pack
from tunesmith.model.policy import Policy


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("adapter", ["full", "lora", "lora with dropout"])
@pytest.mark.parametrize("name", ["llama", "qwen3"])
def test_a_lean_pass_gives_the_same_gradients_and_keeps_less(
    name, adapter, precision, new_model, make_units, monkeypatch
):
    monkeypatch.setattr(lean, "WIDE", 0)
    model, batch, found, kept = new_model(name), pack(make_units([5, 90, 64])), [], []
    if adapter != "full":
        for layer in Lora(rank=2, dropout=0.3 * (adapter != "lora")).attach(model.net):
            model.net.get_submodule(layer).lora_B.data.normal_(std=0.1, generator=torch.Generator().manual_seed(1))
    net = (model.net.bfloat16() if precision == "bf16" else model.net).train()
    policy, weights = Policy(net, lean=True), {p.untyped_storage().data_ptr() for p in net.parameters()}
    for whole in (True, False):
        held: dict[int, int] = {}

        def look(tensor, held=held):
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in weights:
                held[storage.data_ptr()] = storage.nbytes()

        torch.manual_seed(3)
        with as_given() if whole else nullcontext(), looked_at(look):
            total = policy.nll(batch)[0]
        total.backward()
        found.append({n: p.grad for n, p in net.named_parameters() if p.grad is not None})
        net.zero_grad(set_to_none=True)
        kept.append(sum(held.values()))
    assert found[0] and found[0].keys() == found[1].keys()
    assert all(torch.equal(found[0][n], found[1][n]) for n in found[0])
    if adapter == "lora with dropout":  # what its products read is another tensor at each layer, and dropped by chance
        assert kept[1] == kept[0]
    else:
        assert kept[1] < 0.9 * kept[0]


def test_made_once_for_all_that_read_it_and_gone_meanwhile():
    made = 0
    x = torch.randn(64, 8, requires_grad=True)
    weights = [torch.randn(8, 8, requires_grad=True) for _ in range(3)]

    def again():
        nonlocal made
        made += 1
        return x.detach() + 1

    y = x + 1  # nothing but the products keeps it
    storage = weakref.ref(y.untyped_storage())
    with made_again(y, again):
        out = sum((y @ w).sum() for w in weights)
    del y
    assert storage() is None and made == 0
    out.backward(retain_graph=True)
    assert made == 1
    wanted = (x.detach() + 1).sum(0)[:, None].expand(8, 8)
    assert all(torch.allclose(w.grad, wanted) for w in weights)
    out.backward()  # a graph that was kept asks a second time
    assert made > 1
    assert all(torch.allclose(w.grad, 2 * wanted) for w in weights)


def test_parts_of_it_and_other_tensors_are_kept_themselves():
    y, other = torch.randn(6, 4, requires_grad=True), torch.randn(6, 4)
    kept = []
    with looked_at(kept.append), made_again(y, lambda: pytest.fail("made again for nothing")):
        (y[:3].square().sum() + (y.detach() * other).sum() + (other * y).sum()).backward()
    assert any(t.shape == (3, 4) for t in kept)


def test_without_gradients_and_as_given_nothing_is_done():
    y = torch.randn(6, 4)
    weight = torch.randn(4, 4, requires_grad=True)
    with as_given(), made_again(y, lambda: pytest.fail("made again")):
        (y @ weight).sum().backward()
    with torch.no_grad(), made_again(y, lambda: pytest.fail("made again")), torch.enable_grad():
        (y @ weight).sum().backward()


@pytest.mark.parametrize("width", [16, 17])
def test_a_model_that_is_not_wide_is_given_its_tensors(width, new_model, monkeypatch):
    net = new_model("llama").net
    monkeypatch.setattr(lean, "WIDE", width * net.config.hidden_size // 16)
    assert lean.Lean(net).wide is (width == 16)
