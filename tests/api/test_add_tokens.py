"""add_tokens in a project: trained, written down, opened, resumed and merged."""

import json

import pytest

from tunesmith.adapters.store import open_run
from tunesmith.api.merge import merge
from tunesmith.api.train import train
from tunesmith.core.errors import SettingError

ROWS = [{"question": f"find {n}", "answer": f"<call_x>{n}"} for n in range(6)]
SETTINGS = {
    "model": "pico", "add_tokens": ["<call_x>"], "steps": 3, "batch_size": 4, "lr": 1e-2, "out": "run",
    "train": {"sample": 0}, "data": {"path": "rows.jsonl", "dev": 0.2, "test": 0},
}  # fmt: skip


@pytest.fixture
def rows(folder):
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return folder


def test_a_lora_run_learns_writes_and_merges_them(rows):
    result = train(SETTINGS, quiet=True)
    assert result["status"] == "finished"
    config = json.loads((rows / "run" / "adapter" / "adapter_config.json").read_text())
    opened = open_run("run")
    (id,) = opened.tokenizer.encode("<call_x>")
    assert config["trainable_token_indices"] == {"model.embed_tokens": [id]}
    parameters = json.loads((rows / "run" / "parameters.json").read_text())
    assert parameters["modules"]["model.embed_tokens"]["trainable"] == 32
    assert "<call_x>" in (rows / "run" / "project.yaml").read_text()
    merge("run", "merged")
    merged = open_run("merged")
    assert merged.tokenizer.encode("<call_x>") == [id]
    assert merged.net.config.vocab_size == id + 1


def test_a_full_run_keeps_the_longer_table(rows):
    train(SETTINGS, adapter="full", quiet=True)
    opened = open_run("run")
    (id,) = opened.tokenizer.encode("<call_x>")
    assert opened.net.config.vocab_size == len(opened.net.get_output_embeddings().weight) == id + 1


def test_an_empty_token_is_refused(rows):
    with pytest.raises(SettingError, match="add_tokens"):
        train(SETTINGS, add_tokens=[""], quiet=True)
