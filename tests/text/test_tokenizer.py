import json
import sys
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunesmith.core.errors import DataError, ModelError, SettingError
from tunesmith.text.tokenizer import CONTROL_TOKENS, Tokenizer, byte_tokenizer
from tunesmith.text.train_tokenizer import BERT_TOKENS, bert_style, train_tokenizer, wordpiece_backend

BYTES = byte_tokenizer()
ODD = [
    "",
    " ",
    "\n\n",
    "\u00e9",
    "e\u0301",
    "\u1100\u1161\u11a8",
    "각",
    "👩\u200d👩\u200d👧🏽",
    "\x00\x7f",
    "\ufdd0\ufffe\uffff",
]
ODD += ["\U000f0000", "a\u202eb", "가\r\n나", "<|end|>", "  x  ", "\U0010ffff", "\u3164", "\ufeffx"]


def test_byte_tokenizer_is_the_control_tokens_then_the_bytes():
    assert BYTES.vocab_size == 32 + 256
    assert [BYTES.id_of(token) for token in CONTROL_TOKENS] == list(range(32))
    assert CONTROL_TOKENS[0] == "<|endoftext|>" and CONTROL_TOKENS[5] == "<|end|>" and len(set(CONTROL_TOKENS)) == 32
    assert (BYTES.bos, BYTES.eos, BYTES.pad, BYTES.eos_ids, BYTES.adds_bos) == (None, 0, 0, (0, 5), False)
    assert len(BYTES.encode("A가")) == 4  # one byte and three


@pytest.mark.parametrize("text", ODD)
def test_odd_texts_come_back_unchanged(text):
    assert BYTES.decode(BYTES.encode(text), skip_special=False) == text


@given(st.text())
def test_any_text_comes_back_unchanged(text):
    assert BYTES.decode(BYTES.encode(text), skip_special=False) == text


def test_control_tokens_typed_by_people_stay_text():
    typed = BYTES.encode("<|end|>")
    assert 5 not in typed and len(typed) == len("<|end|>")
    assert BYTES.encode("<|user|>a<|end|>", special=True) == [2, BYTES.encode("a")[0], 5]
    assert BYTES.decode([2, *BYTES.encode("a"), 5]) == "a"
    assert BYTES.encode_many(["<|end|>", "a"]) == [typed, BYTES.encode("a")]


def test_two_threads_do_not_switch_each_other():
    wrong = []

    def work(special, expected):
        for _ in range(300):
            if BYTES.encode("<|end|>", special=special) != expected:
                wrong.append(special)

    jobs = [(True, [5]), (False, BYTES.encode("<|end|>"))] * 2
    threads = [threading.Thread(target=work, args=job) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_half_an_emoji_is_named():
    with pytest.raises(DataError, match=r"U\+D83D, a lone surrogate\) at 3"):
        BYTES.encode("hi \ud83d")
    with pytest.raises(DataError, match="is a int"):
        BYTES.encode_many(["a", 3])  # type: ignore[list-item]


KLUE = {
    "[CLS]": 0, "토크": 9157, "##나이": 7461, "##저": 2190, "##는": 2259, "텍스트": 8509, "##를": 2138, "토": 1793,
    "##큰": 2855, "단위": 5385, "##로": 2200, "나눈다": 20950, "[SEP]": 2, "[PAD]": 1, "[UNK]": 3, "[MASK]": 4,
}  # fmt: skip


def test_the_books_example_is_exact():
    """klue/roberta-base, its 13 entries pinned at their ids (requirement A3)."""
    tokenizer = bert_style(wordpiece_backend(KLUE))
    batch = tokenizer.batch(["토크나이저는 텍스트를 토큰 단위로 나눈다"])
    ids = [0, 9157, 7461, 2190, 2259, 8509, 2138, 1793, 2855, 5385, 2200, 20950, 2]
    assert batch.ids.tolist() == [ids]
    assert batch.token_type_ids.tolist() == [[0] * 13] and batch.attention_mask.tolist() == [[1] * 13]
    assert " ".join(tokenizer.tokens(ids)) == "[CLS] 토크 ##나이 ##저 ##는 텍스트 ##를 토 ##큰 단위 ##로 나눈다 [SEP]"
    assert tokenizer.decode(ids, skip_special=False) == "[CLS] 토크나이저는 텍스트를 토큰 단위로 나눈다 [SEP]"
    assert tokenizer.decode(ids) == "토크나이저는 텍스트를 토큰 단위로 나눈다"


@pytest.fixture(scope="module")
def bert():
    words = {token: id for id, token in enumerate([*BERT_TOKENS, "a", "b", "c", "d"])}
    return bert_style(wordpiece_backend(words))


def test_pairs_are_cls_a_sep_b_sep_with_types(bert):
    batch = bert.batch(["a b", "c"], ["d", "d"])
    assert batch.ids.tolist() == [[2, 5, 6, 3, 8, 3], [2, 7, 3, 8, 3, 0]]
    assert batch.token_type_ids.tolist() == [[0, 0, 0, 0, 1, 1], [0, 0, 0, 1, 1, 0]]
    assert batch.attention_mask.tolist() == [[1] * 6, [1] * 5 + [0]]


def test_padding_and_truncation(bert):
    assert bert.batch(["a"], padding="max_length", max_length=5).ids.tolist() == [[2, 5, 3, 0, 0]]
    assert bert.batch(["a b c d"], truncation=True, max_length=4).ids.tolist() == [[2, 5, 6, 3]]
    pair = bert.batch(["a b c"], ["d"], truncation=True, max_length=6)
    assert pair.ids.tolist() == [[2, 5, 6, 3, 8, 3]]  # the longer of the two is cut
    with pytest.raises(DataError, match="6 tokens, max_length is 4"):
        bert.batch(["a b c d"], max_length=4)
    with pytest.raises(SettingError, match="max_length is missing"):
        bert.batch(["a"], padding="max_length")
    with pytest.raises(SettingError, match="padding: all"):
        bert.batch(["a"], padding="all")
    assert bert.batch(["a b c d"]).ids.shape == (1, 6)  # a cut does not stay switched on


def test_batch_equals_transformers(bert, tmp_path):
    import transformers

    bert.save(tmp_path)
    other = transformers.AutoTokenizer.from_pretrained(tmp_path)
    texts, pairs = ["a b c d", "a", ""], ["b", "c d", "a"]
    for options in ({"padding": "longest"}, {"padding": "max_length", "max_length": 7, "truncation": True}):
        expected = other(texts, pairs, return_token_type_ids=True, **options)
        batch = bert.batch(texts, pairs, **options)
        assert batch.ids.tolist() == expected["input_ids"]
        assert batch.attention_mask.tolist() == expected["attention_mask"]
        assert batch.token_type_ids.tolist() == expected["token_type_ids"]


@settings(deadline=None, max_examples=40)
@given(st.text())
def test_a_saved_folder_gives_equal_ids_in_transformers(saved, text):
    ours, theirs = saved
    assert theirs(text, add_special_tokens=False)["input_ids"] == ours.encode(text, special=True)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    import transformers

    folder = tmp_path_factory.mktemp("tokenizer")
    made = train_tokenizer(["the cat sat on the mat. 나는 학교에 간다."] * 9, vocab=340)
    made.save(folder)
    return Tokenizer(folder), transformers.AutoTokenizer.from_pretrained(folder)


def test_saving_and_opening_keeps_everything(saved, tmp_path):
    ours, theirs = saved
    ours.save(tmp_path)
    again = Tokenizer(tmp_path)
    assert again.eos_ids == (0, 5) == ours.eos_ids and again.chat_template == ours.chat_template
    assert (tmp_path / "chat_template.jinja").read_text() == ours.chat_template
    assert theirs.eos_token == theirs.pad_token == "<|endoftext|>" and len(theirs) == ours.vocab_size
    assert json.loads((tmp_path / "generation_config.json").read_text())["eos_token_id"] == [0, 5]
    again.save(tmp_path)  # writing over itself keeps what stands in generation_config.json


def test_special_tokens_in_every_published_form(saved, tmp_path):
    ours, _ = saved
    ours.save(tmp_path)
    (tmp_path / "chat_template.jinja").unlink()
    (tmp_path / "generation_config.json").write_text('{"eos_token_id": 5, "temperature": 0.6}')
    config = {
        "eos_token": {"__type": "AddedToken", "content": "<|endoftext|>"},
        "chat_template": [{"name": "default", "template": "A"}, {"name": "tool_use", "template": "B"}],
    }
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    (tmp_path / "special_tokens_map.json").write_text('{"bos_token": {"content": "<|cls|>"}, "eos_token": "<|pad|>"}')
    one = Tokenizer(tmp_path)
    assert (one.bos, one.eos, one.pad, one.eos_ids) == (13, 0, 0, (0, 5))
    assert one.chat_templates == {"default": "A", "tool_use": "B"}
    one.save(tmp_path / "copy")
    assert Tokenizer(tmp_path / "copy").chat_templates == one.chat_templates
    kept = json.loads((tmp_path / "copy" / "generation_config.json").read_text())
    assert kept == {"eos_token_id": 5, "temperature": 0.6}
    (tmp_path / "chat_template.jinja").write_text("C")
    assert Tokenizer(tmp_path).chat_template == "C"  # the file wins


def test_stops_come_from_the_models_config_when_there_is_no_generation_config(saved, tmp_path):
    saved[0].save(tmp_path)
    (tmp_path / "generation_config.json").unlink()
    (tmp_path / "config.json").write_text('{"eos_token_id": [0, 5], "hidden_size": 8}')
    assert Tokenizer(tmp_path).eos_ids == (0, 5)


def test_a_tokenizer_file_that_cuts_is_told_not_to(saved, tmp_path):
    backend = saved[0].backend
    backend.enable_truncation(3)
    saved[0].save(tmp_path)
    backend.no_truncation()
    assert len(Tokenizer(tmp_path).encode("the cat sat on the mat")) > 3


def test_tokens_that_only_the_config_declares_are_control_tokens_as_in_transformers(tmp_path):
    import tokenizers
    import transformers
    from tokenizers import models, pre_tokenizers

    words = {"<unk>": 0, "</s>": 1, "a": 2, "b": 3}
    backend = tokenizers.Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    Tokenizer(backend).save(tmp_path)
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "</s>", "unk_token": "<unk>"}
    more = {"4": {"content": "<|sep|>", "special": True}, "5": {"content": "카드", "special": False}}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({**config, "added_tokens_decoder": more}))
    ours, theirs = Tokenizer(tmp_path), transformers.AutoTokenizer.from_pretrained(tmp_path)
    for text in ("a</s>b", "a <|sep|>b", "a카드b", "<unk>"):
        assert ours.encode(text, special=True) == theirs(text)["input_ids"]
    assert ours.encode("a</s>b", special=True) == [2, 1, 3] and 1 not in ours.encode("a</s>b")
    ours.save(tmp_path / "copy")
    assert Tokenizer(tmp_path / "copy").encode("a카드<|sep|>", special=True) == [2, 5, 4]
    more["7"] = {"content": "far"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({**config, "added_tokens_decoder": more}))
    with pytest.raises(ModelError, match="gives 'far' the id 7, tokenizer.json 6"):
        Tokenizer(tmp_path)


def test_a_tokenizer_travels_to_a_worker(saved):
    import pickle

    again = pickle.loads(pickle.dumps(saved[0]))
    assert again.encode("the cat<|end|>", special=True) == saved[0].encode("the cat<|end|>", special=True)
    assert again.eos_ids == saved[0].eos_ids


def test_adding_tokens():
    tokenizer = byte_tokenizer()
    assert tokenizer.add_tokens(["<|intent|>", "<|end|>"]) == 1
    assert tokenizer.vocab_size == 289 and tokenizer.id_of("<|intent|>") == 288
    assert tokenizer.encode("<|intent|>", special=True) == [288] and 288 not in tokenizer.encode("<|intent|>")


def test_missing_and_broken_files_are_explained(tmp_path):
    with pytest.raises(ModelError, match=r"has no tokenizer\.json"):
        Tokenizer(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(ModelError, match="cannot be read"):
        Tokenizer(tmp_path)
    byte_tokenizer().save(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text("[1")
    with pytest.raises(ModelError, match=r"tokenizer_config\.json is not JSON"):
        Tokenizer(tmp_path)


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux for the process's memory")
def test_whole_texts_are_not_remembered():
    from tunesmith.core.heap import written

    plain = byte_tokenizer()  # does not split: its backend would keep the pieces of 10,000 texts, 6 MB of such
    texts = [f"{1_000_000 + number} + {number}?" for number in range(12_000)]
    for text in texts[:50]:
        plain.encode(text)
    before = written()
    for text in texts:
        plain.encode(text)
    assert written() - before < 3e6
