import pytest

from tunesmith.text.survey import survey
from tunesmith.text.tokenizer import byte_tokenizer
from tunesmith.text.train_tokenizer import train_tokenizer


def test_bytes_tell_the_truth():
    facts = survey(byte_tokenizer(), ["가나 ab abc 12", "ab"])
    assert facts["bytes_per_token"] == 1.0 and facts["round_trips"] == 1.0 and facts["texts"] == 2
    assert facts["korean"] == {"words": 1, "tokens_per_word": 7.0}  # a space and two letters of three bytes
    assert facts["english"]["words"] == 3 and facts["english"]["tokens_per_word"] == pytest.approx((3 + 4 + 3) / 3)


def test_training_brings_words_down_to_few_tokens():
    texts = ["카드가 아직 도착하지 않았어요. The card is late."] * 50
    facts = survey(train_tokenizer(texts, vocab=500), texts)
    assert facts["korean"]["tokens_per_word"] <= 1.5 and facts["english"]["tokens_per_word"] <= 1.5
    assert facts["whole_frequent"] > 0.6 and facts["whole_rare"] is None
    assert facts["bytes_per_token"] > 5


def test_nothing_to_measure_is_none_and_not_zero():
    facts = survey(byte_tokenizer(), [""])
    assert facts["bytes_per_token"] is None and facts["korean"] == {"words": 0, "tokens_per_word": None}
