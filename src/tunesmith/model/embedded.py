"""Models that come with the package: `mini`, the pre-trained bilingual base, and `pico`, one layer for tests.

folder("mini")  -> its folder, with config.json, model.safetensors, tokenizer.json, README.md (the model card)
pico(seed=0)    -> a fresh one-layer Llama over bytes, built in milliseconds
"""

from pathlib import Path
from typing import Any

NAMES = ("mini", "pico")


def folder(name: str) -> Path:
    """Where an embedded model's files lie; they may be missing in a checkout whose weights were not built."""
    return Path(__file__).parent / "embedded_models" / name


def mini_config(vocab_size: int):
    """The architecture of `mini`: a Llama decoder that trains on two cores and still reads 1,024 tokens."""
    return _llama(
        vocab_size,
        hidden_size=256,
        intermediate_size=704,
        num_hidden_layers=6,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=64,
        max_position_embeddings=1024,
        rms_norm_eps=1e-5,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
        initializer_range=0.02,
        attention_dropout=0.0,
    )


def pico_config(vocab_size: int):
    """One layer, a few thousand parameters: what tests train."""
    return _llama(
        vocab_size,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=512,
    )


def _llama(vocab_size: int, **sizes: Any):
    """A tied Llama that speaks the control tokens of text/tokenizer.py: 0 ends a text, 5 a turn, 14 pads."""
    from transformers import LlamaConfig

    return LlamaConfig(
        vocab_size=vocab_size,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=[0, 5],
        pad_token_id=14,
        **sizes,
    )
