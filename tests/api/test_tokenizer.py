import gzip
import json

import pytest

from tunesmith.api.tokenizer import tokenizer
from tunesmith.core.errors import DataError, SettingError
from tunesmith.text.tokenizer import Tokenizer


@pytest.fixture
def corpus(tmp_path):
    lines = [{"text": f"카드 {i}가 아직 도착하지 않았어요. The card number {i} is late."} for i in range(100)]
    with gzip.open(tmp_path / "news.jsonl.gz", "wt", encoding="utf-8") as file:
        file.writelines(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    return tmp_path / "news.jsonl.gz"


@pytest.mark.parametrize("kind", ["bpe", "unigram", "wordpiece"])
def test_a_tokenizer_is_trained_measured_and_written(corpus, tmp_path, kind):
    result = tokenizer(str(corpus), kind=kind, vocab=350, out=str(tmp_path / "made"))
    made = Tokenizer(tmp_path / "made")
    assert made.vocab_size == result["vocab"] <= 350 and result["texts"] == 100
    assert result["measured_on"] == "texts not trained on" and result["measured"]["texts"] == 5
    assert f"Korean   {result['measured']['korean']['tokens_per_word']:.2f} tokens per word" in result.text
    if kind != "wordpiece":
        assert result["measured"]["round_trips"] == 1.0


def test_chats_are_read_message_by_message_and_small_corpora_say_what_was_measured(tmp_path):
    row = {"messages": [{"role": "user", "content": "환불 되나요?"}, {"role": "assistant", "content": "네, 됩니다."}]}
    (tmp_path / "chat.jsonl").write_text(json.dumps(row) + "\n", encoding="utf-8")
    result = tokenizer(str(tmp_path / "chat.jsonl"), vocab=300, out=str(tmp_path / "made"))
    assert result["texts"] == 2 and result["measured_on"].startswith("the training texts")


def test_every_text_of_any_kind_of_row_is_read(tmp_path):
    """Blanks, groups of texts, preference pairs: none of them has "messages" or "text" alone."""
    rows = {
        "infill": {"prefix": "카드가 ", "middle": "아직 ", "suffix": "안 왔어요."},
        "group": {"texts": ["카드가 안 왔어요.", "카드를 못 받았어요."], "group": "card"},
        "pairs": {"prompt": "왜 안 오나요?", "chosen": "곧 갑니다.", "rejected": "몰라요."},
    }
    for name, row in rows.items():
        (tmp_path / f"{name}.jsonl").write_text(json.dumps(row) + "\n", encoding="utf-8")
        found = tokenizer(str(tmp_path / f"{name}.jsonl"), vocab=300, out=str(tmp_path / name))
        words = [text for value in row.values() for text in (value if isinstance(value, list) else [value])]
        words = [text for text in words if text != "card"]
        assert (found["texts"], found["characters"]) == (len(words), sum(map(len, words))), name


def test_rows_that_cannot_be_used(tmp_path):
    good = [json.dumps({"text": f"카드 {i}가 아직 오지 않았어요."}, ensure_ascii=False) for i in range(30)]
    (tmp_path / "news.jsonl").write_text("\n".join([*good, '{"text": 3}', "{"]), encoding="utf-8")
    with pytest.raises(DataError, match=r"2 of 32 rows cannot be used[\s\S]*bad_rows=drop"):
        tokenizer(str(tmp_path / "news.jsonl"), vocab=300, out=str(tmp_path / "made"))
    result = tokenizer(str(tmp_path / "news.jsonl"), vocab=300, out=str(tmp_path / "made"), bad_rows="drop")
    assert (result["texts"], result["rows_dropped"]) == (30, 2) and "2 rows could not be used" in result.text


def test_mistakes(corpus, tmp_path):
    with pytest.raises(DataError, match="No corpus is given"):
        tokenizer()
    with pytest.raises(DataError, match="There is no file"):
        tokenizer(str(tmp_path / "none.jsonl"))
    tokenizer(str(corpus), vocab=300, out=str(tmp_path / "made"))
    with pytest.raises(SettingError, match="already holds a tokenizer"):
        tokenizer(str(corpus), vocab=300, out=str(tmp_path / "made"))
    with pytest.raises(SettingError, match="vocab: 10 is too small"):
        tokenizer(str(corpus), vocab=10, out=str(tmp_path / "small"))
    assert not (tmp_path / "small").exists()
