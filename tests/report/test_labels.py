"""Labels: both languages say the same things, none is unused, none is missing."""

import re
from pathlib import Path

import pytest

from tunesmith.report import labels
from tunesmith.report.labels import LABELS, fields, particle, speaker

ROOM = Path(labels.__file__).parent


def test_every_label_is_there_in_both_languages_with_the_same_values():
    for name, texts in LABELS.items():
        assert len(texts) == len(labels.LANGUAGES) and all(texts), name
        assert fields(texts[0]) == fields(texts[1]), name
    for name, (_, korean) in LABELS.items():
        bare = re.sub(r"\{[^}]*\}|LoRA|Tunesmith|report\.json|U\+FFFD|fp32|95 ?%", "", korean)
        assert re.search("[가-힣]", bare) or not re.search("[A-Za-z]", bare), f"{name} is not Korean: {korean}"


def test_no_label_is_unused_and_none_is_missing():
    sources = [
        path.read_text(encoding="utf-8")
        for path in [*ROOM.glob("*.py"), *ROOM.glob("templates/*.jinja")]
        if path.name not in ("labels.py", "words.py")
    ]
    others = (
        "api/report.py",
        "api/runs.py",
        "api/data.py",
        "api/train.py",
        "api/build.py",
        "api/ranks.py",
        "train/defaults.py",
        "data/card.py",
        "train/progress.py",
    )
    sources += [(ROOM.parent / name).read_text(encoding="utf-8") for name in others]
    text = "\n".join(sources)
    families = ("kind_", "part_", "split_", "lang_", "length_", "num_", "reason_")
    for name in LABELS:
        own = re.search(rf"[\"']{name}(_help)?[\"']", text)
        helped = name.endswith("_help") and re.search(rf"[\"']{name.removesuffix('_help')}[\"']", text)
        assert own or helped or name.startswith(families), f"{name} is said nowhere"
    for name in re.findall(r"\bsay\(\s*\"(\w+)\"", text):
        assert name in LABELS, name


@pytest.mark.parametrize(
    ("word", "pair", "wanted"),
    [
        ("행", "은/는", "은"), ("프롬프트", "은/는", "는"), ("LoRA", "이/가", "가"), ("전체 튜닝", "과/와", "과"), ("서울", "으로/로", "로"),
        ("판", "으로/로", "으로"), ("BM25", "은/는", "는"), ("모델 3", "은/는", "은"), ("모델 7", "으로/로", "로"), ("tuning", "을/를", "을"),
        ("(77)", "이/가", "이"), ("prompt", "과/와", "와"), ("", "은/는", "는"),
    ],
)  # fmt: skip
def test_particles_follow_the_last_sound(word, pair, wanted):
    assert particle(word, pair) == wanted


def test_a_label_takes_words_and_particles():
    assert "LoRA가" in speaker("ko")("untested", best="LoRA", base="BM25", score="80%")
    with pytest.raises(ValueError, match="fr"):
        speaker("fr")
