"""The notes' tokenizer example (klue/roberta-base), exact: ids, tokens, types, mask, pairs, padding, truncation, decoding.

The vocabulary pins the thirteen pieces of the sentence at the ids they have in klue/roberta-base; nothing is downloaded.
"""

import pytest
import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers

from tunesmith.core.errors import DataError
from tunesmith.text.encode import Text
from tunesmith.text.tokenizer import Tokenizer

SENTENCE = "토크나이저는 텍스트를 토큰 단위로 나눈다"
IDS = [0, 9157, 7461, 2190, 2259, 8509, 2138, 1793, 2855, 5385, 2200, 20950, 2]
TOKENS = ["[CLS]", "토크", "##나이", "##저", "##는", "텍스트", "##를", "토", "##큰", "단위", "##로", "나눈다", "[SEP]"]
PINNED = {**dict(zip(TOKENS, IDS)), "[PAD]": 1, "[UNK]": 3, "[MASK]": 4}
NAMED = {f"{name.lower()}_token": f"[{name}]" for name in ("CLS", "SEP", "PAD", "UNK", "MASK")}


@pytest.fixture
def klue():
    backend = tokenizers.Tokenizer(models.WordPiece(vocab=PINNED, unk_token="[UNK]", continuing_subword_prefix="##"))
    backend.normalizer = normalizers.BertNormalizer(lowercase=False, strip_accents=False)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece(prefix="##")
    names = ["input_ids", "token_type_ids", "attention_mask"]
    tokenizer = Tokenizer(backend, config={**NAMED, "model_input_names": names})
    tokenizer.set_around(["[CLS]", "$A", "[SEP]"], ["[CLS]", "$A", "[SEP]", "$B:1", "[SEP]:1"])
    return tokenizer


def test_ids_tokens_types_and_mask(klue):
    batch = klue.batch([SENTENCE])
    assert batch.ids[0].tolist() == IDS
    assert batch.token_type_ids[0].tolist() == [0] * 13 and batch.attention_mask[0].tolist() == [1] * 13
    assert klue.tokens(IDS) == TOKENS
    assert klue.around(SENTENCE) == (IDS, [0] * 13)


def test_decoding_with_and_without_control_tokens(klue):
    assert klue.decode(IDS, skip_special=False) == f"[CLS] {SENTENCE} [SEP]"
    assert klue.decode(IDS) == SENTENCE


def test_a_pair_is_joined_by_the_separator(klue):
    ids, types = klue.around("텍스트를", "토큰")
    assert klue.tokens(ids) == ["[CLS]", "텍스트", "##를", "[SEP]", "토", "##큰", "[SEP]"]
    assert types == [0, 0, 0, 0, 1, 1, 1]
    example = Text(klue).whole("텍스트를", "토큰")[0]
    assert example.ids.tolist() == ids and example.columns["types"].tolist() == types
    assert example.weights.tolist() == [0, 0, 0, 0, 0, 0, 1]


def test_unequal_texts_become_equally_long_and_padding_is_marked_0(klue):
    batch = klue.batch([SENTENCE, "토큰"])
    assert batch.ids.shape == (2, 13) and batch.ids[1].tolist() == [0, 1793, 2855, 2] + [1] * 9
    assert batch.attention_mask[1].tolist() == [1] * 4 + [0] * 9
    longest = klue.batch(["토큰"], padding="max_length", max_length=8)
    assert longest.ids[0].tolist() == [0, 1793, 2855, 2, 1, 1, 1, 1]
    assert longest.attention_mask[0].tolist() == [1, 1, 1, 1, 0, 0, 0, 0]


def test_truncation_keeps_the_separator_and_never_happens_in_silence(klue):
    cut = klue.batch([SENTENCE], max_length=5, truncation=True)
    assert klue.tokens(cut.ids[0]) == ["[CLS]", "토크", "##나이", "##저", "[SEP]"]
    with pytest.raises(DataError, match="13 tokens"):
        klue.batch([SENTENCE], max_length=5)
    with pytest.raises(DataError, match="13 tokens"):
        Text(klue, length=5).whole(SENTENCE)
    trimmed = Text(klue, length=5, too_long="trim_prompt").whole(SENTENCE)[0]
    assert trimmed.ids.tolist() == cut.ids[0].tolist()
    left = Text(klue, length=5, too_long="drop").whole(SENTENCE)
    assert not left and left.dropped == ("too long: 13 tokens, length is 5",)
    pair = Text(klue, length=7, too_long="trim_prompt").whole(SENTENCE, "토큰")[0]  # the longer one is cut
    assert klue.tokens(pair.ids) == ["[CLS]", "토크", "##나이", "[SEP]", "토", "##큰", "[SEP]"]


def test_transformers_reads_the_same_from_the_saved_folder(klue, tmp_path):
    transformers = pytest.importorskip("transformers")
    klue.save(tmp_path)
    given = transformers.AutoTokenizer.from_pretrained(tmp_path)(SENTENCE)
    assert given["input_ids"] == IDS and given["token_type_ids"] == [0] * 13 and given["attention_mask"] == [1] * 13


def test_pieces_of_a_document_carry_the_tokens_around_them(klue):
    pieces = Text(klue, length=6).whole_pieces(SENTENCE)
    assert [klue.tokens(piece.ids) for piece in pieces] == [
        ["[CLS]", "토크", "##나이", "##저", "##는", "[SEP]"],
        ["[CLS]", "텍스트", "##를", "토", "##큰", "[SEP]"],
        ["[CLS]", "단위", "##로", "나눈다", "[SEP]"],
    ]
    assert all(piece.num_trained == 0 for piece in pieces)
