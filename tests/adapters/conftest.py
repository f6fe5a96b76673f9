"""Tiny nets to adapt: a Llama, one with tied embeddings, a GPT-2 (Conv1D)."""

import pytest
import torch
import transformers as hf

from tunesmith.model.load import fresh
from tunesmith.text.tokenizer import byte_tokenizer

NO_IDS = {"pad_token_id": None, "bos_token_id": None, "eos_token_id": None}
LLAMA = {
    "vocab_size": 288, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 128, "initializer_range": 0.2, **NO_IDS,
}  # fmt: skip
CONFIGS = {
    "llama": lambda: hf.LlamaConfig(**LLAMA),
    "tied": lambda: hf.LlamaConfig(**LLAMA, tie_word_embeddings=True),
    "gpt2": lambda: hf.GPT2Config(
        vocab_size=288, n_embd=32, n_layer=2, n_head=4, n_positions=128, initializer_range=0.2, resid_pdrop=0.0,
        embd_pdrop=0.0, attn_pdrop=0.0, **NO_IDS,
    ),
    "mixtral": lambda: hf.MixtralConfig(**LLAMA, num_local_experts=4, sliding_window=None),
}  # fmt: skip


@pytest.fixture(scope="session")
def new_model():
    """new_model("llama") -> a Model of one's own; equal names have equal weights."""
    return lambda name, dtype="fp32": fresh(lambda _: CONFIGS[name](), byte_tokenizer(), name=name, dtype=dtype, seed=1)


@pytest.fixture(scope="session")
def plain_net():
    """plain_net("llama") -> transformers' own network with the same weights, for PEFT."""

    def make(name):
        ours = fresh(lambda _: CONFIGS[name](), byte_tokenizer(), name=name, seed=1).net
        net = hf.AutoModelForCausalLM.from_config(CONFIGS[name](), attn_implementation="eager")
        net.load_state_dict(ours.state_dict())
        return net.eval()

    return make


IDS = torch.arange(3, 40)[None]


def logits(net, ids=IDS):
    """What a network says, without gradients."""
    net.eval()
    with torch.no_grad():
        return net(input_ids=ids, use_cache=False).logits


def shake(net, size=0.1, seed=2):
    """Move everything that trains: most adapters start where they do nothing."""
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for _, parameter in sorted(net.named_parameters()):
            if parameter.requires_grad:
                parameter += size * torch.randn(parameter.shape, generator=draw)


def near(one, other, tolerance=1e-5):
    """Equal to the rounding of fp32, relative to the largest number."""
    return one.shape == other.shape and (one - other).abs().max() <= tolerance * max(1.0, other.abs().max().item())


@pytest.fixture(name="logits", scope="session")
def _logits():
    """logits(net), logits(net, ids)"""
    return logits


@pytest.fixture(name="near", scope="session")
def _near():
    """near(one, other, tolerance=1e-5)"""
    return near


@pytest.fixture(name="shake", scope="session")
def _shake():
    """shake(net): everything that trains moves"""
    return shake


@pytest.fixture
def base_of(new_model, tmp_path):
    """base_of("llama") -> the folder of that model's base."""
    from tunesmith.model.save import save

    def make(name):
        made = new_model(name)
        return save(made.net, made.tokenizer, tmp_path / f"base-{name}", dtype="fp32")

    return make


@pytest.fixture
def ours_in_peft(new_model, plain_net, base_of, tmp_path, make_units, labels_loss):
    """ours_in_peft(adapter, "llama"): PEFT reads what we save, with our logits and gradients; so do we. -> (ours, opened, PEFT's)

    names(name of PEFT's) -> ours, None = not compared
    """
    import peft

    from tunesmith.adapters.store import attach, open_adapter, save_adapter
    from tunesmith.objectives.sft import Sft
    from tunesmith.step.step import backward

    def check(adapter, name, names=None, ids=IDS):
        base, model = base_of(name), new_model(name)
        targets = attach(adapter, model, seed=3)
        shake(model.net)
        folder = save_adapter(model, adapter, targets, tmp_path / f"ours-{name}", base=str(base))
        wanted = logits(model.net, ids)
        opened = open_adapter(folder)
        assert near(logits(opened.net, ids), wanted, 1e-6)
        assert type(opened.adapter) is type(adapter)
        theirs = peft.PeftModel.from_pretrained(plain_net(name), str(folder), is_trainable=True).eval()
        assert near(logits(theirs, ids), wanted)
        if names is not None:
            units = make_units([5, 17, 9])
            model.net.train(False)
            backward(model.policy, Sft(), units)
            labels_loss(theirs, units).backward()
            gradients = {n: p.grad for n, p in model.net.named_parameters() if p.requires_grad}
            compared = 0
            for their_name, parameter in theirs.named_parameters():
                if parameter.requires_grad and (mine := names(their_name.replace(".default", ""))):
                    compared += 1
                    assert parameter.grad is not None and parameter.grad.any(), their_name
                    assert near(gradients[mine].view_as(parameter), parameter.grad), their_name
            assert compared == len(gradients)
            model.net.zero_grad()
        return model, opened, theirs

    return check


@pytest.fixture
def peft_in_ours(plain_net, base_of, tmp_path):
    """peft_in_ours(config, "llama") -> our model of what PEFT saved: it gives PEFT's logits, and so do its merged weights."""
    import peft

    from tunesmith.adapters.store import merge, open_adapter

    def check(config, name, ids=IDS, merges=True):
        torch.manual_seed(0)  # PEFT draws from the global generator
        theirs = peft.get_peft_model(plain_net(name), config)
        shake(theirs)
        theirs.save_pretrained(tmp_path / f"theirs-{name}")
        wanted = logits(theirs, ids)
        opened = open_adapter(tmp_path / f"theirs-{name}", base=str(base_of(name)))
        assert near(logits(opened.net, ids), wanted)
        if merges:
            merged = merge(open_adapter(tmp_path / f"theirs-{name}", base=str(base_of(name))))
            assert near(logits(merged.net, ids), wanted)
        return opened

    return check
