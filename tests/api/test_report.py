"""tunesmith report: writes the page and says what it found."""

import json
from pathlib import Path

import pytest

from tunesmith.api.report import report
from tunesmith.core.errors import ProjectError


def make(folder: Path, **manifest) -> Path:
    folder.mkdir(parents=True)
    (folder / "project.yaml").write_text(
        "model: mini\nmethod: sft\nadapter: {lora: {rank: 8}}\nlang: ko\n", encoding="utf-8"
    )
    (folder / "manifest.json").write_text(
        json.dumps({"format": 1, "verb": "train", "parent": None, **manifest}), encoding="utf-8"
    )
    steps = [{"kind": "step", "step": k, "loss": 3.0 / k, "seconds": 0.1} for k in range(1, 5)]
    (folder / "events.jsonl").write_text(
        "".join(json.dumps(e) + "\n" for e in [*steps, {"kind": "end"}]), encoding="utf-8"
    )
    return folder


def test_writes_the_page_of_a_run_named_or_the_newest(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make(tmp_path / "runs/train-1")
    for name in ("runs/train-1", "train-1", None):
        result = report(name, lang="en")
        assert (
            Path(result["report"]).name == "report.html"
            and Path(result["report"]).stat().st_size == result["bytes"] > 5000
        )
        assert "Training loss went from 3 to 0.75." in result.text and "Report: " in result.text
    assert "훈련 손실이 3에서 0.75로" in report("train-1").text  # the run's own language


def test_no_such_run_names_the_nearest(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ProjectError, match="There is no run under runs"):
        report()
    make(tmp_path / "runs/train-1")
    with pytest.raises(ProjectError) as error:
        report("trian-1")
    assert "train-1" in str(error.value)
    with pytest.raises(ProjectError, match="is no run folder"):
        report(".")


def test_rows_are_shown_as_they_were_trained_on(tmp_path):
    import numpy as np

    from tunesmith.api.report import describe_data
    from tunesmith.data.cache import UnitCache
    from tunesmith.text.example import Example, Unit
    from tunesmith.text.tokenizer import byte_tokenizer

    folder = make(tmp_path / "run")
    tokenizer = byte_tokenizer()
    tokenizer.save(folder / "adapter")
    prompt, answer = tokenizer.encode("카드가 왔나요?"), tokenizer.encode('{"의도": "배송"}')
    weights = [0.0] * len(prompt) + [1.0] * len(answer)
    UnitCache.write(folder / "data/cache/train", [Unit((Example.of(prompt + answer, weights),), origin="q.csv:2")] * 5)
    describe_data(folder)
    (first, *_) = shown = json.loads((folder / "data/examples.json").read_text(encoding="utf-8"))
    assert len(shown) == 3 and first["origin"] == "q.csv:2"
    assert [(s["text"], s["trained_on"]) for s in first["segments"]] == [
        ("카드가 왔나요?", False),
        ('{"의도": "배송"}', True),
    ]
    lengths = json.loads((folder / "data/lengths.json").read_text(encoding="utf-8"))
    assert lengths["longest"] == len(prompt + answer) and np.sum(lengths["counts"]) == 5
    text = Path(report(str(folder))["report"]).read_text(encoding="utf-8")
    assert "<mark>{&#34;의도&#34;: &#34;배송&#34;}</mark>" in text
    describe_data(tmp_path)  # no run: nothing is written
    assert not (tmp_path / "data").exists()
