"""Random Llama models of three sizes, written once as ordinary folders that both sides load."""

from pathlib import Path

SHAPES = {
    "10M": {"hidden_size": 256, "num_hidden_layers": 10, "intermediate_size": 704},  # 9.5M at vocabulary 8192
    "30M": {"hidden_size": 512, "num_hidden_layers": 8, "intermediate_size": 1408},  # 27.8M
    "100M": {"hidden_size": 768, "num_hidden_layers": 14, "intermediate_size": 2048},
}


def build(work: Path, size: str, vocab: int) -> Path:
    """Write `llama-SIZE-VOCAB` with tied embeddings, grouped-query attention and the byte tokenizer; returns the folder."""
    folder = work / f"llama-{size}-{vocab}"
    if (folder / "model.safetensors").exists():
        return folder
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from tunesmith.text.tokenizer import byte_tokenizer

    tokenizer = byte_tokenizer()
    torch.manual_seed(0)
    config = LlamaConfig(
        **SHAPES[size],
        vocab_size=vocab,
        num_attention_heads=8,
        num_key_value_heads=4,
        max_position_embeddings=2048,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos,
        pad_token_id=tokenizer.pad,
        attention_dropout=0.0,
    )
    tokenizer.save(folder)
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder
