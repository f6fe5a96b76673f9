"""Tiny random models of many architectures for the tests of the model room."""

from functools import cache

import pytest
import transformers as hf

from tunesmith.model import compiled
from tunesmith.model.load import fresh
from tunesmith.text.tokenizer import byte_tokenizer

TOKENIZER = byte_tokenizer()
VOCAB = TOKENIZER.vocab_size
NO_IDS = {"pad_token_id": None, "bos_token_id": None, "eos_token_id": None}
SIZES = {
    "vocab_size": VOCAB, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 256, "initializer_range": 0.2, **NO_IDS,
}  # fmt: skip
# Sliding windows are shorter than the documents of the tests.
CONFIGS = {
    "llama": lambda: hf.LlamaConfig(**SIZES),
    "llama_tied": lambda: hf.LlamaConfig(**SIZES, tie_word_embeddings=True),
    "qwen2": lambda: hf.Qwen2Config(**SIZES),
    "qwen3": lambda: hf.Qwen3Config(**SIZES, head_dim=8),
    "mistral": lambda: hf.MistralConfig(**SIZES, sliding_window=None),
    "mistral_window": lambda: hf.MistralConfig(**SIZES, sliding_window=6),
    "gemma2": lambda: hf.Gemma2Config(
        **SIZES, head_dim=8, sliding_window=6, query_pre_attn_scalar=8, final_logit_softcapping=3.0, attn_logit_softcapping=5.0
    ),
    "gemma3": lambda: hf.Gemma3TextConfig(**SIZES, head_dim=8, sliding_window=6, query_pre_attn_scalar=8),
    "phi3": lambda: hf.Phi3Config(**SIZES),
    "gpt2": lambda: hf.GPT2Config(
        vocab_size=VOCAB, n_embd=32, n_layer=2, n_head=4, n_positions=256, initializer_range=0.2, resid_pdrop=0.0,
        embd_pdrop=0.0, attn_pdrop=0.0, **NO_IDS,
    ),
    "granite": lambda: hf.GraniteConfig(**SIZES, logits_scaling=2.0, residual_multiplier=0.5),
    "cohere": lambda: hf.CohereConfig(**SIZES, logit_scale=0.25),
    "mixtral": lambda: hf.MixtralConfig(**SIZES, num_local_experts=4, sliding_window=None),
    "qwen3_moe": lambda: hf.Qwen3MoeConfig(
        **SIZES, head_dim=8, num_experts=4, num_experts_per_tok=2, moe_intermediate_size=24
    ),
    "phimoe_window": lambda: hf.PhimoeConfig(**SIZES, num_local_experts=2, sliding_window=6),
    "gpt_oss": lambda: hf.GptOssConfig(
        **SIZES, head_dim=8, num_local_experts=4, num_experts_per_tok=2, sliding_window=6,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
    ),
    "mamba2": lambda: hf.Mamba2Config(
        vocab_size=VOCAB, hidden_size=32, num_hidden_layers=2, state_size=8, head_dim=8, num_heads=8, n_groups=1, expand=2,
        chunk_size=8, **NO_IDS,
    ),
    "jamba": lambda: hf.JambaConfig(
        **SIZES, attn_layer_period=2, attn_layer_offset=1, expert_layer_period=2, expert_layer_offset=1, num_experts=2,
        mamba_d_state=4, mamba_dt_rank=4,
    ),
}  # fmt: skip
PADDED = {
    "phimoe_window": "sliding window",
    "gpt_oss": "own attention",
    "mamba2": "see each other",
    "jamba": "see each other",
}


@pytest.fixture(params=[*CONFIGS])
def architecture(request):
    """The name of each architecture of the matrix, one after another."""
    return request.param


@pytest.fixture(scope="session")
def why_padded():
    """why_padded("mamba2") -> a word of the reason why it is not packed; None for those that are."""
    return PADDED.get


@pytest.fixture(scope="session")
def tokenizer():
    return TOKENIZER


@cache
def _made(name: str, dtype: str):
    return fresh(lambda _: CONFIGS[name](), TOKENIZER, name=name, dtype=dtype, seed=1)


@pytest.fixture(scope="session")
def model_of():
    """model_of("gemma2") -> the one Model of that name; its weights are shared by all tests, so leave them as they are."""
    return lambda name, dtype="fp32": _made(name, dtype)


@pytest.fixture(scope="session")
def new_model():
    """new_model("gemma2") -> a Model of one's own, with the same weights."""
    return lambda name, dtype="fp32": fresh(lambda _: CONFIGS[name](), TOKENIZER, name=name, dtype=dtype, seed=1)


@pytest.fixture(scope="session")
def plain_net():
    """plain_net("gemma2") -> transformers' own network of the same weights, with its own attention."""

    def make(name: str, dtype: str = "fp32"):
        ours = _made(name, dtype).net
        net = hf.AutoModelForCausalLM.from_config(CONFIGS[name](), attn_implementation="eager").to(
            next(ours.parameters()).dtype
        )
        net.load_state_dict(ours.state_dict())
        return net.eval()

    return make


@pytest.fixture
def with_lanes(monkeypatch):
    """with_lanes(8): the kernels are built with vectors of so many floats, whichever this processor's are, until the test ends."""

    def build(number):
        monkeypatch.setattr(compiled, "FLAGS", (*compiled.FLAGS, f"-DLANES={number}"))
        compiled.shared_library.cache_clear()

    yield build
    compiled.shared_library.cache_clear()


@pytest.fixture(params=[8, 16])
def lanes(request, with_lanes):
    """The kernels with vectors of 8 floats and of 16."""
    with_lanes(request.param)
