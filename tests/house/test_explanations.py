"""Everything on the shelves and every setting is explained, in English and in Korean, and names where it comes from (K7)."""

import re
from pathlib import Path

import pytest

from tunesmith.api.config import catalogue
from tunesmith.core import source
from tunesmith.core.shelf import Item, shelf, shelves

KOREAN = re.compile("[가-힣]")
SOURCE = re.compile(r"arXiv\s+\d{4}\.\d{4,5}|ACL [A-Z]\d\d-\d{4}|\bSource: |\([^)]*(19|20)\d\d[^)]*\)")
USE = re.compile(r"\b[Uu]se (it|them)\b|\bUsed? (it )?(for|where|when|always|on|beside)\b")
ITEMS = [item for one in shelves() for item in one.items().values() if item.origin == "built in"]


def lacking(item: Item) -> list[str]:
    """What a person who asks `tunesmith explain` would miss."""
    doc = source.module_doc(item.path)
    english = "\n\n".join(part for part in doc.split("\n\n") if not KOREAN.search(part))
    found = {
        "what it does, in the first line": bool(source.first_line(item.path)),
        "when to use it (Use it ...)": bool(USE.search(english)),
        "where it comes from (arXiv, ACL, or Source: ...)": bool(SOURCE.search(english)),
        "a paragraph in Korean": bool(KOREAN.search(doc)),
    }
    if item.shelf != "steps":
        found["a paragraph that begins with Formula:"] = bool(re.search(r"^Formula: \S", doc, re.MULTILINE))
    for field in item.settings():
        found[f"a sentence under the setting {field.name}"] = bool(field.doc)
        found[f"a Korean sentence under the setting {field.name}"] = bool(field.korean)
    return [wanted for wanted, there in found.items() if not there]


@pytest.mark.parametrize("item", ITEMS, ids=lambda item: f"{item.shelf}/{item.name}")
def test_every_item_is_explained(item: Item):
    assert lacking(item) == []


@pytest.mark.parametrize("item", [item for item in ITEMS if item.shelf == "objectives"], ids=lambda item: item.name)
def test_every_method_says_which_rows_it_reads_and_what_its_figures_mean(item: Item):
    text = item.path.read_text(encoding="utf-8")
    assert re.search(r"^    shape: ClassVar|^    def shape\(self\)", text, re.MULTILINE)
    assert re.search(r"^    figures: ClassVar|^    def figures\(self\)", text, re.MULTILINE)
    settings = {
        "multitask": {"tasks": {"a": "dpo"}},
        "gkd": {"teacher": "t"},
        **{name: {"reward": "accuracy"} for name in ("grpo", "ppo", "rejection")},
    }
    method = shelf("objectives").make({item.name: settings.get(item.name, {})})
    for name, meaning in method.figures.items():
        english, korean = meaning.split("\n\n")
        assert english and KOREAN.search(korean) and not KOREAN.search(english), name


@pytest.mark.parametrize("name", [*catalogue()])
def test_every_setting_is_explained_in_both_languages(name: str):
    field = catalogue()[name]
    assert field.doc and field.korean


# Settings that are a method of somebody's, not housekeeping (files, names, how often to save).
HYPERPARAMETERS = (
    "train.batch_size", "train.optimizer", "train.lr", "train.momentum", "train.betas", "train.eps", "train.weight_decay", "train.l1", "train.l2",
    "train.schedule", "train.warmup", "train.clip", "train.precision", "train.masters", "train.checkpointing", "train.early_stopping",
    "generate.temperature", "generate.top_p", "generate.frequency_penalty", "generate.presence_penalty", "rope.kind",
)  # fmt: skip


@pytest.mark.parametrize("name", HYPERPARAMETERS)
def test_every_hyperparameter_names_its_source(name: str):
    assert re.search(r"\b(19|20)\d\d\b", catalogue()[name].doc)


def test_an_item_that_says_too_little_is_found(tmp_path: Path):
    file = tmp_path / "mine.py"
    file.write_text('"""Mine."""\nclass Mine:\n    size: int = 3\n    """How large."""\n')
    item = Item("objectives", "mine", file, "Mine", "yours", "mine")
    assert len(lacking(item)) == 5
    assert "a Korean sentence under the setting size" in lacking(item)
