"""The Banking77 benchmark end to end on a handful of rows and the one-layer model."""

import csv
from pathlib import Path

import pytest
from benchmarks import banking77

INTENTS = ("card_arrival", "card_lost", "top_up")
QUESTIONS = {
    "card_arrival": [
        "Where is my card?",
        "Has my card come?",
        "My card is late",
        "Is the card here, yet?",
        "When comes it?",
    ],
    "card_lost": [
        "I lost my card",
        "My card is gone",
        "I cannot find the card",
        "Somebody took it",
        "No card in my bag",
    ],
    "top_up": ["How do I top up?", "Add money please", "Can I top up by card?", "I want to add 5 euro", "Top-up, how?"],
}


@pytest.fixture
def published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "data" / "class_en_banking77"
    folder.mkdir(parents=True)
    for part, chosen in (("train", slice(0, 4)), ("test", slice(4, 5))):
        with (folder / f"{part}.csv").open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["text", "category"])
            writer.writerows([text, intent] for intent in INTENTS for text in QUESTIONS[intent][chosen])
    monkeypatch.setenv("TUNESMITH_DATA", str(tmp_path))
    monkeypatch.setattr(banking77, "DEV_ROWS", 3)
    return tmp_path


def test_share_is_a_proportion_with_its_interval() -> None:
    found = banking77.share(2750, 3080, minutes=1.0)
    assert found["accuracy"] == pytest.approx(0.8929, abs=1e-4)
    assert found["low"] == pytest.approx(0.8814, abs=1e-4) and found["high"] == pytest.approx(0.9033, abs=1e-4)


def test_every_part_runs_on_the_rows_as_published(published: Path) -> None:
    assert len(banking77.published("train")) == 12
    few = {"train.epochs": None, "train.steps": 2, "train.sample": 0}
    parts = {
        "full": banking77.tuned("full", "pico", published, few),
        "lora": banking77.tuned("lora", "pico", published, few),
        "untuned": banking77.untuned("pico", published),
        "likelihood": banking77.by_likelihood("pico", published),
    }
    for part, found in parts.items():
        assert found["n"] == 3, part
        assert 0 <= found["low"] <= found["accuracy"] <= found["high"] <= 1
    assert parts["full"]["steps"] == 2 and parts["full"]["train_tokens"] > 0
    text = banking77.show({"parts": parts})
    assert "mini, LoRA" in text and "TF-IDF" not in text


def test_the_likeliest_answer_is_found(published: Path) -> None:
    """A model tuned on these rows until it knows them prefers the right answers among all."""
    import tunesmith

    keys = {**banking77.data_keys(), "data.test": 1, "data.dev": 1, "data.stratify": None}
    run = tunesmith.train(model="pico", out=str(published / "run"), adapter="full", quiet=True, **keys,
                          **{"train.steps": 150, "train.lr": 1e-2, "train.batch_size": 4, "train.sample": 0})  # fmt: skip
    test = published / "data" / "class_en_banking77" / "test.csv"
    test.write_text(
        "text,category\n" + "".join(f'"{QUESTIONS[intent][0]}",{intent}\n' for intent in INTENTS), encoding="utf-8"
    )
    found = banking77.by_likelihood(run["result"], published)
    assert found["accuracy"] >= 2 / 3
