"""The parts of the headline example: a loop by hand, a pipeline by hand, and a split that keeps test rows apart."""

import sys
from pathlib import Path

import pytest
import torch
import transformers as hf

from tunesmith.model.load import load
from tunesmith.model.save import save

FOLDER = Path(__file__).resolve().parents[2] / "examples" / "topic_classification"
ROWS = [
    {"text": f"{word} {i}", "label": label} for i in range(8) for word, label in (("ball", "sport"), ("vote", "law"))
]


@pytest.fixture
def example(monkeypatch):
    """The example's folder on the path, as when it is run; its modules are forgotten afterwards."""
    monkeypatch.syspath_prepend(str(FOLDER))
    yield
    for name in ("by_hand", "custom_pipeline", "run"):
        sys.modules.pop(name, None)


@pytest.fixture
def folder(tmp_path):
    model = load("pico-encoder", kind="classify", labels=("law", "sport"), seed=1)
    return str(save(model.net, model.tokenizer, tmp_path / "m"))


def test_the_loop_by_hand_learns_and_its_evaluation_changes_no_weight(example, folder):
    import by_hand

    tokenizer, model = (
        hf.AutoTokenizer.from_pretrained(folder),
        hf.AutoModelForSequenceClassification.from_pretrained(folder),
    )
    batches = by_hand.loader(ROWS, tokenizer, model.config.label2id, batch_size=8)
    assert sorted(next(iter(batches))) == ["attention_mask", "input_ids", "labels", "token_type_ids"]
    before = {name: value.clone() for name, value in model.state_dict().items()}
    loss, accuracy = by_hand.evaluate(model, batches)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items()) and 0 <= accuracy <= 1
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    losses = [by_hand.train_epoch(model, batches, optimizer) for _ in range(10)]
    assert sum(losses[-1]) < sum(losses[0]) and by_hand.evaluate(model, batches)[0] < loss


def test_the_pipeline_by_hand_is_transformers(example, folder):
    from custom_pipeline import CustomPipeline

    titles = ["a ball", "the whole parliament voted", "x", "부산", "7"]
    own, theirs = (
        CustomPipeline(folder)(titles),
        hf.pipeline("text-classification", model=folder, tokenizer=folder)(titles),
    )
    assert [one["label"] for one in own] == [other["label"] for other in theirs]
    for one, other in zip(own, theirs):
        assert one["score"] == pytest.approx(other["score"], abs=1e-5) and 0 < one["score"] <= 1
        assert one["label"] in ("law", "sport")


def test_test_titles_are_nobodys_training_titles(example, tmp_path):
    import run

    data = run.split_files(None, tmp_path, run.SIZES["smoke"])
    train, test = (set(Path(data[key]).read_text(encoding="utf-8").splitlines()) for key in ("path", "test"))
    assert len(train) > 300 and len(test) > 100 and not train & test
    titles = {line for part in (train, test) for line in part}
    corpus = list(run.korean_texts(None))
    assert len(titles) and not {text for text in corpus if run.third(text)}
