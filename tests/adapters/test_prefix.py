"""Prefix tuning against PEFT: logits, gradients and files both ways, padded and generated; a copy has its own prefix."""

import copy

import peft
import pytest
import torch
import transformers as hf

from tunesmith.adapters._prefix import _wider
from tunesmith.adapters.prefix import Prefix
from tunesmith.adapters.store import attach, merge, open_adapter, save_adapter
from tunesmith.core.errors import ModelError, SettingError
from tunesmith.model.generate import generate
from tunesmith.objectives.sft import Sft
from tunesmith.step.step import backward
from tunesmith.testing import check_adapter
from tunesmith.train.recompute import checkpoint_activations

KINDS = ["llama", "tied", "gpt2"]


def tuned(new_model, kind, shake, virtual=3):
    model, adapter = new_model(kind), Prefix(virtual=virtual)
    names = attach(adapter, model, seed=3)
    shake(model.net, 0.5)
    return model, adapter, names


@pytest.mark.parametrize("kind", KINDS)
def test_peft_reads_our_file_with_our_logits_and_gradients(
    kind, new_model, plain_net, base_of, shake, logits, near, make_units, labels_loss, tmp_path
):
    model, adapter, names = tuned(new_model, kind, shake)
    folder = save_adapter(model, adapter, names, tmp_path / "a", base=str(base_of(kind)))
    theirs = peft.PeftModel.from_pretrained(plain_net(kind), folder).eval()
    theirs.active_peft_config.inference_mode = False  # PEFT loads them to be read only
    theirs.prompt_encoder.requires_grad_(True)
    ids = torch.arange(3, 40)[None]
    with torch.no_grad():
        wanted = theirs(input_ids=ids).logits
    assert near(logits(model.net), wanted) and near(logits(open_adapter(folder).net), wanted)
    units = make_units([5, 17, 9])
    expected = labels_loss(theirs, units)
    expected.backward()
    assert model.policy.layout == "padded" and model.policy.lean is None
    assert backward(model.policy, Sft(), units).loss == pytest.approx(expected.item(), rel=1e-5)
    gradient = theirs.prompt_encoder["default"].embedding.weight.grad
    assert gradient.any() and near(model.net.base_model.prefix.prompt.grad, gradient)


@pytest.mark.parametrize("kind", KINDS)
def test_what_peft_trained_is_read_by_projection_too(kind, plain_net, base_of, shake, logits, near, tmp_path):
    torch.manual_seed(0)
    for number, projection in enumerate((False, True)):
        config = peft.PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=4, prefix_projection=projection)
        theirs = peft.get_peft_model(plain_net(kind), config)
        shake(theirs)
        theirs.eval().save_pretrained(tmp_path / f"a{number}")
        with torch.no_grad():
            wanted = theirs(input_ids=torch.arange(3, 40)[None]).logits
        assert near(logits(open_adapter(tmp_path / f"a{number}", base=str(base_of(kind))).net), wanted)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("path", ["auto", "grouped", "merged", "whole"])
def test_generated_tokens_are_pefts(kind, path, new_model, plain_net, base_of, shake, tmp_path):
    model, adapter, names = tuned(new_model, kind, shake)
    folder = save_adapter(model, adapter, names, tmp_path / "a", base=str(base_of(kind)))
    theirs = peft.PeftModel.from_pretrained(plain_net(kind), folder).eval()
    prompts = [[5, 6, 7], [9, 8, 7, 6, 5], [5, 6, 7, 11]]
    answers = generate(model, prompts, max_tokens=6, eos_ids=(), path=path, batch=2)
    for prompt, answer in zip(prompts, answers):
        ids = list(prompt)
        for _ in range(6):
            with torch.no_grad():
                ids.append(int(theirs(input_ids=torch.tensor([ids])).logits[0, -1].argmax()))
        assert answer.ids == ids[len(prompt) :]


def test_it_starts_as_words_that_stand_before_the_text(new_model, near):
    model, base = new_model("llama"), new_model("llama")
    attach(Prefix(virtual=5, text="ab"), model)
    words = [model.tokenizer.encode("ab")[number % 2] for number in range(5)]
    with torch.no_grad():
        wanted = base.net(input_ids=torch.tensor([[*words, *range(3, 20)]])).logits[:, 5:]
        assert near(model.net(input_ids=torch.arange(3, 20)[None]).logits, wanted)


def test_the_mask_shows_the_prefix_behind_the_padding_on_the_left():
    mask = torch.tensor([[1, 1, 1, 0], [0, 0, 1, 1], [1, 1, 1, 1]])
    assert _wider(mask, 2).tolist() == [[1, 1, 1, 1, 1, 0], [0, 0, 1, 1, 1, 1], [1, 1, 1, 1, 1, 1]]


def test_a_copy_of_the_network_has_its_own(new_model, shake, logits):
    model, _, _ = tuned(new_model, "llama", shake)
    frozen = copy.deepcopy(model.net)
    before = logits(frozen)
    shake(model.net)
    assert torch.equal(logits(frozen), before) and not torch.equal(logits(model.net), before)


def test_the_context_counts_its_places(new_model, shake):
    model, _, _ = tuned(new_model, "llama", shake, virtual=20)
    assert model.context == 128 - 20
    generate(model, [[5] * 98], max_tokens=10, eos_ids=())
    with pytest.raises(ModelError, match="over the model's context"):
        generate(model, [[5] * 99], max_tokens=10, eos_ids=())


def test_what_it_cannot_do_is_told(new_model, shake, base_of, make_units, tmp_path):
    model, adapter, names = tuned(new_model, "llama", shake)
    opened = open_adapter(save_adapter(model, adapter, names, tmp_path / "a", base=str(base_of("llama"))))
    with pytest.raises(ModelError, match="cannot be merged"):
        merge(opened)
    model.net.train()
    checkpoint_activations(model.net, True)
    with pytest.raises(SettingError, match="checkpointing"):
        backward(model.policy, Sft(), make_units([5, 9]))
    t5 = hf.T5ForConditionalGeneration(
        hf.T5Config(vocab_size=40, d_model=16, d_kv=8, d_ff=24, num_layers=1, num_heads=2)
    )
    with pytest.raises(SettingError, match="another kind of memory"):
        Prefix().attach(t5)


def test_keeps_what_the_shelf_promises():
    check_adapter(Prefix(virtual=4))
