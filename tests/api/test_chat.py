"""The verb chat: one message, and a conversation that survives a message it cannot take."""

import io
from pathlib import Path

import pytest

from tunesmith.api.chat import chat


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
