"""Small tokenizers in the style of published model families, with the public form of their chat templates.

Vocabularies are trained here on a few lines; control tokens, their flags, BOS rules and templates are the families'.
"""

from functools import lru_cache
from pathlib import Path

import pytest
import tokenizers
from hypothesis import settings
from tokenizers import AddedToken, decoders, models, normalizers, pre_tokenizers, processors, trainers

from tunesmith.text.tokenizer import WORDS, Tokenizer

settings.register_profile("unhurried", deadline=None)  # a busy machine is no failure
settings.load_profile("unhurried")

TEMPLATES = Path(__file__).parent / "templates"
CORPUS = [
    "What is the capital of France? The capital of France is Paris.",
    "나는 오늘 학교에 갔다. 카드가 아직 도착하지 않았어요. 환불을 요청합니다.",
    'system user assistant model {"name": "get_weather", "arguments": {"city": "Seoul"}}',
    "You are a helpful assistant.\n\nhello there, how are you?\nfine \n\n\n and you\n",
    "".join(map(chr, range(32, 127))) + "\n\t<|im_end|></s><end_of_turn>",
] * 4

CHATML = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
LLAMA3 = [
    "<|begin_of_text|>",
    "<|end_of_text|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|eot_id|>",
    "<|eom_id|>",
]
GEMMA = ["<pad>", "<eos>", "<bos>", "<start_of_turn>", "<end_of_turn>", "<start_of_image>"]
MISTRAL = ["<unk>", "<s>", "</s>", "[INST]", "[/INST]", "[TOOL_CALLS]", "[AVAILABLE_TOOLS]", "[/AVAILABLE_TOOLS]"]
PHI3 = ["<unk>", "<s>", "</s>", "<|endoftext|>", "<|assistant|>", "<|system|>", "<|end|>", "<|user|>"]
R1 = ["<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<｜User｜>", "<｜Assistant｜>"]

# template -> kind of pieces, special tokens, other added tokens, bos, eos, other ends, whether raw text gets a BOS
FAMILIES = {
    "chatml": ("bytes", CHATML, [], None, "<|im_end|>", [], False),
    "marked": ("bytes", CHATML, [], None, "<|im_end|>", [], False),
    "qwen2.5": ("bytes", CHATML, ["<tool_call>", "</tool_call>"], None, "<|im_end|>", ["<|endoftext|>"], False),
    "qwen3": (
        "bytes",
        CHATML,
        ["<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>", "<think>", "</think>"],
        None,
        "<|im_end|>",
        ["<|endoftext|>"],
        False,
    ),
    "llama3": ("bytes", LLAMA3, [], "<|begin_of_text|>", "<|eot_id|>", ["<|end_of_text|>"], True),
    "llama3.1": ("bytes", LLAMA3, [], "<|begin_of_text|>", "<|eot_id|>", ["<|eom_id|>"], True),
    "llama2": ("words", ["<unk>", "<s>", "</s>"], [], "<s>", "</s>", [], True),
    "gemma": ("spaces", GEMMA, [], "<bos>", "<eos>", ["<end_of_turn>"], True),
    "gemma3": ("spaces", GEMMA, [], "<bos>", "<eos>", ["<end_of_turn>"], True),
    "mistral": ("words", [*MISTRAL, "[TOOL_RESULTS]", "[/TOOL_RESULTS]"], [], "<s>", "</s>", [], True),
    "phi3": ("words", PHI3, [], "<s>", "<|endoftext|>", ["<|end|>"], False),
    "zephyr": ("words", ["<unk>", "<s>", "</s>"], [], "<s>", "</s>", [], True),
    "deepseek-r1": ("bytes", R1, ["<think>", "</think>"], R1[0], R1[1], [], True),
}
PLAIN = ["chatml", "qwen2.5", "llama3", "llama3.1", "llama2", "gemma3", "mistral", "phi3", "zephyr"]


@lru_cache
def family(name: str) -> Tokenizer:
    """A tokenizer as the family's, with its chat template."""
    kind, special, ordinary, bos, eos, stops, adds_bos = FAMILIES[name]
    backend = _backend(kind, special)
    rstrip = name == "phi3"
    backend.add_special_tokens([AddedToken(token, normalized=False, rstrip=rstrip) for token in special])
    backend.add_tokens([AddedToken(token, normalized=False) for token in ordinary])
    if adds_bos:
        backend.post_processor = processors.TemplateProcessing(
            single=f"{bos} $A", pair=f"{bos} $A {bos}:1 $B:1", special_tokens=[(bos, backend.token_to_id(bos))]
        )
    config = {"eos_token": eos, "pad_token": special[0]} | ({"bos_token": bos} if bos else {})
    ends = [backend.token_to_id(token) for token in [eos, *stops]]
    template = (TEMPLATES / f"{name}.jinja").read_text(encoding="utf-8").removesuffix("\n")
    return Tokenizer(backend, config=config, chat_template=template, generation={"eos_token_id": ends})


def _backend(kind: str, special: list[str]) -> tokenizers.Tokenizer:
    backend = tokenizers.Tokenizer(models.BPE(unk_token="<unk>" if "<unk>" in special else None))
    alphabet = ["\n"]
    if kind == "bytes":
        split = pre_tokenizers.Split(tokenizers.Regex(WORDS), "isolated")
        backend.pre_tokenizer = pre_tokenizers.Sequence(
            [split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
        )
        backend.decoder = decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
    elif kind == "words":  # SentencePiece of Llama 2 and Mistral: a space before the text
        backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
        backend.decoder = decoders.Metaspace(prepend_scheme="first", split=False)
    else:  # Gemma: spaces are ▁, none is put before
        backend.normalizer = normalizers.Replace(" ", "▁")
        backend.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
        backend.decoder = decoders.Replace("▁", " ")
    trainer = trainers.BpeTrainer(
        vocab_size=700, special_tokens=special, initial_alphabet=alphabet, show_progress=False, max_token_length=12
    )
    lines = [line for text in CORPUS for line in text.split("\n")]  # as in the originals, no piece crosses a line's end
    backend.train_from_iterator(lines, trainer)
    return backend


@lru_cache
def oracle(name: str):
    """The same tokenizer loaded by transformers from the files we save."""
    import tempfile

    import transformers

    with tempfile.TemporaryDirectory() as folder:
        family(name).save(folder)
        return transformers.AutoTokenizer.from_pretrained(folder)


@pytest.fixture
def families():
    return family


@pytest.fixture
def oracles():
    return oracle
