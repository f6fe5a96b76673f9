"""The verb chat: one message, and a conversation that survives a message it cannot take."""

import io
import json
from pathlib import Path

import pytest

import tunesmith
from tunesmith.api.chat import chat
from tunesmith.api.train import train


def test_one_message(folder: Path):
    found = chat("pico", message="hello", max_tokens=4)
    assert found["tokens"] <= 4 and found.text == found["answer"]
    assert chat("pico", message="hello", max_tokens=4)["answer"] == found["answer"]


def test_a_conversation_goes_on_after_a_message_too_long(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr("sys.stdin", io.StringIO("hello\n" + "word " * 400 + "\nagain\n/new\nfresh\n\nnever read\n"))
    found = chat("pico", system="Be short.", max_tokens=3)
    assert "/new" in capsys.readouterr().err
    assert found["turns"] == 3
    assert [message["content"] for message in found["messages"][:2]] == ["Be short.", "fresh"]


def tuned(out: str, rows: list[dict], **data: str) -> list[dict]:
    """A run of one step on rows with templates; the messages of its training rows, without the answers."""
    Path("rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    keys = {f"data.{name}": value for name, value in data.items()}
    train(data={"path": "rows.jsonl", "dev": 0, "test": 0}, model="pico", out=out, steps=1, quiet=True, **keys)
    lines = Path(out, "data/train.jsonl").read_text("utf-8").splitlines()
    return [json.loads(line)["messages"][:-1] for line in lines]


def test_what_is_typed_is_put_into_the_prompt_it_was_trained_with(folder: Path, capsys: pytest.CaptureFixture[str]):
    rows = [{"question": f"Where is {i}?", "label": "card"} for i in range(4)]
    prompt, system = "Please classify: {{ question }}", "Labels of {{ question }}"
    trained = tuned("run", rows, prompt=prompt, answer="{{ label }}", system=system)
    for i, row in enumerate(rows):
        found = chat("run", message=row["question"], max_tokens=2)
        assert found["asked"] in trained and found["asked"][-1]["content"] == f"Please classify: Where is {i}?"
        assert tunesmith.load("run").answer(row["question"], max_tokens=2) == found["answer"]
    assert [m["role"] for m in found["asked"]] == ["system", "user"] and not capsys.readouterr().err
    assert chat("run", message="x", system="Be {{ short }}.", max_tokens=1)["asked"][0]["content"] == "Be {{ short }}."


def test_a_prompt_of_several_columns_is_asked_with_json(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    rows = [{"question": f"왜 {i}?", "in": "Korean", "label": "a"} for i in range(4)]
    trained = tuned("run", rows, prompt="{{ question }} ({{ row['in'] }})", answer="{{ label }}", system="Say.")
    found = chat("run", message='{"question": "왜 2?", "in": "Korean"}', max_tokens=2)
    assert found["asked"] in trained
    said = capsys.readouterr().err
    assert 'made of 2 columns: question, in. Ask the same way: {"question": "...", "in": "..."}' in said
    assert chat("run", message="왜 2?", max_tokens=2)["asked"][-1]["content"] == "왜 2?"
    monkeypatch.setattr("sys.stdin", io.StringIO('{"question": "왜 1?", "in": "Korean"}\nand now?\n\n'))
    talk = chat("run", max_tokens=2)["messages"]
    assert [m["role"] for m in talk] == ["system", "user", "assistant", "user", "assistant"]
    assert [m["content"] for m in talk if m["role"] == "user"] == ["왜 1? (Korean)", "and now?"]


def test_a_template_of_the_system_message_that_words_cannot_fill(folder: Path, capsys: pytest.CaptureFixture[str]):
    rows = [{"question": f"Why {i}?", "answer": "So.", "tongue": "Korean"} for i in range(4)]
    trained = tuned("run", rows, system="Answer in {{ tongue }}.")
    assert chat("run", message='{"prompt": "Why 3?", "tongue": "Korean"}', max_tokens=1)["asked"] in trained
    assert "prompt, tongue" in capsys.readouterr().err
    assert [m["role"] for m in chat("run", message="Why?", max_tokens=1)["asked"]] == ["user"]
    assert chat("run", message="Why?", system="In English.", max_tokens=1)["asked"][0]["content"] == "In English."
