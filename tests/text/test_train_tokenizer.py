import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunesmith.core.errors import DataError, SettingError
from tunesmith.text.tokenizer import CONTROL_TOKENS
from tunesmith.text.train_tokenizer import train_tokenizer

CORPUS = [
    "The card has not arrived yet. 카드가 아직 도착하지 않았어요.",
    "환불을 요청합니다. I want a refund, please.",
] * 30
CORPUS += ["조각난 글자 café 👍🏽 zyzzyva"]


@pytest.fixture(scope="module")
def trained():
    return {kind: train_tokenizer(CORPUS, kind=kind, vocab=400) for kind in ("bpe", "unigram", "wordpiece")}


@pytest.mark.parametrize("kind", ["bpe", "unigram"])
def test_control_tokens_come_first_and_all_bytes_are_there(trained, kind):
    tokenizer = trained[kind]
    assert [tokenizer.id_of(token) for token in CONTROL_TOKENS] == list(range(32))
    assert tokenizer.vocab_size <= 400
    assert tokenizer.eos_ids == (0, tokenizer.id_of("<|end|>"))
    every_byte = bytes(range(256)).decode("latin-1")
    assert tokenizer.decode(tokenizer.encode(every_byte), skip_special=False) == every_byte


@pytest.mark.parametrize("kind", ["bpe", "unigram"])
@settings(deadline=None)
@given(text=st.text())
def test_any_text_comes_back_unchanged(trained, kind, text):
    tokenizer = trained[kind]
    assert tokenizer.decode(tokenizer.encode(text), skip_special=False) == text


@pytest.mark.parametrize("kind", ["bpe", "unigram"])
@settings(deadline=None)
@given(text=st.text(alphabet=st.characters(min_codepoint=0xAC00, max_codepoint=0xD7A3), max_size=9))
def test_hangul_and_its_decomposed_form_stay_what_they_are(trained, kind, text):
    import unicodedata

    for form in (text, unicodedata.normalize("NFD", text)):
        assert trained[kind].decode(trained[kind].encode(form), skip_special=False) == form


def test_frequent_words_are_whole_and_rare_ones_in_pieces(trained):
    tokenizer = trained["bpe"]
    assert len(tokenizer.encode(" 카드가")) == 1 and len(tokenizer.encode(" refund")) == 1
    assert len(tokenizer.encode(" zyzzyva")) > 3


def test_wordpiece_is_bert_style(trained):
    tokenizer = trained["wordpiece"]
    assert [tokenizer.id_of(name) for name in ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")] == [0, 1, 2, 3, 4]
    ids = tokenizer.batch(["카드가 아직"]).ids[0].tolist()
    assert ids[0] == 2 and ids[-1] == 3 and tokenizer.decode(ids) == "카드가 아직"
    assert tokenizer.chat_template is None and (tokenizer.pad, tokenizer.eos) == (0, None)


def test_the_same_corpus_gives_the_same_tokenizer(trained):
    again = train_tokenizer(iter(CORPUS), vocab=400)
    assert again.backend.to_str() == trained["bpe"].backend.to_str()


def test_mistakes_are_explained():
    with pytest.raises(SettingError, match="kind: bpee is unknown"):
        train_tokenizer(CORPUS, kind="bpee")
    with pytest.raises(SettingError, match="vocab: 100 is too small"):
        train_tokenizer(CORPUS, vocab=100)
    with pytest.raises(DataError, match="holds no text"):
        train_tokenizer(["", ""])
