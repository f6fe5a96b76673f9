"""What training refuses before the first step, in words."""

import json

import pytest

from tunesmith.api.train import train
from tunesmith.core.errors import DataError


@pytest.mark.parametrize("kind", ["image_url", "image", "input_audio"])
def test_pictures_and_sound_in_messages_are_refused_by_name(tmp_path, monkeypatch, kind):
    monkeypatch.chdir(tmp_path)
    asked = [{"type": "text", "text": "What is this?"}, {"type": kind, kind: {"url": "cat.png"}}]
    rows = [
        {"messages": [{"role": "user", "content": asked}, {"role": "assistant", "content": f"cat {i}"}]}
        for i in range(8)
    ]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(DataError, match=rf"rows.jsonl:1.*{kind}"):
        train(data="rows.jsonl", model="pico", out="run", quiet=True)
