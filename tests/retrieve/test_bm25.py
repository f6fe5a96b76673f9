"""BM25 against the formula written out, against bm25s, and on Korean queries."""

import doctest
import math
import random
from collections import Counter

import numpy as np
import pytest

import tunesmith.retrieve.bm25 as module
from tunesmith.retrieve import Bm25, pick
from tunesmith.retrieve.bm25 import terms

WORDS = [
    "refund",
    "order",
    "card",
    "pin",
    "lost",
    "stolen",
    "fee",
    "transfer",
    "환불",
    "카드",
    "분실",
    "수수료",
    "송금",
    "비밀번호",
    "이체",
    "배송",
]


def made(n=60, seed=0):
    draw = random.Random(seed)
    return [" ".join(draw.choices(WORDS, k=draw.randint(1, 12))) for _ in range(n)], [
        " ".join(draw.choices([*WORDS, "unseen"], k=draw.randint(1, 5))) for _ in range(25)
    ]


def reference(passages, query, k1, b):
    """Robertson's formula with Lucene's idf, one passage and one word at a time."""
    split = [terms(passage) for passage in passages]
    mean = sum(map(len, split)) / len(split)
    scores = []
    for words in split:
        counts, score = Counter(words), 0.0
        for word in terms(query):
            having = sum(word in other for other in split)
            rarity = math.log(1 + (len(split) - having + 0.5) / (having + 0.5))
            score += rarity * counts[word] / (counts[word] + k1 * (1 - b + b * len(words) / mean))
        scores.append(score)
    return scores


@pytest.mark.parametrize("k1, b", [(1.5, 0.75), (0.9, 0.4), (1.2, 0.0), (0.001, 1.0)])
def test_equals_the_formula(k1, b):
    passages, queries = made()
    index = Bm25(passages, k1=k1, b=b)
    for query in queries:
        wanted = reference(passages, query, k1, b)
        assert index.scores(query) == pytest.approx(wanted, abs=1e-12)
        ranked = sorted((-score, place) for place, score in enumerate(wanted) if score > 0)[:7]
        assert [hit.score for hit in pick(index, query, 7)] == pytest.approx([-score for score, _ in ranked])


def test_equals_bm25s():
    bm25s = pytest.importorskip("bm25s")
    passages, queries = made(seed=1)
    oracle = bm25s.BM25(k1=1.5, b=0.75, method="lucene")
    oracle.index([terms(passage) for passage in passages], show_progress=False)
    index = Bm25(passages)
    for query in queries:
        known = [word for word in terms(query) if word in oracle.vocab_dict]
        if known:
            assert index.scores(query) == pytest.approx(oracle.get_scores(known), abs=1e-4)  # theirs are float32


def test_korean_words_meet_without_their_particles():
    passages = ["카드를 분실했어요", "해외 송금 수수료가 얼마예요", "비밀번호를 잊어버렸습니다", "I lost my card"]
    index = Bm25(passages)
    for query, position in (
        ("송금할 때 수수료", 1),
        ("분실한 카드", 0),
        ("비밀번호가 기억 안 나요", 2),
        ("LOST cards, card?", 3),
    ):
        assert pick(index, query, 1)[0].position == position, query


def test_what_has_nothing_in_common_is_not_picked_and_ties_go_to_the_earlier():
    index = Bm25(["a b", "c", "b a", "a b"])
    assert [hit.position for hit in pick(index, "a", 9)] == [0, 2, 3]
    assert [hit.position for hit in pick(index, "a", 2)] == [0, 2]
    assert pick(index, "zebra", 3) == [] and pick(Bm25([]), "a", 3) == [] and pick(Bm25([""]), "a", 1) == []


def test_rows_as_passages():
    rows = [{"q": "refund please"}, {"q": "lost card"}]
    assert pick(Bm25(rows, text=lambda row: row["q"]), "card", 1)[0].item is rows[1]


def test_terms():
    assert terms("Ｋ-pop é 3.5 가 한국어") == ["ｋ", "pop", "é", "3", "5", "가", "한국어", "한국", "국어"]
    assert terms("한") == ["한"] and not terms("…!")


def test_impossible_settings():
    for settings in ({"k1": -1}, {"b": 1.5}):
        with pytest.raises(ValueError):
            Bm25(["a"], **settings)
    with pytest.raises(ValueError):
        pick(Bm25(["a"]), "a", 0)


def test_docstrings_and_scale():
    assert not doctest.testmod(module).failed
    passages = [f"{i} card {i % 7}" for i in range(5_000)]
    assert np.argmax(Bm25(passages).scores("4321")) == 4321
