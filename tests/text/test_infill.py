"""Blanks: what is trained on is what is served, the text comes back, nothing is split or lost."""

from pathlib import Path

import numpy as np
import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken, decoders, models, normalizers

from tunesmith.core.errors import SettingError
from tunesmith.text.encode import Text
from tunesmith.text.infill import FAMILIES, blank_of, blanked, cuts, filled, prompt_ids
from tunesmith.text.tokenizer import Tokenizer, byte_tokenizer
from tunesmith.text.too_long import TooLong

TOKENIZER = byte_tokenizer()
TEXT = Text(TOKENIZER, length=4096)
PREFIX, MIDDLE, SUFFIX = (TOKENIZER.id_of(f"<|fim_{name}|>") for name in ("prefix", "middle", "suffix"))


def spaced_tokenizer() -> Tokenizer:
    """In the manner of Code Llama: a space is put before every text, unknown characters are bytes."""
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", *"abcdefghij()=:", "▁a", "ab"]
    vocabulary = {piece: number for number, piece in enumerate(pieces)}
    backend = tokenizers.Tokenizer(
        models.BPE(vocab=vocabulary, merges=[("▁", "a"), ("a", "b")], byte_fallback=True, unk_token="<unk>")
    )
    backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    backend.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    names = FAMILIES["Code Llama"]
    backend.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in ("<s>", "</s>", *names)])
    return Tokenizer(backend, config={"eos_token": "</s>", "bos_token": "<s>"})


def test_both_orders_are_those_of_the_paper():
    blank = blank_of(TOKENIZER)
    a, b, c = (TOKENIZER.encode(letter)[0] for letter in "abc")
    assert blank.example("a", "b", "c").ids.tolist() == [PREFIX, a, SUFFIX, c, MIDDLE, b, TOKENIZER.eos]
    assert blank.example("a", "b", "c", spm=True).ids.tolist() == [PREFIX, SUFFIX, c, MIDDLE, a, b, TOKENIZER.eos]
    assert blank.prompt("a", "c") == [PREFIX, a, SUFFIX, c, MIDDLE]
    assert prompt_ids(TEXT, "a", "c", spm=True) == [PREFIX, SUFFIX, c, MIDDLE, a]


@pytest.mark.parametrize("family", FAMILIES)
def test_the_control_tokens_of_known_families_are_found(family):
    backend = tokenizers.Tokenizer(models.BPE(vocab={"a": 0, "b": 1}, merges=[]))
    names = [name for name in (*FAMILIES[family], "</s>") if name]
    backend.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in names])
    tokenizer = Tokenizer(backend, config={"eos_token": "</s>"})
    blank = blank_of(tokenizer)
    prefix, middle, suffix, end = FAMILIES[family]
    assert (blank.prefix, blank.middle, blank.suffix) == tuple(map(tokenizer.id_of, (prefix, middle, suffix)))
    assert blank.end == tokenizer.id_of(end or "</s>")
    assert set(blank.stops) >= {blank.end, tokenizer.eos}


def test_a_model_without_them_is_told_how_to_get_them():
    backend = tokenizers.Tokenizer(models.BPE(vocab={"a": 0, "b": 1}, merges=[]))
    backend.add_special_tokens(["</s>"])
    tokenizer = Tokenizer(backend, config={"eos_token": "</s>"})
    with pytest.raises(SettingError, match=r'add_tokens: \["<\|fim_prefix\|>"'):
        blank_of(tokenizer)
    tokenizer.add_tokens(["<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>"], special=False)
    typed = blank_of(tokenizer).example("a<|fim_middle|>", "b", "")
    assert typed.ids.tolist().count(tokenizer.id_of("<|fim_middle|>")) == 1, "typing its name writes no control token"


@pytest.mark.parametrize("tokenizer", [TOKENIZER, spaced_tokenizer()], ids=["bytes", "spaced"])
def test_the_text_comes_back(tokenizer):
    blank = blank_of(tokenizer)

    @given(st.text(st.characters(codec="utf-8", exclude_characters="\x00▁"), max_size=40), st.data())
    def check(words, data):
        left, right = sorted(data.draw(st.integers(0, len(words))) for _ in range(2))
        for spm in (False, True):
            example = blank.example(words[:left], words[left:right], words[right:], spm=spm)
            assert blank.undo(example.ids.tolist()) == words

    check()


def test_the_reference_format_of_code_llama():
    """<PRE> prefix with its space, <SUF> suffix without one, <MID>: what codellama's encode_infilling writes."""
    tokenizer = spaced_tokenizer()
    names = [tokenizer.tokens([id])[0] for id in blank_of(tokenizer).prompt("ab", "ab")]
    assert names == ["▁<PRE>", "▁a", "b", "▁<SUF>", "ab", "▁<MID>"]


def test_the_prompt_served_is_the_beginning_of_what_is_trained_on():
    draw = np.random.default_rng(0)
    for words in ("return 1\n", "옛날 옛적에 호랑이가", "e\u0301clair 👩\u200d👩"):
        left, right = cuts(words, draw, TOKENIZER)
        for spm in (False, True):
            served = prompt_ids(TEXT, words[:left], words[right:], spm=spm)
            (example,) = filled(TEXT, words[:left], words[left:right], words[right:], spm=spm)
            assert example.ids[: len(served)].tolist() == served
            assert example.columns["middle"].sum() == len(example) - len(served)


def test_control_tokens_are_never_trained_on_and_the_end_always_is():
    for middle_only in (False, True):
        (example,) = filled(TEXT, "ab", "cd", "ef", middle_only=middle_only)
        trained = example.ids[example.weights > 0].tolist()
        assert not {PREFIX, MIDDLE, SUFFIX} & set(trained)
        assert trained[-1] == TOKENIZER.eos
        assert example.num_trained == (3 if middle_only else 7)


def test_the_rate_is_kept():
    """1,000 texts at rate 0.3: within four standard errors; of the blanks half are suffix first."""
    draw, num = np.random.default_rng(1), 1000
    examples = [blanked(TEXT, "some words", draw, rate=0.3, spm=0.5)[0] for _ in range(num)]
    made = [e.ids.tolist() for e in examples if PREFIX in e.ids]
    assert abs(len(made) / num - 0.3) < 4 * (0.3 * 0.7 / num) ** 0.5
    first = sum(ids[1] == SUFFIX and ids[-2] != MIDDLE for ids in made) / len(made)
    assert abs(first - 0.5) < 4 * (0.25 / len(made)) ** 0.5 + 0.1  # an empty prefix looks suffix first in either order
    plain = [e for e in examples if PREFIX not in e.ids]
    assert {TOKENIZER.decode(e.ids.tolist()) for e in plain} == {"some words"}
    assert all(e.num_trained == len(e) - 1 for e in plain)


def test_blanks_are_drawn_uniformly_over_characters():
    draw = np.random.default_rng(2)
    counts = np.zeros(11)
    for _ in range(4000):
        for at in cuts("0123456789", draw, TOKENIZER):
            counts[at] += 1
    expected = 8000 / 11
    assert ((counts - expected) ** 2 / expected).sum() < 29.6  # chi-square, 10 degrees of freedom, p = 0.001


def test_no_character_and_no_token_is_split():
    backend = byte_tokenizer()
    backend.add_tokens(["<call>"], special=False)
    draw = np.random.default_rng(3)
    for words in ("<call>a<call>", "e\u0301e\u0301e\u0301", "👩\u200d👩\u200d👦", "\r\n\r\n"):
        for _ in range(60):
            for at in cuts(words, draw, backend):
                assert at == 0 or words[at : at + 1] not in ("\u0301", "\u200d", "\n") and words[at - 1] != "\u200d"
                assert words[:at].count("<") == words[:at].count(">")


@pytest.mark.parametrize("whole", [False, True])
def test_a_long_text_is_cut_at_the_level_asked_for(whole):
    words = "".join(f"line {number} 가나다\n" for number in range(60))
    text = Text(TOKENIZER, length=100, too_long="split")
    made = blanked(text, words, np.random.default_rng(4), rate=1.0, spm=0.5, whole=whole)
    assert len(made) > 8
    assert all(len(example) <= 100 for example in made)
    blank = blank_of(TOKENIZER)
    if whole:
        ids = [*made[0].ids.tolist(), *(int(id) for example in made[1:] for id in example.ids[1:])]
        assert blank.undo(ids) == words
        assert sum(PREFIX in example.ids for example in made) == 1
        assert sum(example.columns["middle"][1:].sum() for example in made) > 0
    else:
        assert "".join(blank.undo(example.ids.tolist()) for example in made) == words
        assert all(PREFIX in example.ids for example in made)


def test_left_to_right_stretches_predict_every_token_once():
    words = "word " * 100
    text = Text(TOKENIZER, length=64, too_long="split")
    made = blanked(text, words, np.random.default_rng(0), rate=0.0, spm=0.5)
    assert len(made) > 5
    assert sum(example.num_trained for example in made) == len(
        TOKENIZER.encode(words)
    )  # all but the first, and the end
    assert all(len(example) <= 64 for example in made)


def test_what_is_too_long_is_refused_dropped_or_trimmed_far_from_the_blank():
    before, after = "b" * 50, "c" * 50
    with pytest.raises(TooLong):
        filled(Text(TOKENIZER, length=30), before, "mid", after)
    assert filled(Text(TOKENIZER, length=30, too_long="drop"), before, "mid", after).dropped
    for spm in (False, True):
        (example,) = filled(
            Text(TOKENIZER, length=30, too_long="trim_prompt"), before + "X", "mid", "Y" + after, spm=spm
        )
        assert len(example) == 30
        written = blank_of(TOKENIZER).undo(example.ids.tolist())
        assert "XmidY" in written and written.strip("bc") == "XmidY"
    with pytest.raises(TooLong, match="never cuts"):
        filled(Text(TOKENIZER, length=8, too_long="trim_prompt"), "a", "much too long", "b")
    assert len(prompt_ids(TEXT, before, after, room=20)) == 20
    assert len(prompt_ids(TEXT, "a", after, room=20)) == 20


def test_mini_has_its_tokens():
    folder = Path(__file__).parents[2] / "src/tunesmith/model/embedded_models/mini"
    if not (folder / "tokenizer.json").is_file():
        pytest.skip("mini is not built here")
    tokenizer = Tokenizer(folder)
    words = 'fn main() { println!("안녕"); }'
    for left in range(len(words)):
        assert (
            blank_of(tokenizer).undo(blank_of(tokenizer).example(words[:left], words[left:], "").ids.tolist()) == words
        )
