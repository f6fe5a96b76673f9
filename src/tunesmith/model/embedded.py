"""Models that come with the package: `mini`, the pre-trained bilingual base, and `pico`, one layer for tests.

folder("mini")  -> its folder, with config.json, model.safetensors, tokenizer.json, README.md (the model card)
pico(seed=0)    -> a fresh one-layer Llama over bytes, built in milliseconds

Made on the spot with random weights, to be pre-trained: `pico-encoder` (BERT over bytes), `pico-t5` (encoder-decoder over
bytes), `mini-encoder` (BERT over the vocabulary of `mini`).
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tunesmith.text.tokenizer import Tokenizer

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


def pico_encoder_config(vocab_size: int):
    """One layer of BERT, for tests."""
    return _bert(
        vocab_size, hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2, max_position_embeddings=512
    )  # fmt: skip


def mini_encoder_config(vocab_size: int):
    """Four layers of BERT: what two cores pre-train in minutes."""
    return _bert(
        vocab_size, hidden_size=192, intermediate_size=768, num_hidden_layers=4, num_attention_heads=3, max_position_embeddings=256
    )  # fmt: skip


def pico_t5_config(vocab_size: int):
    """An encoder and a decoder of two layers each."""
    from transformers import T5Config

    return T5Config(
        vocab_size=vocab_size, d_model=32, d_kv=16, d_ff=64, num_layers=2, num_heads=2, dropout_rate=0.0,
        feed_forward_proj="gated-gelu", tie_word_embeddings=False, pad_token_id=14, eos_token_id=0, decoder_start_token_id=14,
    )  # fmt: skip


# name -> its architecture for a vocabulary of that size
CONFIGS: Mapping[str, Callable[[int], Any]] = {
    "pico": pico_config, "pico-encoder": pico_encoder_config, "pico-t5": pico_t5_config, "mini-encoder": mini_encoder_config,
}  # fmt: skip

ALL = tuple(dict.fromkeys((*NAMES, *CONFIGS)))  # every name that needs no folder


def speak_as(tokenizer: "Tokenizer", name: str) -> None:
    """Set what a tokenizer of ours puts around texts: CLS a SEP b SEP for encoders, the end of the text for T5; no chat."""
    end = "<|endoftext|>" if name == "pico-t5" else "<|sep|>"
    start = [] if name == "pico-t5" else ["<|cls|>"]
    tokenizer.config["pad_token"] = "<|pad|>"
    if start:
        tokenizer.config.update(cls_token="<|cls|>", sep_token="<|sep|>", mask_token="<|mask|>")
        tokenizer.config["model_input_names"] = ["input_ids", "token_type_ids", "attention_mask"]
    tokenizer.chat_templates = {}
    tokenizer.generation = {}
    tokenizer.set_around([*start, "$A", end], [*start, "$A", end, "$B:1", f"{end}:1"])


def _bert(vocab_size: int, **sizes: Any):
    """BERT without dropout, which short pre-training does not need (Lan et al. 2019, arXiv 1909.11942, section 4.9)."""
    from transformers import BertConfig

    return BertConfig(
        vocab_size=vocab_size, pad_token_id=14, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, **sizes
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
