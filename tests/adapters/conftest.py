"""Tiny nets to adapt: a Llama, one with tied embeddings, a GPT-2 (Conv1D)."""

import pytest
import transformers as hf

from tunesmith.model.load import fresh
from tunesmith.text.tokenizer import byte_tokenizer

TOKENIZER = byte_tokenizer()
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
    return lambda name, dtype="fp32": fresh(lambda _: CONFIGS[name](), TOKENIZER, name=name, dtype=dtype, seed=1)


@pytest.fixture(scope="session")
def plain_net():
    """plain_net("llama") -> transformers' own network with the same weights, for PEFT."""

    def make(name):
        ours = fresh(lambda _: CONFIGS[name](), TOKENIZER, name=name, seed=1).net
        net = hf.AutoModelForCausalLM.from_config(CONFIGS[name](), attn_implementation="eager")
        net.load_state_dict(ours.state_dict())
        return net.eval()

    return make
