"""full: every parameter trains, and the result is a plain model."""

import torch
import transformers as hf

from tunesmith.adapters.full import Full
from tunesmith.adapters.lora import Lora
from tunesmith.model.load import load
from tunesmith.model.save import save
from tunesmith.objectives.sft import Sft
from tunesmith.step.step import backward


def logits(net, ids):
    with torch.no_grad():
        return net(input_ids=ids, use_cache=False).logits


def test_every_parameter_trains_also_those_another_adapter_froze(make_units):
    model = load("pico", seed=0)
    lora = Lora(rank=2)
    lora.attach(model.net)
    lora.merge(model.net)
    assert not all(p.requires_grad for p in model.net.parameters())
    assert Full().attach(model.net) == []
    assert all(p.requires_grad for p in model.net.parameters())
    backward(model.policy, Sft(), make_units([9, 14]))
    assert [name for name, p in model.net.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_merging_changes_nothing():
    model = load("pico", seed=0)
    before = {name: p.detach().clone() for name, p in model.net.named_parameters()}
    Full().attach(model.net)
    Full().merge(model.net)
    assert all(torch.equal(before[name], p) for name, p in model.net.named_parameters())


def test_what_was_trained_is_a_model_of_plain_transformers(make_units, tmp_path):
    model, units = load("pico", seed=0), make_units([9, 14])
    Full().attach(model.net)
    start = backward(model.policy, Sft(), units).loss
    with torch.no_grad():
        for parameter in model.net.parameters():
            parameter -= 0.1 * parameter.grad
            parameter.grad = None
    assert backward(model.policy, Sft(), units).loss < start
    save(model.net, model.tokenizer, tmp_path / Full.file, dtype="fp32")
    ids = torch.tensor(units[0].examples[0].ids, dtype=torch.int64)[None]
    plain = hf.AutoModelForCausalLM.from_pretrained(tmp_path / Full.file, attn_implementation="eager")
    assert torch.allclose(logits(plain, ids), logits(model.net, ids), atol=1e-5)
